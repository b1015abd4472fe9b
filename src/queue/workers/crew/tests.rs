//! How workers spend their time, as they say it and as it is seen.

use std::time::Duration;

use super::Time;
use crate::base::id::TenantId;
use crate::base::name::QueueName;
use crate::base::rng::Rng;
use crate::base::time::{Mono, Now, Timestamp};
use crate::queue::workers::{Beat, WorkerId, Workers};
use crate::testing::seeds;

const OURS: TenantId = TenantId::from_raw(1);
const THEIRS: TenantId = TenantId::from_raw(2);

fn second(second: u64) -> Now {
    let passed = Duration::from_secs(second);
    let wall = Timestamp::from_unix_ms(1_700_000_000_000).unwrap().plus(passed);
    Now { wall, mono: Mono::from_ns(1).plus(passed) }
}

fn worker(text: &str) -> WorkerId {
    WorkerId::parse(text).unwrap()
}

fn saying(busy_ms: Option<u64>, idle_ms: Option<u64>) -> Beat {
    Beat { idle_ms, busy_ms, ..Beat::default() }
}

/// Busy and idle milliseconds of our workers.
fn time(workers: &Workers, now: Now) -> (u128, u128) {
    let time = workers.crews(now).get(&OURS).map_or(Time::default(), |crew| crew.time);
    (time.busy.as_millis(), time.idle.as_millis())
}

fn beats(beats: &[(u64, Option<u64>, Option<u64>)]) -> (u128, u128) {
    let mut workers = Workers::new();
    for (at, busy_ms, idle_ms) in beats {
        workers.beat(OURS, &worker("a"), saying(*busy_ms, *idle_ms), second(*at)).unwrap();
        workers.tick(second(*at), &|_, _| 1);
    }
    time(&workers, second(beats.last().unwrap().0))
}

#[test]
fn a_worker_that_says_how_it_spends_its_time_is_believed_as_far_as_time_passed() {
    let some = |busy, idle| (Some(busy), Some(idle));
    let both = |at: u64, (busy, idle): (Option<u64>, Option<u64>)| (at, busy, idle);
    // What was before the first beat belongs to nothing that is known.
    assert_eq!(beats(&[both(0, some(500_000, 500_000))]), (0, 0));
    let two = [both(0, some(1000, 0)), both(10, some(8000, 3000))];
    assert_eq!(beats(&two), (7000, 3000));
    // Four jobs at a time are no more than one worker.
    assert_eq!(beats(&[both(0, some(0, 0)), both(10, some(40_000, 0))]), (10_000, 0));
    assert_eq!(beats(&[both(0, some(0, 0)), both(10, some(u64::MAX, u64::MAX))]), (5000, 5000));
    // A job that is counted when it is over.
    let late = [both(0, some(0, 0)), both(20, some(0, 0)), both(40, some(0, 0))];
    assert_eq!(beats(&late), (0, 0));
    let over: Vec<_> = late.into_iter().chain([both(60, some(59_000, 1000))]).collect();
    assert_eq!(beats(&over), (59_000, 1000));
    // Counters that began anew.
    assert_eq!(beats(&[both(0, some(9000, 9000)), both(10, some(2000, 1000))]), (2000, 1000));
}

#[test]
fn one_of_the_two_says_nothing_and_it_is_looked_whether_there_is_a_job() {
    // They have a job at every look.
    assert_eq!(beats(&[(0, Some(0), None), (10, Some(0), None)]), (10_000, 0));
    assert_eq!(beats(&[(0, Some(0), None), (10, Some(4000), None)]), (10_000, 0));
    assert_eq!(beats(&[(0, None, Some(0)), (10, None, Some(4000))]), (10_000, 0));
    assert_eq!(beats(&[(0, None, Some(0)), (10, None, Some(0))]), (10_000, 0));
    // Now the one, now the other, is not both.
    assert_eq!(beats(&[(0, Some(0), None), (10, None, Some(9000))]), (10_000, 0));
    // One that learns to say both is believed from the second time on; one that forgets it is looked at again.
    let learns = [(0, Some(0), None), (10, Some(1000), Some(0)), (20, Some(4000), Some(7000))];
    assert_eq!(beats(&learns), (3000, 7000));
    let forgets = [(0, Some(0), Some(0)), (10, Some(1000), Some(9000)), (20, Some(2000), None)];
    assert_eq!(beats(&forgets), (11_000, 9000));
    // A beat that says nothing of time changes nothing.
    let silent = [(0, Some(0), Some(0)), (10, None, None), (20, Some(5000), Some(15_000))];
    assert_eq!(beats(&silent), (5000, 15_000));
}

#[test]
fn of_a_worker_that_does_not_say_it_is_looked_whether_it_has_a_job() {
    let mut workers = Workers::new();
    let (busy, lazy) = (worker("busy"), worker("lazy"));
    let holds = |_: TenantId, id: &WorkerId| usize::from(id.as_str() == "busy");
    workers.seen(OURS, &busy, &[], second(0));
    workers.seen(OURS, &lazy, &[], second(5));
    workers.tick(second(10), &holds);
    assert_eq!(time(&workers, second(10)), (10_000, 5000));
    // Nobody hears of them: who has a job works on it, who has none is not there.
    for now in (20..=200).step_by(10) {
        workers.tick(second(now), &holds);
    }
    assert_eq!(time(&workers, second(200)), (200_000, 55_000));
    workers.seen(OURS, &lazy, &[], second(205));
    workers.tick(second(210), &holds);
    assert_eq!(time(&workers, second(210)), (210_000, 65_000));
    // A look that comes late counts no more than a minute.
    workers.tick(second(100_000), &holds);
    assert_eq!(time(&workers, second(100_000)), (270_000, 65_000));
    assert!(!workers.crews(second(0)).contains_key(&THEIRS));
    assert_eq!(workers.forget_tenant(OURS), 2);
    assert!(workers.crews(second(0)).is_empty(), "a tenant that is gone leaves nothing");
}

#[test]
fn no_worker_has_more_time_than_passed_whatever_it_says() {
    for seed in seeds(200) {
        let mut rng = Rng::from_seed(seed);
        let mut workers = Workers::new();
        let (mut now, mut before) = (0, (0, 0));
        for _ in 0..40 {
            now += rng.below(100);
            let figure = |rng: &mut Rng| match rng.below(4) {
                0 => None,
                1 => Some(rng.below(1000)),
                2 => Some(now * 1000),
                _ => Some(rng.next_u64()),
            };
            let beat = saying(figure(&mut rng), figure(&mut rng));
            if rng.below(3) == 0 {
                workers.seen(OURS, &worker("a"), &[], second(now));
            } else {
                workers.beat(OURS, &worker("a"), beat, second(now)).unwrap();
            }
            let has = rng.below(2) == 0;
            workers.tick(second(now), &|_, _| usize::from(has));
            let told = time(&workers, second(now));
            assert!(before.0 <= told.0 && before.1 <= told.1, "seed {seed}: it only grows");
            assert!(
                told.0 + told.1 <= u128::from(now) * 1000 + 1,
                "seed {seed}: {told:?} in {now} s"
            );
            before = told;
        }
    }
}

#[test]
fn memory_and_processor_are_means_of_those_who_are_there_and_say_so() {
    let mut workers = Workers::new();
    let saying = |rss_bytes, cpu_percent| Beat { rss_bytes, cpu_percent, ..Beat::default() };
    workers.beat(OURS, &worker("stale"), saying(Some(1 << 40), Some(99.0)), second(0)).unwrap();
    let now = second(100);
    workers.beat(OURS, &worker("a"), saying(Some(100), None), now).unwrap();
    workers.beat(OURS, &worker("b"), saying(Some(300), Some(12.5)), now).unwrap();
    workers.beat(OURS, &worker("c"), saying(None, Some(0.5)), now).unwrap();
    workers.beat(OURS, &worker("gone"), saying(Some(1 << 40), Some(99.0)), now).unwrap();
    workers.goodbye(OURS, &worker("gone"), now);
    let crew = workers.crews(now)[&OURS].clone();
    assert_eq!((crew.memory_bytes, crew.cpu_percent), (Some(200.0), Some(6.5)));
    let states: Vec<_> = crew.states.into_iter().filter(|(_, count)| 0 < *count).collect();
    assert_eq!(states, [("gone", 1), ("idle", 3), ("stale", 1)]);
}

#[test]
fn a_worker_has_as_many_places_as_it_was_seen_with_jobs() {
    let mut workers = Workers::new();
    let (many, one) = (worker("many"), worker("one"));
    let queue = QueueName::parse("mail").unwrap();
    for id in [&many, &one] {
        workers.seen(OURS, id, std::slice::from_ref(&queue), second(0));
    }
    let places = |workers: &Workers| workers.counts(OURS, second(5))[&queue].places;
    assert_eq!(places(&workers), 2, "nobody was seen with a job");
    workers.tick(second(10), &|_, id| if id.as_str() == "many" { 4 } else { 1 });
    assert_eq!(places(&workers), 5);
    workers.tick(second(20), &|_, _| 0);
    assert_eq!(places(&workers), 5, "it waits, and has them still");
}
