//! Whether a queue keeps up: what was recorded of it, what it holds now, and what follows from both.
//!
//! Rates are measured over the steps of the period in which something was recorded: a server that was down in between
//! does not make a queue look slow. What a new queue had when it was first recorded arrived just before that, and counts;
//! new is one of which there is nothing older, however long nobody recorded it. What is there now (jobs, workers) is looked
//! at now.

use std::sync::Arc;
use std::time::Duration;

use super::queue::QueueView;
use super::series_query::Asker;
use super::trends::{self, Stretch, of_queue};
use super::{App, Error};
use crate::base::human::format_duration;
use crate::base::id::TenantId;
use crate::base::limits::{QUERY_DEADLINE_MAX, RECORD_EVERY, TREND_PERIOD_MAX};
use crate::base::name::QueueName;
use crate::base::time::Timestamp;
use crate::series::fold::{Function, Steps};
use crate::series::{DAY_MS, FIVE_MINUTES_MS};
use crate::trend::capacity::{self, Advice, Capacity, Measured};
use crate::trend::finite;

/// A job should wait no longer than this, when nobody said otherwise.
pub const TARGET_WAIT: Duration = Duration::from_mins(1);
/// The counter by which it is seen when something was recorded.
const PUSHED: &str = "queue_pushed_total";
/// What was measured for less than this says nothing.
const MEASURED_MIN: Duration = Duration::from_mins(1);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct CapacityQuestion {
    /// Over which period rates are measured.
    pub stretch: Stretch,
    /// How long a job should wait at most; as the queue's settings say without.
    pub target: Option<Duration>,
    /// So many workers more and fewer are looked at.
    pub around: u32,
    /// When it was asked.
    pub now: Timestamp,
}

/// How a queue stands.
#[derive(Clone, Debug)]
pub struct QueueCapacity {
    /// What it holds now.
    pub view: QueueView,
    /// How long a job should wait at most.
    pub target: Duration,
    /// For how long something was recorded.
    pub window: Duration,
    /// What follows, if enough was recorded; or why not.
    pub outcome: Result<Capacity, String>,
    /// What to do.
    pub advice: Advice,
    /// All of it in plain words.
    pub text: String,
}

impl QueueCapacity {
    /// Workers that serve it.
    pub fn workers(&self) -> u32 {
        workers_of(&self.view)
    }

    /// What follows, if anything does.
    pub fn capacity(&self) -> Option<&Capacity> {
        self.outcome.as_ref().ok()
    }
}

/// What was counted in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counted {
    /// For how long something was recorded.
    pub(super) window: Duration,
    pub(super) pushed: f64,
    pub(super) done: f64,
    /// Attempts that ended otherwise.
    pub(super) failed: f64,
    pub(super) given_up: f64,
    pub(super) worked: Duration,
}

impl Counted {
    /// With what the queue holds now.
    pub(super) fn measured(&self, view: &QueueView) -> Measured {
        Measured {
            window: self.window,
            arrived: self.pushed,
            attempts: self.done + self.failed,
            finished: self.done + self.given_up,
            worked: self.worked,
            waiting: view.waiting,
            running: view.running,
            workers: workers_of(view),
            shared: view.workers_shared,
        }
    }
}

/// Workers that serve other queues too are not sent away: what they have to spare here may be what others need.
fn of_shared(advice: Advice, view: &QueueView) -> Advice {
    match advice {
        Advice::Down(_) if view.workers_shared => Advice::Keep,
        advice => advice,
    }
}

/// Workers that serve a queue, a process that works on several jobs at a time as several. Whoever leases without a name is
/// known by what it has alone.
pub(super) fn workers_of(view: &QueueView) -> u32 {
    let named = u32::try_from(view.places).unwrap_or(u32::MAX);
    if 0 < named { named } else { u32::try_from(view.running).unwrap_or(u32::MAX) }
}

/// How long a job of this queue should wait at most.
pub(super) fn target_of(view: &QueueView) -> Duration {
    view.settings.target_wait.unwrap_or(TARGET_WAIT)
}

/// The counters of a queue over a range.
pub(super) struct Counters<'a> {
    pub(super) asker: &'a Asker<'a>,
    pub(super) tenant: TenantId,
    pub(super) queue: &'a QueueName,
    pub(super) range: Steps,
}

impl Counters<'_> {
    /// The steps of a counter in which something was recorded, and how long they are.
    fn steps(
        &self,
        name: &str,
        function: Function,
        range: Steps,
    ) -> Result<(Vec<(i64, f64)>, i64), Error> {
        let query = trends::query(range, of_queue(name, self.queue), function);
        let answer = self.asker.ask(self.tenant, &query)?;
        let own = [("queue".to_owned(), self.queue.as_str().to_owned())];
        let line = answer.lines.iter().find(|line| line.labels == own);
        let steps = line.map_or_else(Vec::new, |line| finite(&line.points));
        Ok((steps, answer.steps.step_ms))
    }

    /// When the queue was first recorded, if that is in the range: it was not there before, and its counters began at zero.
    fn born(&self, name: &str, first_ms: i64) -> Result<Option<i64>, Error> {
        if first_ms <= self.range.from_ms {
            return Ok(None);
        }
        let ever_ms = i64::try_from(TREND_PERIOD_MAX.as_millis()).unwrap_or(i64::MAX);
        // The last day to the minute; a server that was off for a day, or a year, was there before.
        for (step_ms, back_ms) in [(FIVE_MINUTES_MS, DAY_MS), (DAY_MS, ever_ms)] {
            let to_ms = first_ms - first_ms.rem_euclid(step_ms);
            let now_ms = self.range.now_ms;
            let before = Steps { from_ms: to_ms - back_ms, to_ms, step_ms, now_ms };
            let (before, _) = self.steps(name, Function::Count, before)?;
            if !before.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(first_ms))
    }

    /// What a counter had when it was first recorded, in the step that begins then.
    fn began(&self, name: &str, from_ms: i64, step_ms: i64) -> Result<f64, Error> {
        let first = Steps { from_ms, to_ms: from_ms + step_ms, step_ms, ..self.range };
        let (first, _) = self.steps(name, Function::Min, first)?;
        Ok(first.first().map_or(0.0, |(_, value)| *value))
    }

    /// What a counter of a queue that is new had already when it was first recorded.
    pub(super) fn already(&self, name: &str) -> Result<f64, Error> {
        let (steps, step_ms) = self.steps(name, Function::Increase, self.range)?;
        let Some((first_ms, _)) = steps.first() else {
            return Ok(0.0);
        };
        let born_ms = self.born(name, *first_ms)?;
        born_ms.map_or(Ok(0.0), |born_ms| self.began(name, born_ms, step_ms))
    }

    /// How much a counter grew; with what it had when it was first seen, if the queue is new.
    fn grown(&self, name: &str, born_ms: Option<i64>) -> Result<f64, Error> {
        let (steps, step_ms) = self.steps(name, Function::Increase, self.range)?;
        let mut sum: f64 = steps.iter().map(|(_, value)| value).sum();
        if let Some(from_ms) = born_ms {
            sum += self.began(name, from_ms, step_ms)?;
        }
        Ok(sum)
    }

    /// For how long figures were recorded: of a step that a queue came up in, or in which the server stood still, the part
    /// that was.
    fn recorded(&self, step: Duration) -> Result<Duration, Error> {
        let (counts, _) = self.steps(PUSHED, Function::Count, self.range)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of samples"
        )]
        let samples = |count: f64| count.clamp(0.0, 1e9) as u32;
        let of_step =
            |(_, count): &(i64, f64)| RECORD_EVERY.saturating_mul(samples(*count)).min(step);
        Ok(counts.iter().map(of_step).fold(Duration::ZERO, Duration::saturating_add))
    }

    fn counted(&self) -> Result<Counted, Error> {
        let (steps, step_ms) = self.steps(PUSHED, Function::Increase, self.range)?;
        let Some((first_ms, _)) = steps.first() else {
            return Ok(Counted::default());
        };
        let born_ms = self.born(PUSHED, *first_ms)?;
        let step = Duration::from_millis(step_ms.unsigned_abs());
        let window = self.recorded(step)?;
        let grown = |name: &str| self.grown(name, born_ms);
        let worked = grown("queue_attempt_seconds_total")?.max(0.0);
        Ok(Counted {
            window,
            pushed: grown(PUSHED)?,
            done: grown("queue_done_total")?,
            failed: grown("queue_failed_total")? + grown("queue_crashed_total")?,
            given_up: grown("queue_given_up_total")?,
            worked: Duration::try_from_secs_f64(worked).unwrap_or(Duration::MAX),
        })
    }
}

/// Why there is nothing to say, and what there is all the same.
fn too_little(view: &QueueView, counted: &Counted, period: Duration) -> String {
    let seconds = counted.window.as_secs();
    let recorded = if seconds == 0 { "nothing".to_owned() } else { format!("only {seconds} s") };
    format!(
        "{recorded} of the last {} was recorded of queue {}: ask again in a few minutes, or for a longer period",
        format_duration(period),
        view.name
    )
}

impl App {
    /// How a queue stands.
    pub async fn queue_capacity(
        self: &Arc<Self>,
        tenant: &super::directory::TenantEntry,
        name: &QueueName,
        question: CapacityQuestion,
    ) -> Result<QueueCapacity, Error> {
        let (app, its, queue) = (Arc::clone(self), tenant.clone(), name.clone());
        self.with_queries(QUERY_DEADLINE_MAX, move |asker| {
            let view = app.queue_view(&its, &queue)?;
            let range = question.stretch.range(question.now);
            let counters = Counters { asker, tenant: its.id, queue: &queue, range };
            let counted = counters.counted()?;
            let advice = of_shared(app.watch.advice(its.id, &queue), &view);
            Ok(answer(view, &counted, question, advice))
        })
        .await
    }
}

fn answer(
    view: QueueView,
    counted: &Counted,
    question: CapacityQuestion,
    advice: Advice,
) -> QueueCapacity {
    let target = question.target.unwrap_or_else(|| target_of(&view));
    if counted.window < MEASURED_MIN.min(question.stretch.period()) {
        let why = too_little(&view, counted, question.stretch.period());
        let text = in_words(&view, &nothing_measured(&view, target, &why));
        let window = counted.window;
        return QueueCapacity { view, target, window, outcome: Err(why), advice, text };
    }
    let measured = counted.measured(&view);
    let capacity = capacity::capacity(&measured, target, question.around);
    let text = in_words(&view, &capacity::sentence(&measured, &capacity, target));
    QueueCapacity { view, target, window: counted.window, outcome: Ok(capacity), advice, text }
}

/// That nobody works is known without any measurement.
fn nothing_measured(view: &QueueView, target: Duration, why: &str) -> String {
    let mut why = why.to_owned();
    if let Some(first) = why.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if 0 < workers_of(view) {
        return format!("{why}.");
    }
    let measured = Counted::default().measured(view);
    let capacity = capacity::capacity(&measured, target, 0);
    let nobody = capacity::sentence(&measured, &capacity, target);
    format!("{}. {why}.", nobody.trim_end_matches('.'))
}

/// A queue that is paused is not worked on, whatever its figures say.
fn in_words(view: &QueueView, text: &str) -> String {
    if view.settings.paused {
        format!("The queue is paused, so nothing is leased from it. {text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests;
