//! How a queue stands, in one or two plain sentences.

use std::time::Duration;

use super::advisor::with_spare;
use super::erlang::SERVERS_MAX;
use super::{Capacity, Flow, Measured, drain};
use crate::trend::words::{ROUGH, capital, count, jobs, number, per, span};

/// Fewer attempts than these are a few: chance decides how long they took.
const FEW: f64 = 5.0;
/// A job that takes more attempts than this takes "1.2 attempts" in the sentence.
const ATTEMPTS_TOLD: f64 = 1.05;
/// How a worker is started.
const START: &str = "start one: holdfast work QUEUE -- COMMAND";

/// The same in one or two plain sentences.
pub fn sentence(measured: &Measured, capacity: &Capacity, target: Duration) -> String {
    let told = Told { measured, capacity, flow: Flow::of(measured), target };
    let text = match told.capacity.service_rate {
        _ if measured.workers == 0 => told.nobody(),
        None if 0.0 < told.flow.attempts => told.all_fail(),
        None => told.unmeasured(),
        Some(rate) => told.measured(rate),
    };
    let text = if measured.shared && capacity.service_rate.is_some() && 0 < measured.workers {
        let some =
            if measured.workers == 1 { "The worker works" } else { "Some of the workers work" };
        format!("{text} {some} on other queues too.")
    } else {
        text
    };
    if capacity.service.is_none() || FEW <= told.flow.attempts {
        return text;
    }
    let attempts = number(told.flow.attempts, ROUGH);
    let name = if attempts == "1" { "job" } else { "jobs" };
    format!("{text} This was measured on {attempts} {name} only.")
}

struct Told<'t> {
    measured: &'t Measured,
    capacity: &'t Capacity,
    flow: Flow,
    target: Duration,
}

impl Told<'_> {
    fn workers(&self) -> String {
        workers(self.measured.workers)
    }

    /// `the last 15 min`.
    fn window(&self) -> String {
        format!("the last {}", span(self.measured.window.as_secs_f64()))
    }

    /// `60 jobs a minute arrive`.
    fn arrive(&self) -> String {
        let rate = jobs(self.flow.arrivals);
        if rate.starts_with("1 ") { format!("{rate} arrives") } else { format!("{rate} arrive") }
    }

    /// `12 jobs wait`.
    fn wait(&self) -> String {
        let verb = if self.measured.waiting == 1 { "waits" } else { "wait" };
        format!("{} {verb}", count(self.measured.waiting, "job", "jobs"))
    }

    /// `keep waits below 1 min`.
    fn target(&self) -> String {
        let seconds = self.target.as_secs_f64();
        if 0.0 < seconds {
            format!("to keep waits below {}", span(seconds))
        } else {
            "so that hardly a job waits".to_owned()
        }
    }

    /// `it takes 4 workers to keep waits below 1 min`.
    fn takes(&self) -> String {
        let many = match self.capacity.workers_needed {
            Some(needed) => workers(needed),
            None => format!("more than {} workers", number(f64::from(SERVERS_MAX), ROUGH)),
        };
        format!("it takes {many} {}", self.target())
    }

    fn nobody(&self) -> String {
        let (waiting, arrivals) = (self.measured.waiting, self.flow.arrivals);
        if waiting == 0 && arrivals == 0.0 {
            return "Nobody works on this queue, and nothing waits.".to_owned();
        }
        let work = if 0 < waiting { self.wait() } else { self.arrive() };
        let takes = match self.capacity.service_rate {
            Some(_) if 0.0 < arrivals => format!("; {}", self.takes()),
            Some(_) | None => String::new(),
        };
        format!("Nobody works on this queue: {work}{takes}; {START}")
    }

    fn all_fail(&self) -> String {
        let attempts = number(self.flow.attempts, ROUGH);
        let ended = if attempts == "1" { "attempt" } else { "attempts" };
        format!(
            "{attempts} {ended} ended in {} and not one of them finished its job: how many workers it takes cannot be \
             told. See why they fail.",
            self.window()
        )
    }

    fn unmeasured(&self) -> String {
        let window = self.window();
        if 0 < self.measured.running {
            let verb = if self.measured.running == 1 { "runs" } else { "run" };
            let run = count(self.measured.running, "job", "jobs");
            let wait = match self.measured.waiting {
                0 => String::new(),
                _ => format!(", {}", self.wait()),
            };
            return format!(
                "{run} {verb}{wait}, and none has ended in {window}: how long they take is not known yet."
            );
        }
        if 0 < self.measured.waiting {
            let there = if self.measured.workers == 1 { "is" } else { "are" };
            return format!(
                "{} and none has run in {window}, although {} {there} there: is the queue paused?",
                self.wait(),
                self.workers()
            );
        }
        if 0.0 < self.flow.arrivals {
            return format!("{}, and none was due in {window}.", capital(&self.arrive()));
        }
        format!("Nothing to do in {window}: no job arrived and none ended.")
    }

    fn measured(&self, rate: f64) -> String {
        if self.flow.arrivals == 0.0 {
            return self.nothing_arrives();
        }
        match self.capacity.utilisation {
            Some(busy) if busy < 1.0 => self.keeps_up(busy),
            Some(_) | None => self.grows(rate),
        }
    }

    /// `2.1 s`, `1.2 attempts of 2.1 s`.
    fn job(&self) -> String {
        let service = span(self.flow.service.unwrap_or_default());
        if self.capacity.attempts_per_job < ATTEMPTS_TOLD {
            return service;
        }
        format!("{} attempts of {service}", number(self.capacity.attempts_per_job, ROUGH))
    }

    fn nothing_arrives(&self) -> String {
        let start = format!("Nothing arrived in {}", self.window());
        match self.backlog(self.measured.workers) {
            Some(takes) => format!("{start}; what waits now ({}) {takes}.", self.waiting()),
            None => format!("{start}, and nothing waits."),
        }
    }

    /// `1,250 jobs`.
    fn waiting(&self) -> String {
        count(self.measured.waiting, "job", "jobs")
    }

    fn keeps_up(&self, busy: f64) -> String {
        let (keep, they, their) = match self.measured.workers {
            1 => ("keeps", "it is", "its"),
            _ => ("keep", "they are", "their"),
        };
        let (but, note) = self.too_few_or_many();
        let start = format!(
            "{} {keep} up{but}: {}, each takes {}, {they} busy {} of {their} time{note}.",
            self.workers(),
            self.arrive(),
            self.job(),
            percent(busy),
        );
        let takes = drain(self.measured, &self.flow, self.measured.workers).takes;
        match self.backlog(self.measured.workers) {
            // What is gone before the target is no backlog.
            Some(gone) if takes.is_none_or(|takes| self.target < takes) => {
                format!("{start} What waits now ({}) {gone}.", self.waiting())
            }
            Some(_) | None => start,
        }
    }

    /// What stands behind "keep up", and at the end, when there are fewer or far more workers than it takes.
    fn too_few_or_many(&self) -> (String, String) {
        match self.capacity.workers_needed {
            Some(needed) if needed <= self.measured.workers => {
                let enough = with_spare(needed);
                // Those who have nothing to do here may be needed elsewhere.
                let more = enough < self.measured.workers && !self.measured.shared;
                (String::new(), if more { format!("; {enough} would do") } else { String::new() })
            }
            Some(_) | None => {
                let wait = self.capacity.expected_wait.unwrap_or_default().as_secs_f64();
                let but = format!(", but jobs wait {} on average", span(wait));
                (but, format!("; {}", self.takes()))
            }
        }
    }

    fn grows(&self, rate: f64) -> String {
        let finish = if self.measured.workers == 1 { "finishes" } else { "finish" };
        let (time, _) = per(self.flow.arrivals);
        let finished = f64::from(self.measured.workers) * rate;
        let start = format!(
            "The queue grows: {} and {} {finish} {}; {}.",
            self.arrive(),
            self.workers(),
            number(finished * time, ROUGH),
            self.takes()
        );
        let Some(needed) = self.capacity.workers_needed else { return start };
        match self.backlog(needed) {
            Some(takes) => {
                format!("{start} With {needed}, what waits now ({}) {takes}.", self.waiting())
            }
            None => start,
        }
    }

    /// With so many workers, `is worked off in about 22 min`; none if nothing waits.
    fn backlog(&self, workers: u32) -> Option<String> {
        if self.measured.waiting == 0 {
            return None;
        }
        Some(match drain(self.measured, &self.flow, workers).takes {
            Some(takes) => format!("is worked off in about {}", span(takes.as_secs_f64())),
            None => "is hardly ever worked off".to_owned(),
        })
    }
}

/// `4 workers`.
fn workers(many: u32) -> String {
    count(u64::from(many), "worker", "workers")
}

/// `53 %`; those who are not quite busy all the time are not told that they are.
fn percent(part: f64) -> String {
    match 100.0 * part {
        tiny if 0.0 < tiny && tiny < 1.0 => "less than 1 %".to_owned(),
        nearly if 99.5 <= nearly => "nearly 100 %".to_owned(),
        percent => format!("{percent:.0} %"),
    }
}
