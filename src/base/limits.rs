//! Every bound of the product, in one place, with the relations between them.
//!
//! What can grow has a constant here, an error for reaching it, and, where two bounds depend on each
//! other, a const assertion below them. A bound that a setting can change has its default and its
//! ceiling here.

use std::time::Duration;

/// The format of the data directory that this version reads and writes.
pub const DATA_FORMAT: u32 = 1;

/// Names of tenants, namespaces, queues, locks, schedules and channels.
pub const NAME_BYTES_MAX: usize = 128;
/// Cache keys, in UTF-8.
pub const CACHE_KEY_BYTES_MAX: usize = 1024;
/// A job's payload.
pub const JOB_PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// A cache entry's value.
pub const CACHE_VALUE_BYTES_MAX: usize = 8 << 20;

/// A tag of a cache entry, in UTF-8.
pub const CACHE_TAG_BYTES_MAX: usize = 128;
/// Tags of one entry, and of one call that forgets.
pub const CACHE_TAGS_MAX: usize = 16;
/// The type of a value's bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// A ttl, and a stale window: ten years.
pub const CACHE_TTL_MAX: Duration = Duration::from_hours(3650 * 24);
/// Keys, entries or jobs of one call.
pub const CALL_ITEMS_MAX: usize = 1000;
/// Namespaces of one server, and of one tenant.
pub const NAMESPACES_MAX: usize = 10_000;
/// See [`NAMESPACES_MAX`].
pub const TENANT_NAMESPACES_MAX: usize = 1000;
/// Namespaces whose figures are in `/metrics`: the largest.
pub const NAMESPACES_TOLD_MAX: usize = 1000;
/// Queues, and as many types of their jobs, of which figures are told: those that were active last.
pub const QUEUES_TOLD_MAX: usize = 1000;
/// Leases on cache keys that are out at one moment.
pub const CACHE_LEASES_MAX: usize = 100_000;
/// The shortest and the longest lease on a cache key.
pub const CACHE_LEASE_MIN: Duration = Duration::from_millis(100);
/// See [`CACHE_LEASE_MIN`].
pub const CACHE_LEASE_MAX: Duration = Duration::from_hours(1);
/// Wakers that one lease keeps; beyond it the oldest is called, and may ask again.
pub const CACHE_WAITERS_MAX: usize = 8192;
/// Tags that were forgotten and have no members, remembered by one shard for the leases that are out.
pub const FORGOTTEN_TAGS_MAX: usize = 1024;
/// A pattern that keys are matched with.
pub const GLOB_BYTES_MAX: usize = 1024;
/// Entries that one step of the sweep or of a forget looks at under one lock.
pub const CACHE_STEP_ENTRIES: usize = 512;
/// The memory of what ended is given back this often.
pub const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Entries that a write looks at beside its own, so that what ended is given back as fast as new is put.
pub const CACHE_WRITE_ENTRIES: usize = 8;
/// Shards that one step of the sweep looks at.
pub const CACHE_STEP_SHARDS: usize = 1024;
/// How long to wait for a lease when there are too many already.
pub const CACHE_LEASE_RETRY: Duration = Duration::from_millis(100);
/// How often a put makes room before it lets go of its own entry instead: others put all the while.
pub const CACHE_ROOM_TRIES: usize = 10_000;
/// The same, when there is nothing to evict because others have taken the room and put nothing yet.
pub const CACHE_BARREN_TRIES: usize = 64;
/// Entries that make room before it is tried again whether there is enough.
pub const CACHE_EVICT_ENTRIES: usize = 64;
/// How often the largest namespace gives way before it is looked for again.
pub const CACHE_LARGEST_USES: usize = 64;
/// Entries of one frame of a snapshot, and after how many bytes a frame is written.
pub const SNAPSHOT_FRAME_ENTRIES: usize = 1000;
/// See [`SNAPSHOT_FRAME_ENTRIES`].
pub const SNAPSHOT_FRAME_BYTES: usize = 1 << 20;
/// How long a client may wait for a value, a lock or a job.
pub const WAIT_MAX: Duration = Duration::from_secs(50);
/// Locks of one tenant.
pub const LOCKS_MAX: usize = 10_000;
/// The shortest and the longest time for which a lock is taken.
pub const LOCK_TTL_MIN: Duration = Duration::from_millis(100);
/// See [`LOCK_TTL_MIN`].
pub const LOCK_TTL_MAX: Duration = Duration::from_hours(24 * 7);
/// Callers that wait for one lock.
pub const LOCK_WAITERS_MAX: usize = 1000;
/// Who holds a lock.
pub const LOCK_OWNER_BYTES_MAX: usize = 128;
/// The largest value of a kept entry that stands in the row with all else about it; a larger one is cut
/// into rows of its own.
pub const KEPT_INLINE_BYTES_MAX: usize = 12 << 10;
/// Kept entries that one operation looks through, and one view shows.
pub const KEPT_STEP_ROWS: usize = 500;
/// Bytes of kept entries that such a step removes or shows, with one more entry at the end.
pub const KEPT_STEP_BYTES: usize = 8 << 20;
/// Fences and other numbers that JSON carries without loss stay below this.
pub const JSON_NUMBER_END: u64 = 1 << 53;

/// The type of a job.
pub const JOB_TYPE_BYTES_MAX: usize = 128;
/// A tag of a job, and tags of one job.
pub const JOB_TAG_BYTES_MAX: usize = 128;
/// See [`JOB_TAG_BYTES_MAX`].
pub const JOB_TAGS_MAX: usize = 16;
/// A key that only one job of a queue holds.
pub const UNIQUE_KEY_BYTES_MAX: usize = 512;
/// What a job leaves when it is done.
pub const JOB_RESULT_BYTES_MAX: usize = 64 << 10;
/// What an attempt notes for the next one.
pub const JOB_CHECKPOINT_BYTES_MAX: usize = 16 << 10;
/// The class of an error; cut, never refused.
pub const ERROR_CLASS_BYTES_MAX: usize = 256;
/// Its message.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Its trace.
pub const ERROR_TRACE_BYTES_MAX: usize = 16 << 10;
/// Why a lease was given back; cut, never refused.
pub const RELEASE_REASON_BYTES_MAX: usize = 256;
/// What is pushed when a job is given up carries no more than this.
pub const FOLLOWUP_PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Waits in a list of them.
pub const BACKOFF_LIST_MAX: usize = 100;
/// Errors, or crashes, after which a job is given up: at most.
pub const JOB_TRIES_MAX: u32 = 10_000;
/// The tries of a job for which nobody says anything.
pub const JOB_TRIES_DEFAULT: u32 = 10;
/// Its crashes.
pub const JOB_CRASHES_DEFAULT: u32 = 3;
/// How long an attempt of it may run.
pub const JOB_TIMEOUT_DEFAULT: Duration = Duration::from_hours(1);
/// The shortest and the longest of such times.
pub const JOB_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// See [`JOB_TIMEOUT_MIN`].
pub const JOB_TIMEOUT_MAX: Duration = Duration::from_hours(24 * 7);
/// How long a worker may be silent, if it says nothing.
pub const JOB_LEASE_DEFAULT: Duration = Duration::from_mins(1);
/// The shortest and the longest of such times.
pub const JOB_LEASE_MIN: Duration = Duration::from_secs(1);
/// See [`JOB_LEASE_MIN`].
pub const JOB_LEASE_MAX: Duration = Duration::from_hours(24);
/// After a start, workers that were running have at least this long to be heard of.
pub const LEASE_GRACE: Duration = Duration::from_secs(30);
/// A job cannot be put off for longer.
pub const JOB_DELAY_MAX: Duration = Duration::from_hours(3650 * 24);
/// How long the result of a job can be asked for, if nobody says.
pub const JOB_RESULT_TTL_DEFAULT: Duration = Duration::from_hours(1);
/// And how long at most.
pub const JOB_RESULT_TTL_MAX: Duration = Duration::from_hours(30 * 24);
/// Jobs of one lease.
pub const LEASE_JOBS_MAX: usize = 100;
/// Bytes of payload in one answer to a lease; what does not fit is leased by the next one.
pub const LEASE_BYTES_MAX: usize = 8 << 20;
/// Queues that one lease looks through.
pub const LEASE_QUEUES_MAX: usize = 100;
/// Jobs that run at one moment.
pub const JOBS_RUNNING_MAX: usize = 100_000;
/// Callers that wait for jobs at one moment.
pub const JOB_WAITERS_MAX: usize = 10_000;
/// Queues of one server, and of one tenant.
pub const QUEUES_MAX: usize = 10_000;
/// See [`QUEUES_MAX`].
pub const TENANT_QUEUES_MAX: usize = 1000;
/// Types of one queue with figures of their own; the others share theirs.
pub const QUEUE_TYPES_MAX: usize = 100;
/// A queue without jobs and settings is forgotten after this time.
pub const QUEUE_IDLE: Duration = Duration::from_mins(15);
/// Rows of the outbox; beyond it done jobs are only counted.
pub const OUTBOX_ROWS_MAX: u64 = 500_000;
/// For how long a failed job is kept, with its payload, where its queue does not say.
pub const FAILED_AGE: Duration = Duration::from_hours(30 * 24);
/// Failed jobs of one queue; beyond it the oldest go.
pub const FAILED_ROWS_MAX: u64 = 100_000;
/// Up to here the history waits for a burst to be over.
pub const OUTBOX_LAG_ROWS: u64 = OUTBOX_ROWS_MAX / 5;
/// Keys of calls that are not done twice, of one tenant.
pub const IDEMPOTENCY_KEYS_MAX: u64 = 1_000_000;
/// The text of such a key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// For how long such a call is remembered.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_hours(24);
/// Schedules of one tenant, and of one server.
pub const TENANT_SCHEDULES_MAX: usize = 1000;
/// See [`TENANT_SCHEDULES_MAX`].
pub const SCHEDULES_MAX: usize = 10_000;
/// The text of a cron line.
pub const CRON_BYTES_MAX: usize = 256;
/// The shortest distance of the moments of a schedule.
pub const SCHEDULE_EVERY_MIN: Duration = Duration::from_secs(1);
/// Missed moments that are caught up with.
pub const SCHEDULE_CATCH_UP_MAX: usize = 100;
/// Jobs that a queue lets out in one second, minute or hour, where that is limited at all.
pub const RATE_COUNT_MAX: u64 = 1_000_000;
/// What is kept of the shape of an error's message to tell errors apart. It is part of the numbers of
/// groups that are stored: never changed.
pub const ERROR_SHAPE_BYTES_MAX: usize = 256;
/// Workers that are known at one moment, of one server.
pub const JOB_WORKERS_MAX: usize = 10_000;
/// The id that a worker gives itself.
pub const WORKER_ID_BYTES_MAX: usize = 128;
/// The machine that it says it runs on.
pub const WORKER_HOST_BYTES_MAX: usize = 255;
/// Queues that all known workers serve, counted once for each worker.
pub const WORKER_QUEUES_MAX: usize = 100_000;
/// A worker that is not heard of for this long is stale.
pub const WORKER_STALE: Duration = Duration::from_mins(1);
/// A worker that is not heard of for this long, and has no lease, is forgotten.
pub const WORKER_GONE: Duration = Duration::from_mins(15);
/// Processes of this machine that are watched at one moment; each costs a descriptor.
pub const WATCHES_MAX: usize = 10_000;
/// Of a lease that is none, so much is repeated.
pub const LEASE_TEXT_BYTES_MAX: usize = 64;
/// The text of a fingerprint.
pub const FINGERPRINT_BYTES_MAX: usize = 64;
/// The most by which a schedule is late by chance.
pub const SCHEDULE_JITTER_MAX: Duration = Duration::from_hours(24);
/// Commands that one `holdfast work` runs at once.
pub const WORK_CONCURRENCY_MAX: usize = 256;
/// How long it asks the server to hold back an answer without jobs.
pub const WORK_WAIT: Duration = Duration::from_secs(20);
/// Its pauses while the server is away: the first one.
pub const WORK_PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest of them.
pub const WORK_PAUSE_MAX: Duration = Duration::from_secs(5);
/// What it still reads of a command that has ended, when something that the command started holds its
/// standard error.
pub const WORK_LEFTOVER: Duration = Duration::from_secs(1);
/// A command is asked to end so long before the attempt's deadline at most, so that its answer is there in time.
pub const WORK_ANSWER_MARGIN: Duration = Duration::from_secs(2);
/// Rows of a picture of the queues.
pub const MONITOR_ROWS_MAX: usize = 1000;
/// Rows that one operation in the background looks at or changes.
pub const QUEUE_STEP_ROWS: usize = 500;
/// Bytes of jobs after which such an operation stops; it may go beyond by one of them.
pub const QUEUE_STEP_BYTES: usize = 8 << 20;

/// The name of a metric or of a label.
pub const LABEL_NAME_BYTES_MAX: usize = 128;
/// The value of a label.
pub const LABEL_VALUE_BYTES_MAX: usize = 1024;
/// Labels of one series.
pub const LABELS_MAX: usize = 32;
/// Series of one tenant for which no quota says otherwise, and of one server.
pub const TENANT_SERIES_MAX: u64 = 50_000;
/// See [`TENANT_SERIES_MAX`].
pub const SERIES_MAX: usize = 200_000;
/// Series of one group: they share timestamps.
pub const GROUP_SERIES_MAX: u16 = 1024;
/// A selector.
pub const SELECTOR_BYTES_MAX: usize = 8 << 10;
/// Conditions of a selector.
pub const MATCHERS_MAX: usize = 32;
/// A regular expression.
pub const REGEX_BYTES_MAX: usize = 1024;
/// What it takes in memory when it is compiled; all of one selector together.
pub const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;
/// Groups within groups of a regular expression.
pub const REGEX_NEST_MAX: u32 = 64;
/// What writers call their series is remembered for so many texts at least, and for two a series.
pub const SERIES_TEXTS_MIN: usize = 1000;
/// A line of an exposition.
pub const EXPOSITION_LINE_BYTES_MAX: usize = 64 << 10;
/// Refused samples of one call that are told one by one.
pub const REFUSALS_TOLD_MAX: usize = 1000;
/// Late samples are taken for so long.
pub const LATE_MAX: Duration = Duration::from_hours(24);
/// And those of the future, as clocks differ.
pub const AHEAD_MAX: Duration = Duration::from_mins(10);
/// What is open reaches the log so often.
pub const TICK_EVERY: Duration = Duration::from_secs(10);
/// Samples that are open at one moment. A sample takes 8 to 12 bytes.
pub const OPEN_SAMPLES_MAX: usize = 8_000_000;
/// As much memory as so many samples take the buckets in which they are, each: one with a single sample is some 500 bytes.
pub const OPEN_BUCKET_SAMPLES: usize = 16;
/// Items on their way to the log at one moment; the tick is called early at half of it.
pub const PENDING_CELLS_MAX: usize = 2_000_000;
/// Bytes of one frame of the log.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// The log is written anew when it is longer than this, and twice as long as when that was done last.
pub const SERIES_LOG_BYTES: u64 = 64 << 20;
/// Series that are deleted while memory is locked once.
pub const SERIES_STEP: usize = 1000;
/// Rows of one slice of a block.
pub const SLICE_ROWS_MAX: usize = 1024;
/// A part of a block: just under four pages, so that a column of a slice fits whatever its values are.
pub const PART_BYTES_MAX: usize = 16_300;
/// What is put into one part, before it is compressed: opening one is quick.
pub const PART_PAYLOAD_AIM: usize = 128 << 10;
/// What one part can hold, decompressed.
pub const PART_PAYLOAD_MAX: usize = 8 << 20;
/// Buckets of a sketch.
pub const SKETCH_BUCKETS_MAX: usize = 512;
/// An hour is sealed so long after its end.
pub const SEAL_AFTER: Duration = Duration::from_secs(90);
/// A day is rolled up so long after its end.
pub const ROLL_AFTER: Duration = Duration::from_mins(10);
/// Samples of one call that are taken at a time; memory is locked for so many.
pub const WRITE_CHUNK_SAMPLES: usize = 8192;
/// A body of samples up to here is read at once, and a longer one on the pool.
pub const WRITE_HERE_BYTES_MAX: usize = 64 << 10;
/// Places that are sealed, or rolled up, in one go; each is kept by itself.
pub const KEEPER_BATCH_PLACES: usize = 256;
/// Bytes after which such a batch is full.
pub const KEEPER_BATCH_BYTES: usize = 1 << 20;
/// A clock that is so far ahead of what is stored may be wrong.
pub const CLOCK_LEAP: Duration = Duration::from_hours(24);
/// For so long nothing goes because of its age then.
pub const CLOCK_DOUBT: Duration = Duration::from_hours(6);
/// Columns of a group whose points are in memory at once while a day is rolled up.
pub const ROLL_COLUMNS: u32 = 256;
/// Rows of blocks that one view shows then.
pub const ROLL_VIEW_ROWS: usize = 1_000;
/// Groups of a day that are told at once.
pub const ROLL_GROUPS_PAGE: usize = 100;
/// Points of one series of an answer.
pub const QUERY_POINTS_MAX: u64 = 11_000;
/// Points of a whole answer.
pub const ANSWER_POINTS_MAX: u64 = 2_000_000;
/// Series that one query looks at.
pub const QUERY_SERIES_MAX: usize = 10_000;
/// Values that a query holds for the steps that it is at, and steps that it fills at one moment; more series than fit are
/// answered one part after the other.
pub const QUERY_VALUES_MAX: usize = 4_000_000;
/// Bytes of blocks that one view of a query copies, about: a view is short, also when blocks are large.
pub const QUERY_VIEW_BYTES: usize = 2 << 20;
/// Rows that one view of a query visits, about.
pub const QUERY_VIEW_ROWS: usize = 2_000;
/// Samples of open buckets that a query copies at one moment; it may go beyond by those of one series and hour.
pub const QUERY_OPEN_SAMPLES: usize = 250_000;
/// Queries of one batch.
pub const QUERY_BATCH_MAX: usize = 100;
/// The name of one of them.
pub const QUERY_NAME_BYTES_MAX: usize = 128;
/// Answers with more points are written down on the pool.
pub const QUERY_HERE_POINTS_MAX: usize = 2000;
/// Bytes of an answer to a query, and of all answers of a batch together.
pub const QUERY_ANSWER_BYTES_MAX: usize = 32 << 20;
/// The server stores its own figures so often.
pub const RECORD_EVERY: Duration = Duration::from_secs(10);
/// A query has so much time, if it does not say otherwise.
pub const QUERY_DEADLINE: Duration = Duration::from_secs(2);
/// And at most so much; a batch, and what waits for a thread, as a whole.
pub const QUERY_DEADLINE_MAX: Duration = Duration::from_secs(15);
/// A query that ran out of time has so much more to say so: it looks at the clock every now and then.
pub const QUERY_DEADLINE_GRACE: Duration = Duration::from_secs(1);
/// That queries met damaged blocks is logged once in so long.
pub const DAMAGE_TOLD_EVERY: Duration = Duration::from_mins(1);
/// File systems that are looked at.
pub const HOST_MOUNTS_MAX: usize = 64;
/// Mounts upon mounts: one that lies deeper is not looked at.
pub const HOST_MOUNT_DEPTH_MAX: usize = 64;
/// Disks, interfaces and processors that are told, each.
pub const HOST_DEVICES_MAX: usize = 64;
/// Units of systemd that may be named, each list.
pub const HOST_UNITS_MAX: usize = 64;
/// How long the name of one may be.
pub const UNIT_BYTES_MAX: usize = 255;
/// A file of `/proc` is read up to here.
pub const HOST_TEXT_BYTES_MAX: usize = 1 << 20;
/// What is watched for what is out of the ordinary is looked at so often.
pub const WATCH_EVERY: Duration = Duration::from_mins(1);
/// Series that are watched, at most.
pub const WATCHED_MAX: usize = 1_000;
/// The shortest and the longest period of a trend.
pub const TREND_PERIOD_MIN: Duration = Duration::from_mins(1);
/// The longest.
pub const TREND_PERIOD_MAX: Duration = Duration::from_hours(24 * 400);
/// Points of a trend, at most.
pub const TREND_POINTS_MAX: u64 = 2_000;
/// Series that a call for trends is answered for, at most.
pub const TREND_SERIES_MAX: usize = 100;
/// Workers more or fewer that capacity is told for, at most.
pub const CAPACITY_AROUND_MAX: u32 = 20;

/// The longest length of time a person can write: about a hundred years.
pub const DURATION_MAX: Duration = Duration::from_hours(36_500 * 24);
/// The longest text that is looked at as a duration or a moment.
pub const HUMAN_TIME_BYTES_MAX: usize = 64;
/// The longest text that is looked at as an amount of memory.
pub const AMOUNT_TEXT_BYTES_MAX: usize = 64;

/// What the process is taken to have when nobody says how much memory there is.
pub const MEMORY_BYTES_UNKNOWN: u64 = 512 << 20;
/// Levels of control groups that are looked at.
pub const CGROUP_DEPTH_MAX: usize = 64;
/// A file of the kernel that says how much memory there is.
pub const KERNEL_FILE_BYTES_MAX: u64 = 64 << 10;

/// A key of the store, all parts encoded.
pub const KEY_BYTES_MAX: usize = 2560;
/// A value of the store. Larger things are cut into parts of the sizes that the engine keeps without
/// waste: a value of more than half a page gets pages of its own, their number a power of two.
pub const VALUE_BYTES_MAX: usize = 16_300;
/// Rows that one read transaction may visit. A reader that lives long makes the file grow for good,
/// so a longer walk is made of several short ones.
pub const READ_ROWS_MAX: u64 = 10_000;
/// Rows that one `delete_range` may remove; the caller comes again for the rest.
pub const DELETE_ROWS_MAX: u64 = 1_000;
/// Old values that one operation may displace, kept in memory for its undoing. One more call of
/// `delete_range` is let in below it.
pub const UNDO_BYTES_MAX: usize = 32 << 20;
/// One record, encoded.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Space held in reserve for each file, so that a full disk is met at the door and not in the middle
/// of a commit.
pub const DISK_MARGIN_BYTES: u64 = 16 << 20;
/// Space that one operation may take beside twice its payload, as the door counts it: a leaf and its
/// share of the branches in each of five tables, at keys that nobody else touches. A batch takes no more
/// operations than the margin covers.
pub const OPERATION_DISK_BYTES: u64 = 32 << 10;
/// The engine's page cache for one file: 5 % of what the process may use, within these.
pub const ENGINE_CACHE_BYTES_MIN: u64 = 4 << 20;
/// See [`ENGINE_CACHE_BYTES_MIN`].
pub const ENGINE_CACHE_BYTES_MAX: u64 = 32 << 20;
/// That of series.redb has no more than this.
pub const SERIES_CACHE_BYTES_MAX: u64 = 8 << 20;

/// Operations that may wait in front of one writer.
pub const WRITER_QUEUE_OPS_MAX: usize = 4096;
/// Payload that may wait in front of one writer.
pub const WRITER_QUEUE_BYTES_MAX: usize = 64 << 20;
/// Operations that may wait in front of one keeper.
pub const KEEPER_QUEUE_OPS_MAX: usize = 1024;
/// Operations in one commit.
pub const BATCH_OPS_MAX: usize = 1024;
/// Payload in one commit. One operation may be larger; it then has a commit to itself.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Time spent applying operations before a commit is made of what there is.
pub const BATCH_TIME_MAX: Duration = Duration::from_millis(50);
/// Callers that were just answered are waited for as long as one comes within this time of another.
pub const GATHER_GAP: Duration = Duration::from_micros(20);
/// Quiet after which a file is left so that it reopens at once, however the process ends.
pub const WRITER_IDLE: Duration = Duration::from_millis(250);
/// While the disk is too full to grow, the door looks again this often.
pub const DISK_RETRY_EVERY: Duration = Duration::from_secs(1);
/// Waits before each attempt to reopen a file whose commit failed.
pub const REOPEN_AFTER: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(10)];

/// A read that is not done by then is not begun any more.
pub const READ_DEADLINE: Duration = Duration::from_secs(2);
/// A write that is not done by then is not begun any more.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// A request's head.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
pub const HEADERS_MAX: usize = 64;
/// The largest body of any route.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;
/// A body of JSON, where nothing else is said.
pub const JSON_BYTES_MAX: usize = 1 << 20;
/// Bodies that are in memory at one moment, all together, by what they announce.
pub const BODIES_BYTES_MAX: usize = 64 << 20;
/// Answers from this size on are counted while their clients take them.
pub const ANSWER_COUNTED_BYTES: usize = 64 << 10;
/// Counted answers that are in memory at one moment, all together.
pub const ANSWERS_BYTES_MAX: usize = 64 << 20;
/// Values that one call may ask for, all together.
pub const CACHE_GET_BYTES_MAX: usize = 16 << 20;
/// What one connection may have read of requests that are not served yet, or buffered of answers.
pub const CONNECTION_BUFFER_BYTES: usize = 64 << 10;
/// How deep JSON may nest.
pub const JSON_DEPTH_MAX: usize = 64;
/// What is read and dropped of a body that nobody wants, so that the answer reaches its sender.
pub const DROPPED_BYTES_MAX: usize = 1 << 20;
/// Items of a list that nobody asked for a number of.
pub const LIST_DEFAULT: usize = 50;
/// Items of a list.
pub const LIST_MAX: usize = 1000;
/// A head must be there within this time, counted from the connection or its first byte.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// A body must be there within this time after its head.
pub const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// A handler must have answered within this time after the body.
pub const HANDLER_DEADLINE: Duration = Duration::from_secs(65);
/// A client must take some of its answer within this time.
pub const TAKE_DEADLINE: Duration = Duration::from_secs(30);
/// A connection may be idle for so long.
pub const KEEP_ALIVE: Duration = Duration::from_mins(2);
/// What runs when the process is told to end may go on for so long.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Descriptors that connections leave to files, logs and sockets.
pub const DESCRIPTORS_RESERVED: u64 = 64;
/// Bodies below this are not compressed.
pub const COMPRESS_BYTES_MIN: usize = 1 << 10;
/// Larger bodies are compressed on the pool.
pub const COMPRESS_HERE_BYTES_MAX: usize = 16 << 10;

/// A line of a file that fills the cache: with its namespace and ttl it is still a request.
pub const WARM_LINE_BYTES_MAX: usize = REQUEST_BYTES_MAX - 4096;
/// What is sent of such a file at once, unless one line alone is longer.
pub const WARM_BATCH_BYTES: usize = 8 << 20;
/// What is held back of such a file, in batches of several namespaces, until they are worth sending.
pub const WARM_HELD_BYTES: usize = 32 << 20;
/// Lines of it that are told one by one when they are skipped.
pub const WARM_TOLD_MAX: usize = 50;
/// Pages of an app that are called at once.
pub const WARM_PAGES_AT_ONCE: usize = 4;

/// Tenants of one server, those that are being deleted included.
pub const TENANTS_MAX: u64 = 10_000;
/// Tokens of one server; all of them are held in memory.
pub const TOKENS_MAX: u64 = 100_000;
/// Entries of the audit trail; the oldest is pushed out by a new one.
pub const AUDIT_ROWS_MAX: u64 = 100_000;
/// The name of a token.
pub const TOKEN_NAME_BYTES_MAX: usize = 128;
/// Request id, actor, action and object of an audit entry, each.
pub const AUDIT_TEXT_BYTES_MAX: usize = 1280;
/// The detail of an audit entry.
pub const AUDIT_DETAIL_BYTES_MAX: usize = 4096;
/// Rows that one call to the catalog may read, change or remove: a page of the API and one row more,
/// which tells that there is another page.
pub const CATALOG_ROWS_MAX: usize = LIST_MAX + 1;
/// Bytes written, as far as they are known, after which the catalog's log is copied into its file.
pub const CATALOG_LOG_BYTES: u64 = 4 << 20;

/// Rows of the history that are looked at for one page of a search; then the page is short and says
/// where to go on.
pub const HISTORY_LOOKED_AT_MAX: usize = 50_000;
/// The text that a search looks for.
pub const HISTORY_TEXT_BYTES_MAX: usize = 256;
/// Finished jobs that one step removes from the history.
pub const HISTORY_STEP_ROWS: usize = 500;
/// Groups of failures of one tenant; what would make another one is counted together.
pub const HISTORY_GROUPS_MAX: u64 = 10_000;
/// Types, and queues, that are named for a group of failures.
pub const HISTORY_GROUP_NAMES_MAX: usize = 20;
/// Bytes written, as far as they are known, after which the log of the history is copied into its file.
pub const HISTORY_LOG_BYTES: u64 = 32 << 20;
/// Pages of the history that whoever writes it keeps in memory.
pub const HISTORY_CACHE_BYTES: u64 = 16 << 20;
/// Jobs whose tags stand together, so that the places where new ones go fit into memory.
pub const HISTORY_PART_ROWS: u64 = 1 << 15;

/// Tasks that may wait in front of the CPU pool.
pub const POOL_QUEUE_MAX: usize = 1024;
/// Threads of the CPU pool, whatever the machine has.
pub const POOL_THREADS_MAX: usize = 64;
/// Background workers of one process.
pub const WORKERS_MAX: usize = 64;
/// A worker whose step panicked rests this long, doubled each time it happens again in a row.
pub const WORKER_REST_MIN: Duration = Duration::from_secs(1);
/// See [`WORKER_REST_MIN`].
pub const WORKER_REST_MAX: Duration = Duration::from_mins(1);

/// The configuration file.
pub const CONFIG_FILE_BYTES_MAX: usize = 1 << 20;
/// Braces and brackets within each other there, and dots in one of its keys. It takes both to nest deeper
/// than a stack has room for.
pub const CONFIG_DEPTH_MAX: usize = 8;
/// Tiers that it may define.
pub const TIERS_MAX: usize = 256;
/// Namespaces of the cache that it may describe.
pub const CONFIG_NAMESPACES_MAX: usize = 1000;
/// Classes of the cache that it may have, those that are built in among them.
pub const CLASSES_MAX: usize = 256;
/// Types of jobs that it may have, those that are built in among them.
pub const QUEUE_TYPES_CONFIG_MAX: usize = 256;
/// The least and the most rows of finished jobs that can be kept to be searched.
pub const HISTORY_ROWS_MIN: u64 = 1000;
/// See [`HISTORY_ROWS_MIN`].
pub const HISTORY_ROWS_MAX: u64 = 1_000_000_000;
/// The least space that they can be given.
pub const HISTORY_BYTES_MIN: u64 = 1 << 20;
/// The shortest and the longest time for which they can be kept.
pub const HISTORY_AGE_MIN: Duration = Duration::from_mins(1);
/// See [`HISTORY_AGE_MIN`].
pub const HISTORY_AGE_MAX: Duration = Duration::from_hours(3650 * 24);
/// Raw samples are kept at least so long: late ones are taken for a day, and a day is rolled up when it has ended.
pub const SERIES_RAW_AGE_MIN: Duration = Duration::from_hours(2 * 24);
/// The least that all series can be given: less holds no day of a small server.
pub const SERIES_BUDGET_BYTES_MIN: u64 = 32 << 20;
/// Patterns of metrics that are distributions.
pub const SKETCH_PATTERNS_MAX: usize = 100;
/// The name of a time zone.
pub const TIMEZONE_BYTES_MAX: usize = 64;
/// The least that a budget of the cache can be.
pub const CACHE_BUDGET_BYTES_MIN: u64 = 1 << 20;
/// The least that a namespace of the cache can be allowed.
pub const CACHE_SHARE_BYTES_MIN: u64 = 64 << 10;
/// From this part of the memory on, the budgets of the cache leave too little to everything else.
pub const CACHE_BUDGETS_PERCENT_MAX: u64 = 80;
/// Host names that it may add.
pub const HOSTS_MAX: usize = 64;
/// Problems with the settings that are listed; the rest is counted.
pub const PROBLEMS_MAX: usize = 50;
/// The least that `server.max_connections` can be.
pub const CONNECTIONS_MIN: i64 = 16;
/// The most that it can be.
pub const CONNECTIONS_MAX: i64 = 65_536;
/// The path of a Unix socket: what the kernel's address holds, without the zero at its end.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

// A cache key of only zero bytes doubles when it is not the last part; a tenant and a name stand in
// front of it.
const _: () = assert!(8 + (NAME_BYTES_MAX + 2) + (2 * CACHE_KEY_BYTES_MAX + 2) <= KEY_BYTES_MAX);
// All else about a kept entry leaves room for a small value in its row.
const _: () = assert!(
    KEPT_INLINE_BYTES_MAX
        + CACHE_TAGS_MAX * (CACHE_TAG_BYTES_MAX + 8)
        + (CONTENT_TYPE_BYTES_MAX + 8)
        + 128
        <= VALUE_BYTES_MAX
);
// One step removes two of the largest kept entries at most, and each of them with one call.
const _: () = assert!(KEPT_STEP_BYTES + 2 * CACHE_VALUE_BYTES_MAX <= UNDO_BYTES_MAX);
const _: () = assert!((CACHE_VALUE_BYTES_MAX / VALUE_BYTES_MAX + 2) as u64 <= DELETE_ROWS_MAX);
// The largest call of the API (16 MiB), and the largest single thing, must fit into the queue at all.
const _: () = assert!(16 << 20 <= WRITER_QUEUE_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= WRITER_QUEUE_BYTES_MAX);
const _: () = assert!(CACHE_VALUE_BYTES_MAX < WRITER_QUEUE_BYTES_MAX);
const _: () = assert!(BATCH_OPS_MAX <= WRITER_QUEUE_OPS_MAX);
// What an audit entry is about can be a cache key in a namespace, and its actor a token.
const _: () = assert!(CACHE_KEY_BYTES_MAX + NAME_BYTES_MAX + 32 <= AUDIT_TEXT_BYTES_MAX);
const _: () = assert!(TOKEN_NAME_BYTES_MAX <= AUDIT_TEXT_BYTES_MAX);
// What is late can be taken, and the day it belongs to can be rolled up, before it is too old.
const _: () = assert!(LATE_MAX.as_millis() + 24 * 3_600_000 <= SERIES_RAW_AGE_MIN.as_millis());
// A series by itself always fits into an answer: a point takes at most 48 bytes.
const _: () = assert!(QUERY_POINTS_MAX * 48 < QUERY_ANSWER_BYTES_MAX as u64);
// The largest answer can be handed out while another one is.
const _: () = assert!(2 * QUERY_ANSWER_BYTES_MAX <= ANSWERS_BYTES_MAX);
// A head fits into what a connection buffers, and a single body into what all may take.
const _: () = assert!(HEAD_BYTES_MAX <= CONNECTION_BUFFER_BYTES);
const _: () = assert!(JSON_BYTES_MAX <= BODIES_BYTES_MAX && REQUEST_BYTES_MAX <= BODIES_BYTES_MAX);
// Commits stay large when only the margin is certain.
const _: () = assert!(256 * OPERATION_DISK_BYTES <= DISK_MARGIN_BYTES);
// A frame that is nearly full takes the largest entry.
const _: () = assert!(
    SNAPSHOT_FRAME_BYTES
        + CACHE_VALUE_BYTES_MAX
        + CACHE_KEY_BYTES_MAX
        + CACHE_TAGS_MAX * (CACHE_TAG_BYTES_MAX + 8)
        + CONTENT_TYPE_BYTES_MAX
        + SNAPSHOT_FRAME_ENTRIES * 128
        <= RECORD_BYTES_MAX
);
// The largest payload is one record, with room for its head.
const _: () = assert!(CACHE_VALUE_BYTES_MAX + (64 << 10) <= RECORD_BYTES_MAX);
const _: () = assert!(JOB_PAYLOAD_BYTES_MAX <= CACHE_VALUE_BYTES_MAX);
const _: () = assert!(CONFIG_NAMESPACES_MAX <= NAMESPACES_MAX);
// One worker alone does not reach the bound of all, and is stale before it is forgotten.
const _: () = assert!(LEASE_QUEUES_MAX <= WORKER_QUEUES_MAX);
const _: () = assert!(WORKER_STALE.as_millis() < WORKER_GONE.as_millis());
const _: () = assert!(ENGINE_CACHE_BYTES_MIN <= ENGINE_CACHE_BYTES_MAX);
const _: () = assert!(WORKER_REST_MIN.as_millis() <= WORKER_REST_MAX.as_millis());

/// The page cache of one file when the process may use `memory_bytes`.
pub const fn engine_cache_bytes(memory_bytes: u64) -> u64 {
    let share = memory_bytes / 20;
    if share < ENGINE_CACHE_BYTES_MIN {
        ENGINE_CACHE_BYTES_MIN
    } else if ENGINE_CACHE_BYTES_MAX < share {
        ENGINE_CACHE_BYTES_MAX
    } else {
        share
    }
}

/// The page cache of series.redb: blocks are written once and read now and then, whole, so that the kernel's cache does as
/// well, and gives way when others need the memory.
pub const fn series_cache_bytes(memory_bytes: u64) -> u64 {
    let share = engine_cache_bytes(memory_bytes);
    if SERIES_CACHE_BYTES_MAX < share { SERIES_CACHE_BYTES_MAX } else { share }
}

#[cfg(test)]
mod tests {
    use super::{ENGINE_CACHE_BYTES_MAX, ENGINE_CACHE_BYTES_MIN, engine_cache_bytes};

    #[test]
    fn the_engine_cache_is_a_twentieth_within_its_bounds() {
        assert_eq!(engine_cache_bytes(0), ENGINE_CACHE_BYTES_MIN);
        assert_eq!(engine_cache_bytes(200 << 20), 10 << 20);
        assert_eq!(engine_cache_bytes(u64::MAX), ENGINE_CACHE_BYTES_MAX);
    }
}
