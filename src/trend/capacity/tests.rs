//! Queues beside exact figures and simulated ones.

use std::time::Duration;

use expect_test::{Expect, expect};

use super::{Advice, Advisor, Capacity, Measured, capacity, sentence};
use crate::base::rng::Rng;
use crate::testing::seeds;

const MINUTE: Duration = Duration::from_mins(1);

/// A quarter of an hour of jobs that come and go.
fn measured(arrived: f64, service: f64, workers: u32) -> Measured {
    Measured {
        window: Duration::from_mins(15),
        arrived,
        attempts: arrived,
        finished: arrived,
        worked: Duration::from_secs_f64(arrived * service),
        waiting: 0,
        running: 0,
        workers,
        shared: false,
    }
}

#[test]
fn workers_of_other_queues_too_are_not_told_to_be_too_many() {
    let shared = |arrived: f64, workers: u32| {
        let measured = Measured { shared: true, ..measured(arrived, 0.5, workers) };
        sentence(&measured, &capacity(&measured, MINUTE, 3), MINUTE)
    };
    let text = shared(900.0, 12);
    assert!(!text.contains("would do"), "{text}");
    assert!(
        text.ends_with(" of their time. Some of the workers work on other queues too."),
        "{text}"
    );
    let text = shared(900.0, 1);
    assert!(text.contains(" The worker works on other queues too."), "{text}");
    let text = shared(900.0, 0);
    assert!(text.starts_with("Nobody works") && !text.contains("other"), "{text}");
}

fn close(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= 1e-9 * expected.abs()
}

fn check(measured: &Measured, expected: &Expect) -> Capacity {
    let capacity = capacity(measured, MINUTE, 3);
    expected.assert_eq(&sentence(measured, &capacity, MINUTE));
    capacity
}

#[test]
fn a_queue_that_keeps_up_says_so_with_its_figures() {
    let measured = measured(900.0, 2.125, 4);
    let capacity = check(
        &measured,
        &expect![[
            "4 workers keep up: 60 jobs a minute arrive, each takes 2.1 s, they are busy 53 % of their time."
        ]],
    );
    assert!(close(capacity.arrivals, 1.0));
    assert!(close(capacity.utilisation.unwrap(), 0.531_25));
    assert_eq!(capacity.service, Some(Duration::from_millis(2_125)));
    assert!(close(capacity.service_rate.unwrap(), 1.0 / 2.125));
    assert_eq!(capacity.workers_needed, Some(3));
    assert_eq!(capacity.drains.len(), 7);
    assert_eq!(capacity.drains[0].workers, 1);
    assert_eq!(capacity.drains[6].workers, 7);
    assert_eq!(capacity.drains[0].takes, None);
    assert_eq!(capacity.drains[3].takes, Some(Duration::ZERO));
}

#[test]
fn a_queue_that_grows_says_how_many_workers_it_takes() {
    let measured = Measured { waiting: 1_250, running: 2, ..measured(1_350.0, 2.1, 2) };
    let capacity = check(
        &measured,
        &expect![[
            "The queue grows: 90 jobs a minute arrive and 2 workers finish 57; it takes 4 workers to keep waits below 1 min. With 4, what waits now (1,250 jobs) is worked off in about 52 min."
        ]],
    );
    assert!(1.0 < capacity.utilisation.unwrap());
    assert_eq!(capacity.expected_wait, None);
    let takes = |workers: u32| capacity.drains.iter().find(|d| d.workers == workers).unwrap().takes;
    assert_eq!(takes(3), None);
    // (1250 * 2.1 + 2 * 1.05) / (4 - 3.15)
    assert!(close(takes(4).unwrap().as_secs_f64(), 3_090.705_882_352));
}

#[test]
fn who_has_workers_and_waits_all_the_same_is_told_how_long() {
    check(
        &measured(9.0, 95.0, 1),
        &expect![[
            "1 worker keeps up, but jobs wait 30 min on average: 36 jobs an hour arrive, each takes 1.6 min, it is busy 95 % of its time; it takes 3 workers to keep waits below 1 min."
        ]],
    );
    check(
        &measured(1_350.0, 1.99, 3),
        &expect![[
            "3 workers keep up, but jobs wait 2.2 min on average: 90 jobs a minute arrive, each takes 2 s, they are busy nearly 100 % of their time; it takes 4 workers to keep waits below 1 min."
        ]],
    );
}

#[test]
fn who_has_far_more_workers_than_it_takes_is_told_how_many_do() {
    check(
        &measured(900.0, 0.5, 12),
        &expect![[
            "12 workers keep up: 60 jobs a minute arrive, each takes 500 ms, they are busy 4 % of their time; 2 would do."
        ]],
    );
    check(
        &measured(900.0, 0.001, 1),
        &expect![[
            "1 worker keeps up: 60 jobs a minute arrive, each takes 1 ms, it is busy less than 1 % of its time."
        ]],
    );
}

#[test]
fn what_waits_is_told_when_it_takes_longer_than_the_target() {
    check(
        &Measured { waiting: 400, running: 4, ..measured(900.0, 2.125, 4) },
        &expect![[
            "4 workers keep up: 60 jobs a minute arrive, each takes 2.1 s, they are busy 53 % of their time. What waits now (400 jobs) is worked off in about 7.6 min."
        ]],
    );
    check(
        &Measured { waiting: 4, running: 4, ..measured(900.0, 2.125, 4) },
        &expect![[
            "4 workers keep up: 60 jobs a minute arrive, each takes 2.1 s, they are busy 53 % of their time."
        ]],
    );
}

#[test]
fn a_queue_without_workers_says_so() {
    let nothing = measured(0.0, 0.0, 0);
    check(&nothing, &expect![["Nobody works on this queue, and nothing waits."]]);
    check(
        &Measured { waiting: 12, ..nothing },
        &expect![[
            "Nobody works on this queue: 12 jobs wait; start one: holdfast work QUEUE -- COMMAND"
        ]],
    );
    check(
        &Measured { arrived: 60.0, ..nothing },
        &expect![[
            "Nobody works on this queue: 4 jobs a minute arrive; start one: holdfast work QUEUE -- COMMAND"
        ]],
    );
    let capacity = check(
        &Measured { waiting: 1, workers: 0, ..measured(900.0, 2.1, 0) },
        &expect![[
            "Nobody works on this queue: 1 job waits; it takes 3 workers to keep waits below 1 min; start one: holdfast work QUEUE -- COMMAND"
        ]],
    );
    assert_eq!(capacity.utilisation, None);
    assert_eq!(capacity.expected_wait, None);
    assert_eq!(capacity.workers_needed, Some(3));
    assert_eq!(capacity.drains.len(), 4, "there are not fewer than no workers");
    assert_eq!(capacity.drains[0].takes, None);
}

#[test]
fn what_was_not_measured_is_not_told() {
    let nothing = measured(0.0, 0.0, 4);
    let capacity = check(
        &nothing,
        &expect![["Nothing to do in the last 15 min: no job arrived and none ended."]],
    );
    assert_eq!(capacity.service, None);
    assert_eq!(capacity.service_rate, None);
    assert_eq!(capacity.workers_needed, None);
    assert_eq!(capacity.utilisation, None);
    assert!(capacity.drains.iter().all(|drain| drain.takes.is_none()));
    check(
        &Measured { running: 1, ..nothing },
        &expect![[
            "1 job runs, and none has ended in the last 15 min: how long they take is not known yet."
        ]],
    );
    check(
        &Measured { running: 4, waiting: 12, ..nothing },
        &expect![[
            "4 jobs run, 12 jobs wait, and none has ended in the last 15 min: how long they take is not known yet."
        ]],
    );
    check(
        &Measured { waiting: 12, ..nothing },
        &expect![[
            "12 jobs wait and none has run in the last 15 min, although 4 workers are there: is the queue paused?"
        ]],
    );
    check(
        &Measured { waiting: 1, workers: 1, ..nothing },
        &expect![[
            "1 job waits and none has run in the last 15 min, although 1 worker is there: is the queue paused?"
        ]],
    );
    check(
        &Measured { arrived: 30.0, ..nothing },
        &expect![["2 jobs a minute arrive, and none was due in the last 15 min."]],
    );
}

#[test]
fn jobs_that_all_fail_tell_nothing_of_how_long_a_job_takes() {
    let measured = Measured { finished: 0.0, ..measured(40.0, 2.0, 4) };
    let capacity = check(
        &measured,
        &expect![[
            "40 attempts ended in the last 15 min and not one of them finished its job: how many workers it takes cannot be told. See why they fail."
        ]],
    );
    assert_eq!(capacity.service, Some(Duration::from_secs(2)));
    assert_eq!(capacity.service_rate, None);
    assert_eq!(capacity.workers_needed, None);
    assert!(close(capacity.attempts_per_job, 1.0));
}

#[test]
fn attempts_that_fail_count_as_work() {
    let measured = Measured { finished: 600.0, arrived: 600.0, ..measured(900.0, 2.0, 4) };
    let capacity = check(
        &measured,
        &expect![[
            "4 workers keep up: 40 jobs a minute arrive, each takes 1.5 attempts of 2 s, they are busy 50 % of their time."
        ]],
    );
    assert!(close(capacity.attempts_per_job, 1.5));
    assert!(close(capacity.utilisation.unwrap(), 0.5));
}

#[test]
fn a_few_jobs_are_called_a_few() {
    check(
        &measured(3.0, 20.0, 2),
        &expect![[
            "2 workers keep up: 12 jobs an hour arrive, each takes 20 s, they are busy 3 % of their time. This was measured on 3 jobs only."
        ]],
    );
    check(
        &measured(1.0, 20.0, 1),
        &expect![[
            "1 worker keeps up: 4 jobs an hour arrive, each takes 20 s, it is busy 2 % of its time. This was measured on 1 job only."
        ]],
    );
}

#[test]
fn what_is_left_of_a_queue_at_rest_is_told() {
    let quiet = Measured { arrived: 0.0, ..measured(100.0, 2.0, 2) };
    check(&quiet, &expect![["Nothing arrived in the last 15 min, and nothing waits."]]);
    let capacity = check(
        &Measured { waiting: 300, ..quiet },
        &expect![[
            "Nothing arrived in the last 15 min; what waits now (300 jobs) is worked off in about 5 min."
        ]],
    );
    assert_eq!(capacity.workers_needed, Some(1));
    let drain = capacity.drains.iter().find(|drain| drain.workers == 2).unwrap();
    assert_eq!(drain.takes, Some(Duration::from_mins(5)));
}

#[test]
fn more_work_than_anybody_has_workers_for_is_told_so() {
    let capacity = check(
        &measured(9e8, 2.0, 40),
        &expect![[
            "The queue grows: 1,000,000 jobs a second arrive and 40 workers finish 20; it takes more than 100,000 workers to keep waits below 1 min."
        ]],
    );
    assert_eq!(capacity.workers_needed, None);
}

#[test]
fn one_job_takes_as_long_as_a_job_takes_however_many_work() {
    let measured = Measured { waiting: 1, ..measured(9.0, 100.0, 50) };
    let capacity = capacity(&measured, MINUTE, 0);
    assert_eq!(capacity.drains.len(), 1);
    assert_eq!(capacity.drains[0].takes, Some(Duration::from_secs(100)));
}

#[test]
fn shorter_waits_and_more_jobs_never_take_fewer_workers() {
    for seed in seeds(200) {
        let mut rng = Rng::from_seed(seed);
        let service = exponent(&mut rng, -3, 3);
        let arrived = exponent(&mut rng, 0, 5);
        let needed = |arrived: f64, target: f64| {
            let measured = measured(arrived, service, 1);
            capacity(&measured, Duration::from_secs_f64(target), 0).workers_needed
        };
        let (some, more) = (needed(arrived, 60.0), needed(arrived * 1.5, 60.0));
        assert!(more.is_none_or(|more| some.is_some_and(|some| some <= more)), "seed {seed}");
        let (patient, hasty) = (needed(arrived, 60.0), needed(arrived, 1.0));
        assert!(hasty.is_none_or(|hasty| patient.is_some_and(|p| p <= hasty)), "seed {seed}");
    }
}

/// Jobs that come by chance to so many workers, first come, first served: how long they wait on average, and which part
/// of them longer than the target.
fn served(rng: &mut Rng, measured: &Measured, target: f64) -> (f64, f64) {
    let rate = measured.arrived / measured.window.as_secs_f64();
    let service = measured.worked.as_secs_f64() / measured.attempts;
    let mut free_at = vec![0.0_f64; measured.workers as usize];
    let (mut at, mut waited, mut late) = (0.0, 0.0, 0.0);
    for _ in 0..JOBS {
        at -= (1.0 - unit(rng)).ln() / rate;
        let next = free_at.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
        let begins = next.max(at);
        *next = begins - (1.0 - unit(rng)).ln() * service;
        waited += begins - at;
        late += if target < begins - at { 1.0 } else { 0.0 };
    }
    (waited / f64::from(JOBS), late / f64::from(JOBS))
}

const JOBS: u32 = 30_000;

#[test]
fn with_as_many_workers_as_are_needed_ninety_five_of_a_hundred_jobs_wait_no_longer() {
    for (seed, arrived, service) in [(1, 90.0, 8.0), (2, 300.0, 9.0), (3, 1_350.0, 2.1)] {
        let mut rng = Rng::from_seed(seed);
        let target = Duration::from_secs(3);
        let needed = capacity(&measured(arrived, service, 1), target, 0).workers_needed.unwrap();
        let enough = measured(arrived, service, needed);
        let (waited, late) = served(&mut rng, &enough, 3.0);
        let expected = capacity(&enough, target, 0).expected_wait.unwrap().as_secs_f64();
        assert!((waited / expected - 1.0).abs() < 0.15, "seed {seed}: {waited}, not {expected}");
        assert!(late < 0.055, "seed {seed}: {late} with {needed}");
        let fewer = measured(arrived, service, needed - 1);
        let (_, late) = served(&mut rng, &fewer, 3.0);
        assert!(0.045 < late, "seed {seed}: {late} with {}", needed - 1);
    }
}

/// A number between two powers of ten, every power as likely as the next.
fn exponent(rng: &mut Rng, low: i32, high: i32) -> f64 {
    10_f64.powf(f64::from(low) + unit(rng) * f64::from(high - low))
}

/// A number from 0 to below 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn unit(rng: &mut Rng) -> f64 {
    rng.below(1 << 53) as f64 / (1_u64 << 53) as f64
}

#[test]
fn whatever_was_measured_every_figure_is_a_number_and_there_are_words() {
    let wild = [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, 1e-300, 0.3, 1.0, 7.0, 1e6];
    let spans = [Duration::ZERO, Duration::from_nanos(1), MINUTE, Duration::MAX];
    for seed in seeds(300) {
        let mut rng = Rng::from_seed(seed);
        let measured = Measured {
            window: spans[rng.index(4)],
            arrived: wild[rng.index(wild.len())],
            attempts: wild[rng.index(wild.len())],
            finished: wild[rng.index(wild.len())],
            worked: spans[rng.index(4)],
            waiting: [0, 1, 12, u64::MAX][rng.index(4)],
            running: [0, 1, 12, u64::MAX][rng.index(4)],
            workers: [0, 1, 4, u32::MAX][rng.index(4)],
            shared: rng.below(2) == 0,
        };
        let target = spans[rng.index(4)];
        let capacity = capacity(&measured, target, [0, 3, u32::MAX][rng.index(3)]);
        let text = sentence(&measured, &capacity, target);
        let figures = [Some(capacity.arrivals), Some(capacity.attempts_per_job)];
        let rates = [capacity.service_rate, capacity.utilisation];
        let busy = capacity.drains.iter().map(|drain| drain.utilisation);
        for figure in figures.into_iter().chain(rates).chain(busy).flatten() {
            assert!(figure.is_finite() && 0.0 <= figure, "seed {seed}: {capacity:?}");
        }
        assert!(!capacity.drains.is_empty() && capacity.drains.len() <= 41, "seed {seed}");
        assert!(!text.is_empty() && !text.contains("NaN") && !text.contains("inf "), "{text}");
    }
}

fn told(minutes: &[(Option<u32>, u32)]) -> Advice {
    let mut advisor = Advisor::default();
    for &(needed, workers) in minutes {
        advisor.note(needed, workers);
    }
    advisor.advice()
}

#[test]
fn advice_goes_up_after_three_minutes_and_down_after_ten() {
    assert_eq!(told(&[]), Advice::Unknown);
    assert_eq!(told(&[(Some(4), 2); 2]), Advice::Unknown);
    assert_eq!(told(&[(Some(4), 2); 3]), Advice::Up(4));
    assert_eq!(told(&[(Some(2), 2), (Some(4), 2), (Some(5), 2)]), Advice::Keep);
    assert_eq!(told(&[(Some(3), 2), (Some(5), 2), (Some(4), 2)]), Advice::Up(5));
    assert_eq!(told(&[(Some(1), 6); 9]), Advice::Keep);
    assert_eq!(told(&[(Some(1), 6); 10]), Advice::Down(2));
    assert_eq!(told(&[(Some(10), 20); 10]), Advice::Down(14));
    let earlier: Vec<_> = (0..12).map(|at| (Some(if at == 0 { 4 } else { 1 }), 4)).collect();
    assert_eq!(told(&earlier), Advice::Keep, "what an advice to go up was made of is remembered");
    assert_eq!(told(&[(None, 6); 10]), Advice::Unknown);
    let gap: Vec<_> = (0..10).map(|at| ((at != 2).then_some(1), 6)).collect();
    assert_eq!(told(&gap), Advice::Keep);
    assert_eq!(told(&[(Some(u32::MAX), u32::MAX); 10]), Advice::Keep);
}

#[test]
fn a_need_that_is_now_three_and_now_four_gives_the_same_advice_all_the_time() {
    for workers in 3..=8 {
        let mut advisor = Advisor::default();
        let mut given = Vec::new();
        for minute in 0..600_u32 {
            // Every minute, then every five, then every twelve.
            let every = [1, 5, 12][(minute / 200) as usize];
            advisor.note(Some(3 + minute / every % 2), workers);
            if 10 <= minute {
                given.push(advisor.advice());
            }
        }
        given.dedup();
        let turns = given.windows(2).filter(|pair| pair[0] != pair[1]).count();
        match workers {
            3 => assert!(given.iter().all(|advice| !matches!(advice, Advice::Down(_)))),
            4 => assert_eq!(given, [Advice::Keep]),
            _ => assert!(given.iter().all(|advice| !matches!(advice, Advice::Up(_))), "{turns}"),
        }
    }
}

/// Jobs that come by chance, minute by minute, and workers as many as advised: how often advice was followed, and how
/// often it was taken back within ten minutes.
fn follow(rng: &mut Rng, rate: f64, service: f64, minutes: usize) -> (usize, usize) {
    let (mut arrivals, mut works): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut advisor = Advisor::default();
    let mut workers = 1 + u32::try_from(rng.below(40)).unwrap();
    let (mut moves, mut taken_back) = (0, 0);
    let mut last: Option<(usize, bool)> = None;
    for minute in 0..minutes {
        let (arrived, worked) = one_minute(rng, rate, service);
        arrivals.push(arrived);
        works.push(worked);
        let from = arrivals.len().saturating_sub(15);
        let arrived: f64 = arrivals[from..].iter().sum();
        let measured = Measured {
            window: Duration::from_secs(60 * (arrivals.len() - from) as u64),
            worked: Duration::from_secs_f64(works[from..].iter().sum()),
            arrived,
            attempts: arrived,
            finished: arrived,
            ..measured(0.0, 0.0, workers)
        };
        advisor.note(capacity(&measured, MINUTE, 0).workers_needed, workers);
        // The first quarter of an hour measures too little.
        let advised = match advisor.advice() {
            _ if minute < 15 => continue,
            Advice::Up(more) => (more, true),
            Advice::Down(fewer) => (fewer, false),
            Advice::Keep | Advice::Unknown => continue,
        };
        moves += 1;
        taken_back +=
            usize::from(last.is_some_and(|(at, up)| up != advised.1 && minute - at <= 10));
        (workers, last) = (advised.0, Some((minute, advised.1)));
    }
    (moves, taken_back)
}

/// Arrivals of a minute, and how long they take together.
fn one_minute(rng: &mut Rng, rate: f64, service: f64) -> (f64, f64) {
    let (mut at, mut arrived, mut worked) = (0.0, 0.0, 0.0);
    loop {
        at -= (1.0 - unit(rng)).ln() / rate;
        if 60.0 <= at {
            return (arrived, worked);
        }
        arrived += 1.0;
        worked -= (1.0 - unit(rng)).ln() * service;
    }
}

#[test]
fn advice_that_was_followed_is_not_taken_back() {
    for seed in seeds(crate::testing::amount("HOLDFAST_ADVICE_SEEDS", 8)) {
        let mut rng = Rng::from_seed(seed);
        let service = exponent(&mut rng, -1, 2);
        // From one worker busy a tenth of the time to thirty.
        let rate = exponent(&mut rng, -1, 1) * 3.0 / service;
        let rate = rate.min(5.0);
        let (moves, taken_back) = follow(&mut rng, rate, service, 1_440);
        let told = format!("seed {seed}, load {:.2}, jobs of {service:.1} s", rate * service);
        if service < 30.0 {
            // Enough jobs end in a quarter of an hour to measure what they need.
            assert!(moves <= 12 && taken_back == 0, "{told}: {moves}, {taken_back} taken back");
        }
        assert!(moves <= 48 && taken_back <= 1, "{told}: {moves}, {taken_back} taken back");
    }
}
