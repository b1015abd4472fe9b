//! What all checks come to: one line, a table, an exit code. Pure.

use crate::cli::table::{shown, table};
use crate::io::client::{Json, object};

/// How something stands, the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    /// As it should be.
    Healthy,
    /// Nobody knows.
    Unknown,
    /// Somebody should look.
    Warning,
    /// Now.
    Critical,
}

impl Status {
    /// How it is spelled.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Status::Healthy => "healthy",
            Status::Unknown => "unknown",
            Status::Warning => "warning",
            Status::Critical => "critical",
        }
    }

    /// As programs have it that watch others.
    pub(super) const fn exit_code(self) -> u8 {
        match self {
            Status::Healthy => 0,
            Status::Warning => 1,
            Status::Critical => 2,
            Status::Unknown => super::UNKNOWN,
        }
    }
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Check {
    /// What.
    pub(super) name: &'static str,
    /// How it stands.
    pub(super) status: Status,
    /// The figure; null if it is not known.
    pub(super) value: Json,
    /// In words, without anything that a terminal would obey.
    pub(super) text: String,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The worst of all.
    pub(super) status: Status,
    checks: Vec<Check>,
}

impl Verdict {
    /// What these come to.
    pub(super) fn of(checks: Vec<Check>) -> Verdict {
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Unknown);
        Verdict { status, checks }
    }

    /// For programs.
    pub(super) fn json(&self) -> Json {
        let check = |check: &Check| {
            Json::Object(
                [
                    ("name", Json::from(check.name)),
                    ("status", Json::from(check.status.as_str())),
                    ("value", check.value.clone()),
                    ("text", Json::from(check.text.as_str())),
                ]
                .map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .collect(),
            )
        };
        let checks: Vec<Json> = self.checks.iter().map(check).collect();
        object([("status", Json::from(self.status.as_str())), ("checks", Json::from(checks))])
    }

    /// For people: one line that says it all, then each check.
    pub(super) fn told(&self) -> String {
        let line = format!("{}: {}\n", self.status.as_str().to_uppercase(), self.sentence());
        if self.checks.len() < 2 {
            return line;
        }
        let row = |check: &Check| {
            vec![check.name.to_owned(), check.status.as_str().to_owned(), check.text.clone()]
        };
        let rows: Vec<Vec<String>> = self.checks.iter().map(row).collect();
        format!("{line}\n{}", table(&["CHECK", "STATUS", "WHAT"], &rows))
    }

    fn sentence(&self) -> String {
        let mut those = self.checks.iter().filter(|check| check.status == self.status);
        if self.status == Status::Healthy {
            let told = those.filter(|check| matches!(check.name, "queue_depth" | "rate" | "host"));
            return told.map(|check| shown(&check.text)).collect::<Vec<_>>().join("; ");
        }
        let first = those.next().map_or_else(String::new, |check| shown(&check.text));
        let more = self.checks.iter().filter(|check| Status::Healthy < check.status).count();
        match more.saturating_sub(1) {
            0 => first,
            1 => format!("{first}; and one more, see below"),
            more => format!("{first}; and {more} more, see below"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, Status, Verdict};
    use serde_json::json;

    fn check(name: &'static str, status: Status, text: &str) -> Check {
        Check { name, status, value: json!(1), text: text.to_owned() }
    }

    #[test]
    fn the_worst_check_is_told_first_and_decides() {
        use Status::{Critical, Healthy, Unknown, Warning};
        let verdict = |statuses: &[Status]| {
            let checks = statuses.iter().map(|status| check("x", *status, status.as_str()));
            Verdict::of(checks.collect())
        };
        for (statuses, code, line) in [
            (&[Healthy, Healthy][..], 0, "HEALTHY: "),
            (&[Healthy, Unknown], 3, "UNKNOWN: unknown\n"),
            (&[Unknown, Warning], 1, "WARNING: warning; and one more, see below\n"),
            (&[Warning, Critical, Unknown], 2, "CRITICAL: critical; and 2 more, see below\n"),
            (&[Critical], 2, "CRITICAL: critical\n"),
            (&[], 3, "UNKNOWN: "),
        ] {
            let verdict = verdict(statuses);
            assert_eq!(verdict.status.exit_code(), code, "{statuses:?}");
            assert!(verdict.told().starts_with(line), "{statuses:?}: {}", verdict.told());
        }
    }

    #[test]
    fn a_verdict_is_for_people_and_for_programs() {
        let mut depth = check("queue_depth", Status::Healthy, "no jobs wait");
        depth.value = json!(null);
        let verdict = Verdict::of(vec![check("server", Status::Healthy, "ready"), depth]);
        let expected = "\
HEALTHY: no jobs wait

CHECK        STATUS   WHAT
server       healthy  ready
queue_depth  healthy  no jobs wait
";
        assert_eq!(verdict.told(), expected);
        let expected = json!({ "status": "healthy", "checks": [
            { "name": "server", "status": "healthy", "value": 1, "text": "ready" },
            { "name": "queue_depth", "status": "healthy", "value": null, "text": "no jobs wait" }
        ] });
        assert_eq!(verdict.json(), expected);
    }
}
