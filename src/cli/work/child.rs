//! A command that works at a job: started, fed, listened to, and stopped when it has to be.
//!
//! The command is the head of a process group of its own, so that what it starts is stopped with it, and a
//! Ctrl-C in our terminal does not reach it. It never waits for us: its standard input is fed while its
//! standard error is read.

use std::os::unix::process::CommandExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::ending::{Cause, Head, Remains, Tail};
use super::lease::Leased;
use super::{Order, Plan};
use crate::base::limits::{WORK_ANSWER_MARGIN, WORK_LEFTOVER};
use crate::io::child::Group;

/// Between two looks whether a group that was told to end has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What is read of a stream at once.
const CHUNK_BYTES: usize = 8 << 10;

/// Runs the command of the plan for this job to its end, or until it is told to stop it.
pub(super) async fn run(
    plan: &Plan,
    job: &Leased,
    orders: &mut watch::Receiver<Order>,
) -> std::io::Result<Remains> {
    let mut child = start(plan, job)?;
    let group = child.id().and_then(Group::of);
    let group = group.ok_or_else(|| std::io::Error::other("a command without a number"))?;
    let (errors, printed) = (Mutex::new(Tail::default()), Mutex::new(Head::default()));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let streams = async {
        tokio::join!(
            feed(stdin, &job.payload),
            pass(stderr, tokio::io::stderr(), |bytes| errors.lock().push(bytes)),
            pass(stdout, tokio::io::stdout(), |bytes| printed.lock().push(bytes)),
        );
    };
    tokio::pin!(streams);
    let mut streams = Streams { future: streams, over: false };
    let mut stop = Stop::new(group, job.within, plan.grace);
    let status = until_it_ends(&mut child, &mut streams, &mut stop, orders).await?;
    stop.settle(&mut streams).await;
    timeout(WORK_LEFTOVER, streams.flow()).await.ok();
    let printed = plan.result.then(|| std::mem::take(&mut *printed.lock()));
    let errors = std::mem::take(&mut *errors.lock());
    Ok(Remains {
        cause: stop.cause,
        status,
        errors,
        printed,
        release_delay_ms: plan.release_delay_ms,
    })
}

fn start(plan: &Plan, job: &Leased) -> std::io::Result<Child> {
    let mut command = std::process::Command::new(&plan.program);
    command.args(&plan.arguments).envs(job.environment.iter().map(|(name, value)| (name, value)));
    command.process_group(0).stdin(Stdio::piped()).stderr(Stdio::piped());
    command.stdout(if plan.result { Stdio::piped() } else { Stdio::inherit() });
    Command::from(command).spawn()
}

/// Gives the command its payload. One that does not read it, or not all, is none of our business.
async fn feed(stdin: Option<ChildStdin>, payload: &[u8]) {
    if let Some(mut stdin) = stdin {
        stdin.write_all(payload).await.ok();
    }
}

/// Shows what comes out of the command, and keeps it too.
async fn pass(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    mut keep: impl FnMut(&[u8]),
) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        keep(&chunk[..count]);
        // If nobody looks at ours any more, the command goes on all the same.
        to.write_all(&chunk[..count]).await.ok();
        to.flush().await.ok();
    }
}

/// The streams of a command, until all of them have ended.
struct Streams<F> {
    future: F,
    over: bool,
}

impl<F: Future<Output = ()> + Unpin> Streams<F> {
    /// Lets them flow until they end; for ever when they have.
    async fn flow_on(&mut self) {
        if self.over {
            std::future::pending::<()>().await;
        }
        (&mut self.future).await;
        self.over = true;
    }

    /// Lets them flow until they end.
    async fn flow(&mut self) {
        if !self.over {
            self.flow_on().await;
        }
    }
}

async fn until_it_ends<F: Future<Output = ()> + Unpin>(
    child: &mut Child,
    streams: &mut Streams<F>,
    stop: &mut Stop,
    orders: &mut watch::Receiver<Order>,
) -> std::io::Result<ExitStatus> {
    loop {
        tokio::select! {
            biased;
            status = child.wait() => return status,
            () = stop.step(orders) => {}
            () = streams.flow_on() => {}
        }
    }
}

/// When and why a command is stopped.
struct Stop {
    group: Group,
    cause: Cause,
    /// It takes too long from then on.
    late_at: Option<Instant>,
    /// It was told to end; then it is ended.
    kill_at: Option<Instant>,
    grace: Duration,
}

impl Stop {
    fn new(group: Group, within: Option<Duration>, grace: Duration) -> Stop {
        // A little before the deadline, so that the answer is there in time: afterwards the server has
        // ended the attempt itself, and knows nothing of what stood on standard error.
        let late_at = within.and_then(|within| {
            let margin = (within / 10).min(WORK_ANSWER_MARGIN);
            Instant::now().checked_add(within.saturating_sub(margin))
        });
        Stop { group, cause: Cause::Own, late_at, kill_at: None, grace }
    }

    /// Waits for the next reason to do something, and does it.
    async fn step(&mut self, orders: &mut watch::Receiver<Order>) {
        let at = if self.cause == Cause::Own { self.late_at } else { self.kill_at };
        let due = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = orders.changed() => {
                let order = *orders.borrow_and_update();
                self.obey(order);
            }
            () = due => self.go_further(),
            else => std::future::pending().await,
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Go => {}
            Order::Cancel => self.terminate(Cause::Cancelled),
            Order::Quit => self.terminate(Cause::Quit),
            Order::Lost => {
                // Somebody else runs the job: each moment counts.
                (self.cause, self.kill_at) = (Cause::Lost, None);
                self.group.kill();
            }
        }
    }

    fn terminate(&mut self, cause: Cause) {
        if self.cause == Cause::Own {
            (self.cause, self.kill_at) = (cause, Instant::now().checked_add(self.grace));
            self.group.terminate();
        }
    }

    fn go_further(&mut self) {
        if self.cause == Cause::Own {
            self.terminate(Cause::Timeout);
        } else {
            self.kill_at = None;
            self.group.kill();
        }
    }

    /// After a command that was stopped: what it started has the rest of the time to end, then it is ended.
    async fn settle<F: Future<Output = ()> + Unpin>(&mut self, streams: &mut Streams<F>) {
        if self.cause == Cause::Own {
            return;
        }
        while self.group.is_there() && self.kill_at.is_some_and(|at| Instant::now() < at) {
            timeout(LOOK_EVERY, streams.flow_on()).await.ok();
        }
        self.group.kill();
    }
}
