//! The worker itself: leases, beats, signals, and what they bring about.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::attempt::{Attempt, Ended};
use super::ending::Ending;
use super::lease::Leased;
use super::link::{Pauses, Told, tell};
use super::{Order, Plan, Stage, say};
use crate::app::outside::Probe as _;
use crate::base::human::format_duration;
use crate::base::limits::{LEASE_JOBS_MAX, WORK_PAUSE_MAX, WORK_WAIT, WORKER_STALE};
use crate::base::time::Clock as _;
use crate::boot::clock::SystemClock;
use crate::cli::failure::{FAILURE, Failure, NOT_REACHABLE};
use crate::cli::table::shown;
use crate::io::child::host;
use crate::io::client::{Client, Json, encoded, object};
use crate::io::leased::{LeasedJob, jobs_of};
use crate::io::machine::SystemProbe;

/// An answer without jobs that was not held back so long tells us to ask less often.
const HELD_BACK_MIN: Duration = Duration::from_secs(1);
/// A farewell takes no longer.
const GOODBYE_WITHIN: Duration = Duration::from_secs(5);

/// What a task of the worker brings.
enum Event {
    /// The answer to a lease.
    Leased(Result<Vec<LeasedJob>, Trouble>),
    /// The answer to a beat.
    Beaten(Result<Beaten, Trouble>),
    /// An attempt is over.
    Ended(Ended),
    /// A job that came too late was given back.
    GivenBack,
}

/// Why there is no answer that is any good.
enum Trouble {
    /// It is worth asking again.
    Away(String),
    /// It is not.
    Refused(Failure),
}

/// What a beat brought back.
struct Beaten {
    drain: Option<String>,
    cancelled_jobs: Vec<String>,
    lost_leases: Vec<String>,
}

/// A job in hand.
struct Running {
    job: String,
    order: watch::Sender<Order>,
}

/// Something that is asked again and again.
struct Asking {
    /// When it is asked next.
    at: Instant,
    since: Instant,
    asked: Option<AbortHandle>,
    pauses: Pauses,
}

impl Asking {
    fn new(now: Instant) -> Asking {
        Asking { at: now, since: now, asked: None, pauses: Pauses::new() }
    }

    fn asked(&mut self, now: Instant, task: AbortHandle) {
        (self.since, self.asked) = (now, Some(task));
    }

    fn again_after_pause(&mut self) {
        self.at = Instant::now() + self.pauses.next();
    }

    fn again_after(&mut self, time: Duration) {
        self.at = Instant::now() + time;
        self.pauses = Pauses::new();
    }
}

/// A worker at work.
pub(super) struct Worker {
    plan: Arc<Plan>,
    client: Client,
    clock: SystemClock,
    signals: [Signal; 2],
    stage: watch::Sender<Stage>,
    tasks: JoinSet<Event>,
    running: HashMap<String, Running>,
    giving_back: usize,
    beat: Asking,
    lease: Asking,
    /// The server knows us.
    is_known: bool,
    is_away: bool,
    signalled: u32,
    taken: u64,
    done: u64,
    started_at: Instant,
    busy: Duration,
    busy_since: Option<Instant>,
    give_up_at: Option<Instant>,
    failure: Option<Failure>,
}

impl Worker {
    /// One that has not begun; within a runtime.
    pub(super) fn new(plan: Arc<Plan>, client: Client) -> Result<Worker, Failure> {
        let now = Instant::now();
        Ok(Worker {
            plan,
            client,
            clock: SystemClock::new(),
            signals: [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?],
            stage: watch::Sender::new(Stage::Working),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            giving_back: 0,
            beat: Asking::new(now),
            lease: Asking::new(now),
            is_known: false,
            is_away: false,
            signalled: 0,
            taken: 0,
            done: 0,
            started_at: now,
            busy: Duration::ZERO,
            busy_since: None,
            give_up_at: None,
            failure: None,
        })
    }

    /// Works until it is told to end, or has done what it was to do.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        loop {
            self.begin_what_is_due();
            if self.is_over() {
                break;
            }
            let next = self.next_moment();
            let [terminate, interrupt] = &mut self.signals;
            tokio::select! {
                biased;
                Some(()) = terminate.recv() => self.signalled(),
                Some(()) = interrupt.recv() => self.signalled(),
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(event) => self.hear(event),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    // Only a lease is ever given up.
                    Err(_) => self.lease.asked = None,
                },
                () = sleep_until(next) => {}
            }
        }
        self.give_up();
        self.never_reached();
        // Leases that we do not know of go back at once: an answer may have come too late.
        let path = self.path("");
        timeout(GOODBYE_WITHIN, tell(&self.client, "DELETE", &path, None)).await.ok();
        self.failure.map_or(Ok(()), Err)
    }

    fn path(&self, verb: &str) -> String {
        format!("/v1/workers/{}{verb}", encoded(&self.plan.name))
    }

    fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    fn is_over(&self) -> bool {
        let idle = self.running.is_empty() && self.giving_back == 0 && self.lease.asked.is_none();
        let given_up = self.give_up_at.is_some_and(|at| at <= Instant::now());
        given_up || (idle && self.stage() != Stage::Working)
    }

    /// How many jobs it could take now.
    fn room(&self) -> usize {
        let free = self.plan.concurrency.saturating_sub(self.running.len());
        let left = self.plan.max_jobs.map_or(u64::MAX, |most| most.saturating_sub(self.taken));
        free.min(LEASE_JOBS_MAX).min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    fn max_time_at(&self) -> Option<Instant> {
        self.started_at.checked_add(self.plan.max_time?)
    }

    fn wants_jobs(&self) -> bool {
        let fit = self.stage() == Stage::Working && self.is_known && 0 < self.room();
        fit && self.lease.asked.is_none()
    }

    fn begin_what_is_due(&mut self) {
        let now = Instant::now();
        let late = self.max_time_at().is_some_and(|at| at <= now);
        let enough = self.plan.max_jobs.is_some_and(|most| most <= self.taken);
        if late || enough {
            self.drain();
        }
        if self.beat.asked.is_none() && self.beat.at <= now {
            self.begin_beat(now);
        }
        if self.wants_jobs() && self.lease.at <= now {
            self.begin_lease(now);
        }
    }

    /// When there is something to do although nothing happens.
    fn next_moment(&self) -> Instant {
        let beat = self.beat.asked.is_none().then_some(self.beat.at);
        let lease = self.wants_jobs().then_some(self.lease.at);
        let end = self.max_time_at().filter(|_| self.stage() == Stage::Working);
        let moments = [beat, lease, end, self.give_up_at].into_iter().flatten();
        moments.min().unwrap_or_else(|| Instant::now() + WORK_PAUSE_MAX)
    }

    fn begin_lease(&mut self, now: Instant) {
        let body = object([
            ("queues", Json::from(self.plan.queues.clone())),
            ("max", Json::from(self.room())),
            ("wait", Json::from(format_duration(WORK_WAIT))),
            ("lease", Json::from(format_duration(self.plan.lease))),
            ("worker", Json::from(self.plan.name.as_str())),
        ]);
        let client = self.client.clone();
        let task = self.tasks.spawn(async move {
            Event::Leased(match tell(&client, "POST", "/v1/lease", Some(&body)).await {
                Told::Well(answer) => jobs_of(&answer.body)
                    .map_err(|bad| Trouble::Refused(Failure::new(FAILURE, bad.to_string()))),
                Told::Refused(answer) => Err(Trouble::Refused(Failure::from_answer(&answer))),
                Told::Away(why) => Err(Trouble::Away(why)),
            })
        });
        self.lease.asked(now, task);
    }

    fn begin_beat(&mut self, now: Instant) {
        let state = match self.stage() {
            Stage::Draining | Stage::Quitting => "stopping",
            Stage::Working if self.running.is_empty() => "idle",
            Stage::Working => "busy",
        };
        let busy = self.busy + self.busy_since.map_or(Duration::ZERO, |since| now - since);
        let idle = (now - self.started_at).saturating_sub(busy);
        let ms = |time: Duration| Json::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let rss = SystemProbe::new("/".as_ref()).process().resident_bytes;
        let leases: Vec<String> = self.running.keys().cloned().collect();
        let body = object([
            ("pid", Json::from(std::process::id())),
            ("host", Json::from(host())),
            ("queues", Json::from(self.plan.queues.clone())),
            ("state", Json::from(state)),
            ("rss_bytes", rss.map_or(Json::Null, Json::from)),
            ("jobs_done", Json::from(self.done)),
            ("busy_ms", ms(busy)),
            ("idle_ms", ms(idle)),
            ("leases", Json::from(leases)),
            ("extend", Json::from(format_duration(self.plan.lease))),
        ]);
        let (client, path) = (self.client.clone(), self.path("/beat"));
        let task =
            self.tasks.spawn(async move { Event::Beaten(beat(&client, &path, &body).await) });
        self.beat.asked(now, task);
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Leased(answer) => {
                self.lease.asked = None;
                match answer {
                    Ok(jobs) => self.leased(jobs),
                    Err(trouble) => {
                        self.lease.again_after_pause();
                        self.trouble(trouble);
                    }
                }
            }
            Event::Beaten(answer) => {
                self.beat.asked = None;
                match answer {
                    Ok(beaten) => self.beaten(beaten),
                    Err(trouble) => {
                        self.beat.again_after_pause();
                        self.trouble(trouble);
                    }
                }
            }
            Event::Ended(ended) => self.ended(ended),
            Event::GivenBack => self.giving_back -= 1,
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Away(why) => {
                if !self.is_away {
                    say(&format!("the server is away, trying again: {why}"));
                }
                self.is_away = true;
            }
            Trouble::Refused(failure) => self.fail(failure),
        }
    }

    fn is_back(&mut self) {
        if self.is_away {
            say("the server is back");
            // It may have started anew, and not know us.
            self.beat.at = Instant::now();
        }
        self.is_away = false;
    }

    /// Ends, because it would make no sense to go on.
    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.drain();
    }

    fn leased(&mut self, jobs: Vec<LeasedJob>) {
        self.is_back();
        let was_held_back = HELD_BACK_MIN <= self.lease.since.elapsed();
        if jobs.is_empty() && !was_held_back {
            self.lease.again_after_pause();
        } else {
            self.lease.again_after(Duration::ZERO);
        }
        let now = self.clock.now().wall;
        for job in jobs {
            let job = Leased::new(job, now);
            if self.stage() == Stage::Working {
                self.start(job);
            } else {
                self.give_back(&job);
            }
        }
    }

    fn start(&mut self, job: Leased) {
        let (order, orders) = watch::channel(Order::Go);
        self.taken += 1;
        self.busy_since.get_or_insert_with(Instant::now);
        self.running.insert(job.lease.clone(), Running { job: job.id.clone(), order });
        let (plan, client) = (Arc::clone(&self.plan), self.client.clone());
        let attempt = Attempt { plan, client, job, orders, stage: self.stage.subscribe() };
        self.tasks.spawn(async move { Event::Ended(attempt.run().await) });
    }

    /// Gives a job back that came when no more was wanted.
    fn give_back(&mut self, job: &Leased) {
        let reason = "the worker ends".to_owned();
        let Some((verb, body)) = (Ending::Released { delay_ms: 0, reason }).call() else { return };
        let path = format!("/v1/leases/{}/{verb}", encoded(&job.lease));
        let client = self.client.clone();
        self.giving_back += 1;
        self.tasks.spawn(async move {
            // If that does not work, the farewell does it.
            tell(&client, "POST", &path, Some(&body)).await;
            Event::GivenBack
        });
    }

    fn ended(&mut self, ended: Ended) {
        self.running.remove(&ended.lease);
        self.done += u64::from(ended.done);
        if self.running.is_empty()
            && let Some(since) = self.busy_since.take()
        {
            self.busy += since.elapsed();
        }
        if let Some(failure) = ended.failure {
            self.fail(failure);
        }
    }

    fn beaten(&mut self, beaten: Beaten) {
        self.is_back();
        self.is_known = true;
        self.beat.again_after(self.plan.lease.min(WORKER_STALE) / 3);
        if let Some(command) = beaten.drain
            && self.stage() == Stage::Working
        {
            say(&format!("the server says {}: taking no more jobs", shown(&command)));
            self.drain();
        }
        let order = |running: &Running, order: Order| {
            running.order.send_if_modified(|given| {
                let news = *given != order;
                *given = order;
                news
            });
        };
        for (lease, running) in &self.running {
            if beaten.lost_leases.contains(lease) {
                order(running, Order::Lost);
            } else if beaten.cancelled_jobs.contains(&running.job) {
                order(running, Order::Cancel);
            }
        }
    }

    /// Takes no more jobs.
    fn drain(&mut self) {
        if self.stage() == Stage::Working {
            self.stage.send_replace(Stage::Draining);
            if let Some(asked) = &self.lease.asked {
                asked.abort();
            }
        }
    }

    fn signalled(&mut self) {
        self.signalled += 1;
        self.drain();
        match (self.signalled, self.running.len()) {
            (_, 0) => {}
            (1, jobs) => {
                let jobs = if jobs == 1 { "one job".to_owned() } else { format!("{jobs} jobs") };
                say(&format!("finishing {jobs}; a second signal stops them and gives them back"));
            }
            (2, _) => {
                self.stage.send_replace(Stage::Quitting);
                for running in self.running.values() {
                    running.order.send_replace(Order::Quit);
                }
                let within = self.plan.grace + GOODBYE_WITHIN;
                self.give_up_at = Instant::now().checked_add(within);
            }
            _ => {}
        }
    }

    /// Its time is over, and no server has ever known it.
    fn never_reached(&mut self) {
        if !self.is_known && self.signalled == 0 {
            let text = "no server was reached within --max-time";
            self.failure.get_or_insert_with(|| Failure::new(NOT_REACHABLE, text));
        }
    }

    /// Names what could not be told to the server in the end.
    fn give_up(&mut self) {
        let mut jobs: Vec<String> = self.running.values().map(|r| shown(&r.job)).collect();
        if jobs.is_empty() {
            return;
        }
        jobs.sort();
        let text = format!(
            "the server could not be told how these jobs ended, so they run again when their leases have \
             ended: {}",
            jobs.join(", ")
        );
        self.failure.get_or_insert(Failure::new(FAILURE, text));
    }
}

/// Renews the leases, and hears what the server wants.
async fn beat(client: &Client, path: &str, body: &Json) -> Result<Beaten, Trouble> {
    let answer = match tell(client, "POST", path, Some(body)).await {
        Told::Well(answer) => answer,
        Told::Refused(answer) => return Err(Trouble::Refused(Failure::from_answer(&answer))),
        Told::Away(why) => return Err(Trouble::Away(why)),
    };
    let answer = client.read(answer).map_err(|error| Trouble::Away(error.to_string()))?.body;
    // A list without items may be absent.
    let texts = |name: &str| -> Vec<String> {
        let items = answer[name].as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let command =
        answer["command"].as_str().filter(|command| matches!(*command, "drain" | "restart"));
    Ok(Beaten {
        drain: command.map(str::to_owned),
        cancelled_jobs: texts("cancel"),
        lost_leases: texts("lost"),
    })
}
