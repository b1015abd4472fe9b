//! One attempt at a job: the command runs, and its end is told to the server until the server has taken it.

use std::sync::Arc;

use tokio::sync::watch;

use super::child;
use super::ending::{Ending, Remains, ending};
use super::lease::Leased;
use super::link::{Pauses, Told, tell};
use super::{Order, Plan, Stage, say};
use crate::cli::failure::{FAILURE, Failure, NOT_ALLOWED};
use crate::cli::table::shown;
use crate::io::client::{Answer, Client, Json, encoded};

/// What an attempt needs.
pub(super) struct Attempt {
    pub(super) plan: Arc<Plan>,
    pub(super) client: Client,
    pub(super) job: Leased,
    pub(super) orders: watch::Receiver<Order>,
    pub(super) stage: watch::Receiver<Stage>,
}

/// An attempt that is over.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its lease.
    pub(super) lease: String,
    /// Whether it went well.
    pub(super) done: bool,
    /// Why this worker should not go on.
    pub(super) failure: Option<Failure>,
}

impl Attempt {
    /// Does it all.
    pub(super) async fn run(mut self) -> Ended {
        let remains = child::run(&self.plan, &self.job, &mut self.orders).await;
        let (ending, mut failure) = self.judge(remains);
        let done = matches!(ending, Ending::Done { .. });
        match &ending {
            Ending::Failed { class, message, .. } => {
                self.say(&format!("failed ({class}): {}", shown(message)));
            }
            Ending::Lost => self.say("its lease is lost, somebody else may run it: command killed"),
            Ending::Done { .. } | Ending::Released { .. } => {}
        }
        let taken = self.deliver(ending).await;
        failure = failure.or(taken.err());
        Ended { lease: self.job.lease, done, failure }
    }

    fn say(&self, text: &str) {
        say(&format!("job {}: {text}", shown(&self.job.id)));
    }

    /// What the end of the command means, and whether another one can be started at all.
    fn judge(&self, remains: std::io::Result<Remains>) -> (Ending, Option<Failure>) {
        let why = match remains {
            Ok(remains) => {
                let Some(why) = remains.cannot_run() else {
                    let (ending, said) = ending(&remains);
                    if let Some(said) = said {
                        self.say(&said);
                    }
                    return (ending, None);
                };
                why
            }
            Err(error) => format!("the command cannot be started: {error}"),
        };
        let delay_ms = self.plan.release_delay_ms;
        let reason = "the worker cannot run its command".to_owned();
        (Ending::Released { delay_ms, reason }, Some(Failure::new(FAILURE, why)))
    }

    /// Tells the end until it is taken. An outcome is never dropped without a word.
    async fn deliver(&mut self, mut ending: Ending) -> Result<(), Failure> {
        let (mut pauses, mut told_away) = (Pauses::new(), false);
        while let Some((verb, body)) = ending.call() {
            let path = format!("/v1/leases/{}/{verb}", encoded(&self.job.lease));
            match tell(&self.client, "POST", &path, Some(&body)).await {
                Told::Well(_) => break,
                Told::Refused(answer) if matches!(answer.status, 404 | 409) => {
                    self.say(&lost(verb, &answer.body));
                    break;
                }
                Told::Refused(answer) => ending = self.refused(verb, &ending, &answer)?,
                Told::Away(why) => {
                    if !told_away {
                        self.say(&format!("its {verb} is not taken yet, it is sent again: {why}"));
                    }
                    told_away = true;
                    pauses.rest(&mut self.stage).await;
                }
            }
        }
        Ok(())
    }

    /// What is told instead of an end that the server refuses.
    fn refused(&self, verb: &str, ending: &Ending, answer: &Answer) -> Result<Ending, Failure> {
        let failure = Failure::from_answer(answer);
        if matches!(ending, Ending::Done { result: Some(_) }) && failure.code != NOT_ALLOWED {
            self.say(&format!(
                "its result is refused, so it is done without one: {}",
                failure.text
            ));
            return Ok(Ending::Done { result: None });
        }
        // Said here: the worker may have another reason already with which it ends.
        self.say(&format!("its {verb} is refused, so it runs again when its lease has ended"));
        Err(failure)
    }
}

fn lost(verb: &str, body: &Json) -> String {
    let state = body["state"].as_str().map(|state| format!(", it is {}", shown(state)));
    let state = state.unwrap_or_default();
    format!(
        "its {verb} comes too late: the lease was lost{state}; what the command did may be done twice"
    )
}
