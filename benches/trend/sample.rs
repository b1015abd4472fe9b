//! One reading of this machine, from the files of the kernel to what is judged and told.

use std::hint::black_box;
use std::time::Duration;

use holdfast::app::outside::Machine as _;
use holdfast::base::time::{Clock as _, Now};
use holdfast::host::names::{Teller, tell};
use holdfast::host::parse::Counters;
use holdfast::host::reading::Reading;
use holdfast::host::score::score;
use holdfast::host::signals::{Beside, Signals};
use holdfast::io::host::SystemMachine;
use holdfast::testing::clock::SystemClock;

use crate::figures::{Limit, target};
use crate::micros;

/// How many samples it is told.
#[derive(Default)]
struct Count(usize);

impl Teller for Count {
    fn family(&mut self, _: &'static str, _: &'static str, _: &'static str) {}

    fn sample(&mut self, labels: &str, value: f64) {
        black_box((labels, value));
        self.0 += 1;
    }
}

pub(crate) fn scene() {
    let machine = SystemMachine::new();
    let clock = SystemClock::new();
    let mut now = clock.now();
    let mut before: Option<Counters> = None;
    let mut signals = Signals::default();
    let mut told = 0;
    let whole = micros(200, || {
        // Ten seconds pass between two of them.
        let ten = Duration::from_secs(10);
        now = Now { wall: now.wall.plus(ten), mono: now.mono.plus(ten) };
        let counters = Counters::of(&machine.read(now));
        let reading = Reading::between(before.as_ref(), &counters);
        signals.note(&reading, &Beside::default());
        black_box(score(&signals.states(), now.wall));
        let mut count = Count::default();
        tell(&counters, &reading, &mut count);
        told = count.0;
        before = Some(counters);
    });
    let read = micros(200, || drop(black_box(machine.read(now))));
    println!("  {told} figures; reading the kernel's files alone, us {read:>13.0}");
    target("a sample of the host, ms", whole / 1e3, Limit::AtMost(2.0));
    // All of it is CPU time of ours or of the kernel for us.
    target("of a core, at one in ten seconds, percent", whole / 1e7 * 100.0, Limit::AtMost(0.1));
}
