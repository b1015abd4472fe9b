//! What is said to the server, and what it means when it does not answer well.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::Stage;
use crate::base::limits::{WORK_PAUSE_MAX, WORK_PAUSE_MIN};
use crate::cli::failure::Failure;
use crate::io::client::{Answer, Body, Client, Error, Json, RawAnswer};

/// What came of a call.
#[derive(Debug)]
pub(super) enum Told {
    /// It was done.
    Well(RawAnswer),
    /// It will never be done.
    Refused(Answer),
    /// Nobody can say it now: the server is away, starting, or in trouble.
    Away(String),
}

/// Sends a call once.
pub(super) async fn tell(client: &Client, method: &str, path: &str, body: Option<&Json>) -> Told {
    let answer = match client.call(method, path, body.map(Body::json)).await {
        Ok(answer) => answer,
        Err(error) => return Told::Away(error.to_string()),
    };
    let status = answer.status;
    if (200..300).contains(&status) {
        return Told::Well(answer);
    }
    match client.read(answer) {
        Ok(answer) if is_for_good(status) => Told::Refused(answer),
        Ok(answer) => Told::Away(Failure::from_answer(&answer).text),
        Err(error @ (Error::NotOurs { .. } | Error::NotReachable { .. })) => {
            Told::Away(error.to_string())
        }
    }
}

/// Whether the same call would be refused again.
fn is_for_good(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 421 | 429)
}

/// Pauses that grow while something does not work.
#[derive(Debug)]
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Pauses {
        Pauses(WORK_PAUSE_MIN)
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (2 * pause).min(WORK_PAUSE_MAX);
        pause
    }

    /// Waits for the next one, or until the worker is at another stage.
    pub(super) async fn rest(&mut self, stage: &mut watch::Receiver<Stage>) {
        let pause = self.next();
        // In time or not: there is something to do.
        timeout(pause, stage.changed()).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::{Pauses, is_for_good};

    #[test]
    fn pauses_grow_to_five_seconds() {
        let mut pauses = Pauses::new();
        let ms: Vec<u128> = (0..8).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(ms, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn what_may_work_later_is_tried_again() {
        let again: Vec<u16> = [400, 401, 403, 404, 408, 409, 413, 421, 422, 429, 500, 503, 507]
            .into_iter()
            .filter(|status| !is_for_good(*status))
            .collect();
        assert_eq!(again, [408, 421, 429, 500, 503, 507]);
    }
}
