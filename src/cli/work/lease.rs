//! A job that was leased, as its command gets it.

use std::time::Duration;

use crate::base::human::parse_moment;
use crate::base::time::Timestamp;
use crate::io::leased::LeasedJob;

/// A job in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leased {
    /// Which job.
    pub(super) id: String,
    /// What shows that it is ours.
    pub(super) lease: String,
    /// What its command finds in its environment.
    pub(super) environment: Vec<(&'static str, String)>,
    /// What its command reads.
    pub(super) payload: Vec<u8>,
    /// How long the attempt may take from now on, if the server says.
    pub(super) within: Option<Duration>,
}

impl Leased {
    /// What such a job means here and now.
    pub(super) fn new(job: LeasedJob, now: Timestamp) -> Leased {
        // Clocks of two machines differ, so a length of time is better than a moment.
        let length = job.timeout_ms.map(Duration::from_millis);
        let until = || Some(parse_moment(job.deadline.as_deref()?, now).ok()?.since(now));
        let within = length.or_else(until);
        let deadline = job.deadline.clone();
        let deadline = deadline.or_else(|| Some(now.plus(within?).to_string()));
        let environment = [
            ("HOLDFAST_JOB_ID", Some(job.id.clone())),
            ("HOLDFAST_LEASE", Some(job.lease.clone())),
            ("HOLDFAST_ATTEMPT", Some(job.attempt.to_string())),
            ("HOLDFAST_FENCE", job.fence.map(|fence| fence.to_string())),
            ("HOLDFAST_QUEUE", job.queue),
            ("HOLDFAST_TYPE", job.job_type),
            ("HOLDFAST_DEADLINE", deadline),
        ];
        let environment = environment.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Leased {
            id: job.id,
            lease: job.lease,
            environment: environment.collect(),
            payload: job.payload,
            within,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Leased;
    use crate::base::time::Timestamp;
    use crate::io::leased::jobs_of;
    use std::time::Duration;

    /// Of the job with these members, at 2023-11-14T22:13:20Z.
    fn leased(members: &str) -> Leased {
        let text = format!(r#"{{"jobs":[{{"id":"j1","lease":"l1","payload":1{members}}}]}}"#);
        let job = jobs_of(text.as_bytes()).unwrap().remove(0);
        Leased::new(job, Timestamp::from_unix_ms(1_700_000_000_000).unwrap())
    }

    fn environment(leased: &Leased) -> String {
        let pairs = leased.environment.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_command_finds_its_job_in_its_environment() {
        let leased = leased(
            r#","fence":7,"queue":"mail","type":"welcome","attempt":2,"deadline":"2023-11-14T22:13:50.000Z""#,
        );
        assert_eq!(leased.within, Some(Duration::from_secs(30)));
        let expected = "HOLDFAST_JOB_ID=j1 HOLDFAST_LEASE=l1 HOLDFAST_ATTEMPT=2 HOLDFAST_FENCE=7 \
                        HOLDFAST_QUEUE=mail HOLDFAST_TYPE=welcome \
                        HOLDFAST_DEADLINE=2023-11-14T22:13:50.000Z";
        assert_eq!(environment(&leased), expected);
    }

    #[test]
    fn a_length_of_time_beats_a_moment() {
        let both = r#","attempt":1,"timeout_ms":1500,"deadline":"2023-11-14T22:13:50.000Z""#;
        assert_eq!(leased(both).within, Some(Duration::from_millis(1500)));
        let length = leased(r#","attempt":1,"timeout_ms":1500"#);
        assert!(environment(&length).ends_with("HOLDFAST_DEADLINE=2023-11-14T22:13:21.500Z"));
        let neither = leased(r#","attempt":1"#);
        assert_eq!(neither.within, None);
        let expected = "HOLDFAST_JOB_ID=j1 HOLDFAST_LEASE=l1 HOLDFAST_ATTEMPT=1";
        assert_eq!(environment(&neither), expected);
    }
}
