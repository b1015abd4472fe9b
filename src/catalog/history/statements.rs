//! Every statement of the history, by name; see the catalog's for why they stand together.
//!
//! A walk gives what an index has, newest first, and with each row whether the rest of the filter lets it
//! through: 0 no, 1 yes, 2 only if its id has the text. Whoever walks counts what was looked at, and
//! stops. A walk over several states is put together by SQLite, which merges what each index gives.

use crate::catalog::statement::statements;

/// A job as it is read, without what says which.
macro_rules! job {
    () => {
        "SELECT j.tenant, j.id, j.finished_at, j.state, q.name, t.name, j.tags, j.unique_key,
         j.error_class, j.error_message, j.priority, j.created_at, j.run_at, j.started_at, j.attempt,
         j.errors, j.crashes, j.max_tries, j.timeout_ms, j.result_until, j.fingerprint, j.progress,
         j.fence, j.secret, j.payload_type, j.result, j.error_trace, j.payload
         FROM jobs j CROSS JOIN names q ON q.name_id = j.queue CROSS JOIN names t ON t.name_id = j.type "
    };
}

/// What is between two moments: before (?3, ?4), and not before ?5.
macro_rules! between {
    () => {
        " AND (finished_at, id) < (?3, ?4) AND ?5 <= finished_at"
    };
}

/// At most ?6 of them, newest first.
macro_rules! newest {
    () => {
        " ORDER BY finished_at DESC, id DESC LIMIT ?6"
    };
}

/// A walk: ?7 is a queue, ?8 has a bit for each state, ?9 is the pattern of a text,
/// ?10 a type.
macro_rules! walk {
    ($($select:expr),*) => {
        concat!(
            "SELECT looked.job, looked.finished_at, looked.id,
             CASE WHEN (?7 IS NULL OR j.queue = ?7) AND (?8 & (1 << j.state)) <> 0
                 AND (?10 IS NULL OR j.type = ?10) THEN
                 CASE WHEN ?9 IS NULL THEN 1
                     WHEN j.tags LIKE ?9 ESCAPE '\\' THEN 1
                     WHEN j.unique_key LIKE ?9 ESCAPE '\\' THEN 1
                     WHEN j.error_class LIKE ?9 ESCAPE '\\' THEN 1
                     WHEN j.error_message LIKE ?9 ESCAPE '\\' THEN 1
                     WHEN (SELECT name FROM names WHERE name_id = j.queue) LIKE ?9 ESCAPE '\\' THEN 1
                     WHEN (SELECT name FROM names WHERE name_id = j.type) LIKE ?9 ESCAPE '\\' THEN 1
                     ELSE 2 END
                 ELSE 0 END
             FROM (",
            $($select,)*
            ") looked CROSS JOIN jobs j ON j.job = looked.job"
        )
    };
}

/// One state of such a walk.
macro_rules! state {
    ($key:literal, $state:literal) => {
        concat!(
            "SELECT job, finished_at, id FROM jobs WHERE (?8 & (1 << ",
            $state,
            ")) <> 0 AND ",
            $key,
            " = ?1 AND state = ",
            $state,
            between!()
        )
    };
}

/// What is needed to remove a job.
macro_rules! doomed {
    () => {
        "SELECT job, tenant, id, finished_at, queue, type, failure, part, bytes, tags FROM jobs "
    };
}

/// One state of what is oldest in a queue.
macro_rules! oldest {
    ($state:literal) => {
        concat!(doomed!(), "WHERE queue = ?1 AND state = ", $state, " AND finished_at < ?2 ")
    };
}

statements! {
    Totals, "history_totals", "SELECT jobs, bytes FROM totals WHERE one = 1";
    TotalsAdd, "history_totals_add",
        "UPDATE totals SET jobs = jobs + ?1, bytes = bytes + ?2 WHERE one = 1";

    NameFind, "history_name_find",
        "SELECT name_id, jobs, bytes FROM names WHERE tenant = ?1 AND kind = ?2 AND name = ?3";
    NameInsert, "history_name_insert",
        "INSERT INTO names (tenant, kind, name, jobs, bytes) VALUES (?1, ?2, ?3, 0, 0)";
    NameAdd, "history_name_add",
        "UPDATE names SET jobs = jobs + ?2, bytes = bytes + ?3 WHERE name_id = ?1";
    NameDeleteEmpty, "history_name_delete_empty",
        "DELETE FROM names WHERE name_id = ?1 AND jobs = 0";

    JobFind, "history_job_find",
        "SELECT job, fence, state, finished_at FROM jobs WHERE tenant = ?1 AND id = ?2";
    JobInsert, "history_job_insert",
        "INSERT INTO jobs (tenant, id, finished_at, state, queue, type, failure, part, bytes, tags,
         unique_key, error_class, error_message, priority, created_at, run_at, started_at, attempt,
         errors, crashes, max_tries, timeout_ms, result_until, fingerprint, progress, fence, secret,
         payload_type, result, error_trace, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
         ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31)";
    JobDelete, "history_job_delete", "DELETE FROM jobs WHERE job = ?1";
    JobById, "history_job_by_id", concat!(job!(), "WHERE j.tenant = ?1 AND j.id = ?2");
    JobByNumber, "history_job_by_number", concat!(job!(), "WHERE j.job = ?1");

    TagInsert, "history_tag_insert",
        "INSERT OR IGNORE INTO tags (part, tenant, tag, finished_at, id, job)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    TagDelete, "history_tag_delete",
        "DELETE FROM tags
         WHERE part = ?1 AND tenant = ?2 AND tag = ?3 AND finished_at = ?4 AND id = ?5";

    PartAt, "history_part_at",
        "SELECT part, jobs FROM parts WHERE from_at <= ?1 ORDER BY from_at DESC LIMIT 1";
    PartInsert, "history_part_insert",
        "INSERT OR IGNORE INTO parts (part, from_at, jobs)
         VALUES (?1, 1 + (SELECT max(finished_at) FROM jobs), 0)";
    PartAdd, "history_part_add", "UPDATE parts SET jobs = jobs + ?2 WHERE part = ?1";
    PartDeleteEmpty, "history_part_delete_empty",
        "DELETE FROM parts WHERE part = ?1 AND jobs = 0 AND from_at <> 0";

    WalkTag, "history_walk_tag",
        walk!(
            "SELECT job, finished_at, id FROM parts CROSS JOIN tags ON tags.part = parts.part
             WHERE 0 < parts.part AND tenant = ?1 AND tag = ?2", between!(),
            " ORDER BY parts.part DESC, finished_at DESC, id DESC LIMIT ?6"
        );
    WalkType, "history_walk_type",
        walk!("SELECT job, finished_at, id FROM jobs WHERE type = ?1", between!(), newest!());
    WalkQueue, "history_walk_queue",
        walk!(
            state!("queue", 0), " UNION ALL ", state!("queue", 1), " UNION ALL ", state!("queue", 2),
            newest!()
        );
    WalkTenant, "history_walk_tenant",
        walk!(
            state!("tenant", 0), " UNION ALL ", state!("tenant", 1), " UNION ALL ", state!("tenant", 2),
            newest!()
        );

    DoomedOne, "history_doomed_one", concat!(doomed!(), "WHERE job = ?1");
    DoomedOfAll, "history_doomed_of_all",
        concat!(doomed!(), "WHERE finished_at < ?1 ORDER BY finished_at, job LIMIT ?2");
    DoomedOfTenant, "history_doomed_of_tenant",
        concat!(doomed!(), "WHERE tenant = ?1 ORDER BY id LIMIT ?2");
    DoomedOfQueue, "history_doomed_of_queue",
        concat!(
            oldest!(0), "UNION ALL ", oldest!(1), "UNION ALL ", oldest!(2),
            "ORDER BY finished_at, id LIMIT ?3"
        );
    DoomedDone, "history_doomed_done",
        concat!(
            oldest!(0), "UNION ALL ", oldest!(2), "ORDER BY finished_at, id LIMIT ?3"
        );

    GroupCount, "history_group_count", "SELECT groups FROM tenants WHERE tenant = ?1";
    GroupCountInsert, "history_group_count_insert",
        "INSERT OR IGNORE INTO tenants (tenant, groups) VALUES (?1, 0)";
    GroupCountAdd, "history_group_count_add",
        "UPDATE tenants SET groups = groups + ?2 WHERE tenant = ?1";
    GroupCountDelete, "history_group_count_delete",
        "DELETE FROM tenants WHERE tenant = ?1 AND groups = 0";
    GroupFind, "history_group_find",
        "SELECT fingerprint, class, message, jobs, first_at, last_at, types, queues FROM failures
         WHERE tenant = ?1 AND queue = ?2 AND fingerprint = ?3";
    GroupInsert, "history_group_insert",
        "INSERT INTO failures (tenant, queue, fingerprint, class, message, jobs, first_at, last_at,
         types, queues) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    GroupUpdate, "history_group_update",
        "UPDATE failures SET class = ?4, message = ?5, jobs = ?6, first_at = ?7, last_at = ?8,
         types = ?9, queues = ?10 WHERE tenant = ?1 AND queue = ?2 AND fingerprint = ?3";
    GroupDelete, "history_group_delete",
        "DELETE FROM failures WHERE tenant = ?1 AND queue = ?2 AND fingerprint = ?3";
    GroupsBefore, "history_groups_before",
        "SELECT fingerprint, class, message, jobs, first_at, last_at, types, queues FROM failures
         WHERE tenant = ?1 AND queue = ?2 AND (last_at, fingerprint) < (?3, ?4)
         ORDER BY last_at DESC, fingerprint DESC LIMIT ?5";
    FailedFrom, "history_failed_from",
        "SELECT id FROM jobs WHERE tenant = ?1 AND failure = ?2 AND ?3 <= id ORDER BY id LIMIT ?4";
}
