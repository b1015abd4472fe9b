//! Whether a queue keeps up, how many workers it takes, and when it is empty: in figures, and in a plain sentence.
//!
//! Jobs arrive one by one and are worked on by workers that are alike (M/M/c, Erlang's C); attempts that fail come again,
//! so that what counts is how many attempts a job takes. A recommendation goes up soon and down late, and not by one when
//! that would be taken back: it does not flap.
//!
//! ```text
//!   load          attempts that come in a second * how long one takes      so many workers are busy all the time
//!   utilisation   load / workers                                           from 1 on the queue grows
//!   wait          on average  C / (workers - load) * service,  C: Erlang's, the part that waits at all
//!   needed        the fewest workers with which 95 of 100 attempts wait no longer than the target
//!   drain         work that is left / (workers - load),  what runs now is taken for half done
//! ```
//!
//! "No longer than a minute" is meant by those who say it for every job, not for the mean of all; 95 of 100 is what the
//! figure promises. It is the wait of a job that may run: a delay that was asked for, and the pause before a job is tried
//! again, are no waits.

mod advisor;
mod erlang;
mod told;

use std::time::Duration;

pub use self::advisor::{Advice, Advisor};
pub use self::told::sentence;

use crate::base::limits::CAPACITY_AROUND_MAX;

/// The part of the attempts that may wait longer than the target.
const LATE: f64 = 0.05;
/// An attempt takes so long at least, in seconds: what is shorter is not measured, and none takes no time at all.
const SERVICE_SECONDS_MIN: f64 = 1e-6;
/// No queue takes so many jobs in a second, nor in a window: what is beyond it is taken for this.
const JOBS_MAX: f64 = 1e12;
/// What takes longer than ten years to work off is never worked off.
const DRAIN_SECONDS_MAX: f64 = 10.0 * 365.25 * 86_400.0;

/// What was measured of a queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Over how long.
    pub window: Duration,
    /// Jobs that arrived in it.
    pub arrived: f64,
    /// Attempts that ended in it.
    pub attempts: f64,
    /// Of them, those that ended their job, well or not.
    pub finished: f64,
    /// How long all attempts took together.
    pub worked: Duration,
    /// Jobs that may run now.
    pub waiting: u64,
    /// Jobs that run now.
    pub running: u64,
    /// Workers that serve it, each of which runs one job at a time: one that runs four at once counts as four.
    pub workers: u32,
    /// Whether any of them serves another queue too: that it has time to spare here does not mean that it has any.
    pub shared: bool,
}

/// How a queue stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    /// Jobs that arrive in a second.
    pub arrivals: f64,
    /// Attempts a job takes; 1 if none has ended.
    pub attempts_per_job: f64,
    /// How long an attempt takes; none if none has ended.
    pub service: Option<Duration>,
    /// Jobs that one worker finishes in a second; none if none has ended.
    pub service_rate: Option<f64>,
    /// The part of the workers' time that arrivals take; above 1 the queue grows. None without workers or a service rate.
    pub utilisation: Option<f64>,
    /// How long a job waits on average when nothing is left over; none if it grows, or if that cannot be said.
    pub expected_wait: Option<Duration>,
    /// How many workers it takes that 95 of 100 jobs wait no longer than the target, at least one. None without a service
    /// rate, and beyond 100,000.
    pub workers_needed: Option<u32>,
    /// How long until what waits now is worked off, with one worker number after the other.
    pub drains: Vec<Drain>,
}

/// How long until what waits is worked off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drain {
    /// With so many workers.
    pub workers: u32,
    /// How long; none if it is never empty, or if that cannot be said.
    pub takes: Option<Duration>,
    /// The part of their time that arrivals take.
    pub utilisation: Option<f64>,
}

/// What the formulas take.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// Jobs that arrive in a second.
    arrivals: f64,
    /// Attempts that ended.
    attempts: f64,
    /// Of them, those that ended their job.
    finished: f64,
    /// How long an attempt takes, in seconds; none if none has ended.
    service: Option<f64>,
}

impl Flow {
    fn of(measured: &Measured) -> Flow {
        let seconds = measured.window.as_secs_f64();
        let arrived = number(measured.arrived);
        // Less than half an attempt is what rounding leaves of none.
        let whole = |many: f64| if number(many) < 0.5 { 0.0 } else { number(many) };
        let (attempts, finished) = (whole(measured.attempts), whole(measured.finished));
        let worked = measured.worked.as_secs_f64();
        Flow {
            arrivals: if 0.0 < seconds { number(arrived / seconds) } else { 0.0 },
            attempts,
            finished,
            service: (0.0 < attempts).then(|| (worked / attempts).max(SERVICE_SECONDS_MIN)),
        }
    }

    /// At least one: a job whose end was seen had one, even if that lies before the window.
    fn attempts_per_job(&self) -> f64 {
        if 0.0 < self.finished { (self.attempts / self.finished).max(1.0) } else { 1.0 }
    }

    /// How long a job takes a worker, with all its attempts; none if no job has ended.
    fn job_seconds(&self) -> Option<f64> {
        let service = self.service.filter(|_| 0.0 < self.finished)?;
        Some(service * self.attempts_per_job())
    }

    /// So many workers are busy with what arrives.
    fn load(&self) -> Option<f64> {
        self.job_seconds().map(|seconds| self.arrivals * seconds)
    }
}

/// What is no number, or below 0, is 0.
fn number(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, JOBS_MAX) }
}

/// How a queue stands that was measured so, when jobs shall wait no longer than `target`, and what if there were up to
/// `around` workers more or fewer.
pub fn capacity(measured: &Measured, target: Duration, around: u32) -> Capacity {
    let flow = Flow::of(measured);
    let (load, workers) = (flow.load(), measured.workers);
    let around = around.min(CAPACITY_AROUND_MAX);
    let drains = workers.saturating_sub(around)..=workers.saturating_add(around);
    let needed = |load: f64| {
        erlang::servers_for(load, LATE, target.as_secs_f64(), flow.service.unwrap_or_default())
    };
    Capacity {
        arrivals: flow.arrivals,
        attempts_per_job: flow.attempts_per_job(),
        service: flow.service.and_then(lasting),
        service_rate: flow.job_seconds().map(|seconds| 1.0 / seconds),
        utilisation: load.and_then(|load| utilisation(load, workers)),
        expected_wait: load.and_then(|load| mean_wait(&flow, load, workers)),
        workers_needed: load.and_then(needed),
        drains: drains.map(|workers| drain(measured, &flow, workers)).collect(),
    }
}

/// A length of time, if there is one that long.
fn lasting(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

fn utilisation(load: f64, workers: u32) -> Option<f64> {
    (0 < workers).then(|| load / f64::from(workers))
}

fn mean_wait(flow: &Flow, load: f64, workers: u32) -> Option<Duration> {
    let spare = f64::from(workers) - load;
    if workers == 0 || spare <= 0.0 {
        return None;
    }
    // With more workers than are reckoned with, nobody waits that would not wait with so many.
    let servers = workers.min(erlang::SERVERS_MAX);
    let waits = erlang::waits(erlang::busy(servers, load), servers, load);
    lasting(waits * flow.service? / spare)
}

/// How long it takes so many workers to work off what waits, while more arrives.
fn drain(measured: &Measured, flow: &Flow, workers: u32) -> Drain {
    let load = flow.load();
    let takes = match (load, flow.job_seconds(), flow.service) {
        (Some(load), Some(job), Some(service)) => {
            let spare = f64::from(workers) - load;
            let work = work_left(measured, job, service);
            (0.0 < spare).then_some((work, spare, job))
        }
        _ => None,
    };
    let seconds = takes.map(|(work, spare, job)| match measured.waiting {
        0 => 0.0,
        // The last job is not done in less time than a job takes, however many work.
        _ => (work / spare).max(job),
    });
    Drain {
        workers,
        takes: seconds.filter(|&seconds| seconds <= DRAIN_SECONDS_MAX).and_then(lasting),
        utilisation: load.and_then(|load| utilisation(load, workers)),
    }
}

/// How long one worker would take for what waits and runs: attempts that run are half done, on average, and may have to
/// be made again like all others.
#[expect(clippy::cast_precision_loss, reason = "estimates of work need no more than 53 bits")]
fn work_left(measured: &Measured, job: f64, service: f64) -> f64 {
    measured.waiting as f64 * job + measured.running as f64 * (job - service / 2.0)
}

#[cfg(test)]
mod tests;
