//! Queries against a memory and a file as they come about, compared with plain loops over everything that was written.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers of a test are small, and compared to the bit where that is meant"
)]

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::base::rng::Rng;
use crate::base::time::Timestamp;
use crate::series::block;
use crate::series::fold::reduce;
use crate::series::fold::tests::{assert_same, naive};
use crate::series::memory::{Incoming, Name};
use crate::series::point::{self, Common};
use crate::series::rows::{self, SpanRow};
use crate::series::sketch::Sketch;
use crate::series::{DAY_MS, FIVE_MINUTES_MS, HOUR_MS, Kind, LOOK_BACK_MS, seal};
use crate::store::{Commit, Engine, Finish, Table, Write};
use crate::testing::model::Model;
use crate::testing::seeds;

/// A column, and its points by step.
type Numbered = (u16, Vec<(u32, point::Point)>);

const MINUTE: i64 = 60_000;
/// A day that is no multiple of a span of any tier.
const DAY: i64 = 20_003;
const T0: i64 = DAY * DAY_MS;

fn tenant() -> TenantId {
    TenantId::from_raw(7)
}

/// A memory, a file, and everything that was written.
struct World {
    engine: Model,
    memory: Mutex<Memory>,
    truth: BTreeMap<Labels, BTreeMap<i64, f64>>,
    expired: bool,
}

impl Source for World {
    fn read(
        &self,
        body: &mut dyn FnMut(&dyn Read) -> Result<(), RowError>,
    ) -> Result<(), RowError> {
        let mut result = Ok(());
        self.engine.read(&mut |view| {
            result = body(view);
            Ok(())
        })?;
        result
    }

    fn memory(&self, body: &mut dyn FnMut(&mut Memory)) {
        body(&mut self.memory.lock().unwrap());
    }

    fn expired(&self) -> bool {
        self.expired
    }
}

fn labels(metric: &str, pairs: &[(&str, &str)]) -> Labels {
    Labels::new(metric, pairs.iter().copied()).unwrap()
}

impl World {
    fn new() -> World {
        World {
            engine: Model::default(),
            memory: Mutex::new(Memory::default()),
            truth: BTreeMap::new(),
            expired: false,
        }
    }

    fn write(&mut self, now_ms: i64, samples: &[(&Labels, i64, f64)]) {
        let incoming: Vec<Incoming<'_>> = samples
            .iter()
            .map(|(labels, at, value)| Incoming {
                place: 0,
                name: Name::Labels((*labels).clone()),
                kind: labels.metric().starts_with("spread").then_some(Kind::Distribution),
                time_ms: Some(*at),
                value: *value,
            })
            .collect();
        let now = Timestamp::from_unix_ms(now_ms).unwrap();
        let memory = self.memory.get_mut().unwrap();
        let written = memory.write(now, tenant(), 10_000, &incoming).unwrap();
        assert_eq!(written.refused_count, 0, "{:?}", written.refused);
        for (labels, at, value) in samples {
            self.truth.entry((*labels).clone()).or_default().insert(*at, *value);
        }
    }

    /// Writes a sample and forgets that it did, for those that must not be found.
    fn change(&self, body: &mut dyn FnMut(&mut dyn Write)) {
        self.engine
            .write(Commit::Plain, &mut |tx| {
                tx.begin()?;
                body(tx);
                tx.keep()?;
                Ok(Finish::Commit)
            })
            .unwrap();
    }

    /// Begins to seal what is due.
    fn begin(&mut self, now_ms: i64) {
        seal::begin(self.memory.get_mut().unwrap(), now_ms);
    }

    /// Seals what is due.
    fn seal(&mut self, now_ms: i64) {
        let places = seal::begin(self.memory.get_mut().unwrap(), now_ms);
        for (place, open) in places {
            let mut sealed = None;
            let read = Source::read(self, &mut |view| {
                sealed = Some(seal::plan(view, place, &open, &|_| true)?.0);
                Ok(())
            });
            read.unwrap();
            let sealed = sealed.unwrap();
            let mut committed = None;
            self.change(&mut |tx| committed = Some(seal::commit(tx, &sealed).unwrap()));
            self.memory.get_mut().unwrap().sealed(place, committed.unwrap());
        }
    }

    /// Puts the points of these days into the file, and says that they are valid.
    fn roll(&mut self, days: &[u32]) {
        let memory = self.memory.get_mut().unwrap();
        memory.rolled.extend(days);
        let rolled = memory.rolled.clone();
        let entries: Vec<Entry> = memory.index().all().cloned().collect();
        let truth = &self.truth;
        let mut spans = Vec::new();
        for tier in Tier::POINTS {
            let mut written: Vec<u32> =
                days.iter().map(|day| tier.span_of(i64::from(*day) * DAY_MS)).collect();
            written.dedup();
            for span in written {
                let start = tier.span_start(span);
                let mut groups: BTreeMap<_, Vec<Numbered>> = BTreeMap::new();
                for entry in &entries {
                    let within = truth[&entry.labels].range(start..start + tier.span_ms());
                    let of_rolled =
                        |at: &i64| rolled.contains(&u32::try_from(at / DAY_MS).unwrap());
                    let samples: Vec<(i64, f64)> = within
                        .filter(|(at, _)| of_rolled(at))
                        .map(|(at, value)| (*at, *value))
                        .collect();
                    let sketch = entry.kind == Kind::Distribution;
                    let fives = point::five_minutes(&samples, sketch);
                    let points = point::joined(&fives, tier.step_ms());
                    let number = |at: i64| u32::try_from((at - start) / tier.step_ms()).unwrap();
                    let points: Vec<_> =
                        points.into_iter().map(|(at, point)| (number(at), point)).collect();
                    if !points.is_empty() {
                        groups.entry(entry.group).or_default().push((entry.column, points));
                    }
                }
                for (group, columns) in groups {
                    spans.push((tier, span, group, columns));
                }
            }
        }
        for (tier, span, group, columns) in spans {
            let start = tier.span_start(span);
            let all = columns.iter().map(|(_, points)| &points[..]);
            let common = Common::of(start, tier.step_ms(), all);
            let mut head = Vec::new();
            common.encode(&mut head);
            let mut rows = vec![(rows::block_key(span, group, 0, 0), block::seal(&head))];
            let mut encoded = Vec::new();
            for (column, points) in &columns {
                let mut bytes = Vec::new();
                point::encode(points, &common, &mut bytes);
                encoded.push((*column, bytes));
            }
            for part in block::parts(&encoded) {
                rows.push((rows::block_key(span, group, 0, part.first + 1), part.bytes));
            }
            let mut row = SpanRow::default();
            self.change(&mut |tx| row = rows::replace(tx, tier, (span, group, 0), &rows).unwrap());
            self.memory.get_mut().unwrap().set_span((tier, span), row);
        }
    }

    /// Takes the spans of a tier up to a moment away, as age does.
    fn expire(&mut self, tier: Tier, until_ms: i64) {
        let memory = self.memory.get_mut().unwrap();
        let gone: Vec<u32> = memory
            .spans
            .range((tier, 0)..(tier, tier.span_of(until_ms)))
            .map(|((_, span), _)| *span)
            .collect();
        for span in gone {
            self.memory.get_mut().unwrap().set_span((tier, span), SpanRow::default());
            self.change(&mut |tx| {
                let range = crate::store::KeyRange::prefix(&rows::span_prefix(span));
                tx.delete_range(tier.table(), &range, 1000).unwrap();
            });
        }
    }

    fn ask(&self, query: &Query) -> Result<Answer, Error> {
        answer(self, tenant(), query)
    }

    #[track_caller]
    fn bad(&self, query: &Query) -> BadQuery {
        match self.ask(query) {
            Err(Error::Query(bad)) => bad,
            other => panic!("{other:?}"),
        }
    }

    /// Everything that was written of a series, for plain loops.
    fn samples(&self, labels: &Labels) -> Vec<(i64, f64)> {
        self.truth[labels].iter().map(|(at, value)| (*at, *value)).collect()
    }

    /// What plain loops say of a series.
    fn naive(&self, function: Function, answer: &Answer, labels: &Labels) -> Vec<Option<f64>> {
        let samples = self.samples(labels);
        let steps = answer.steps;
        match function {
            Function::Quantile(part) if answer.tier != Tier::Raw => {
                let step = |n: i64| {
                    let from = steps.from_ms + n * steps.step_ms;
                    let mut sketch = Sketch::default();
                    let within =
                        samples.iter().filter(|(at, _)| (from..from + steps.step_ms).contains(at));
                    let count = within.map(|(_, value)| sketch.add(*value)).count();
                    (0 < count).then(|| sketch.quantile(part).unwrap_or(f64::NAN))
                };
                (0..).take(steps.count()).map(step).collect()
            }
            function => naive(function, steps, &samples),
        }
    }

    /// Compares an answer with plain loops.
    #[track_caller]
    fn check(&self, query: &Query, what: &dyn std::fmt::Debug) -> Answer {
        let answer = self.ask(query).unwrap_or_else(|error| panic!("{error}: {what:?}"));
        let memory = self.memory.lock().unwrap();
        let entries = memory.index().select(tenant(), &query.select);
        let together = query.reduce.or(query.by.as_ref().map(|_| Reduce::Sum));
        let mut groups: BTreeMap<_, Vec<Vec<Option<f64>>>> = BTreeMap::new();
        for entry in entries {
            let values = self.naive(query.function, &answer, &entry.labels);
            let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            let mut pairs: Vec<_> = entry.labels.pairs().map(text).collect();
            let mut metric = Some(entry.labels.metric().to_owned());
            if together.is_some() {
                let by = query.by.clone().unwrap_or_default();
                pairs.retain(|(name, _)| by.contains(name));
                metric = None;
            }
            groups.entry((pairs, metric)).or_default().push(values);
        }
        assert_eq!(answer.lines.len(), groups.len(), "{what:?}");
        for (line, ((pairs, metric), values)) in answer.lines.iter().zip(groups) {
            assert_eq!((&line.labels, &line.metric), (&pairs, &metric), "{what:?}");
            let values: Vec<&[Option<f64>]> = values.iter().map(Vec::as_slice).collect();
            let wanted = match together {
                Some(how) => reduce(how, &values),
                None => values[0].to_vec(),
            };
            let told: Vec<Option<f64>> = line.points.iter().map(|(_, value)| *value).collect();
            assert_same(&told, &wanted, &(what, query, &answer.tier, &answer.steps));
            let moments: Vec<i64> = line.points.iter().map(|(at, _)| *at).collect();
            let steps = answer.steps;
            let starts: Vec<i64> =
                (0..).map(|n| steps.from_ms + n * steps.step_ms).take(steps.count()).collect();
            assert_eq!(moments, starts, "{what:?}");
        }
        answer
    }
}

fn query(select: &str, function: Function, (from_ms, to_ms): (i64, i64), step_ms: i64) -> Query {
    Query {
        select: Selector::parse(select).unwrap(),
        function,
        by: None,
        reduce: None,
        from_ms,
        to_ms,
        step_ms: Some(step_ms),
        now_ms: to_ms,
    }
}

/// The values of the only line.
#[track_caller]
fn values(answer: &Answer) -> Vec<Option<f64>> {
    assert_eq!(answer.lines.len(), 1);
    answer.lines[0].points.iter().map(|(_, value)| *value).collect()
}

/// Writes a series with a value each `every_ms`, sealing hours as they end.
fn fill(world: &mut World, labels: &Labels, (from_ms, to_ms): (i64, i64), every_ms: i64) {
    let mut at = from_ms;
    let mut hour = from_ms / HOUR_MS;
    while at < to_ms {
        if hour != at / HOUR_MS {
            world.seal(at + 2 * MINUTE);
            hour = at / HOUR_MS;
        }
        let value = ((at / 1000) % 977) as f64 / 10.0;
        world.write(at, &[(labels, at, value)]);
        at += every_ms;
    }
    world.seal(at + HOUR_MS);
}

const FUNCTIONS: [Function; 9] = [
    Function::Avg,
    Function::Min,
    Function::Max,
    Function::Sum,
    Function::Count,
    Function::Last,
    Function::Rate,
    Function::Increase,
    Function::Quantile(0.9),
];

/// Some days in the life of a few series: gaps, late samples, hours that are open, being sealed and sealed, days that
/// are valid and days that are not any more. Asked now and then.
fn life(seed: u64) {
    let mut rng = Rng::from_seed(seed);
    let mut world = World::new();
    let hosts = ["a", "b", "c"];
    let series: Vec<Labels> = ["up", "x_total", "spread"]
        .iter()
        .flat_map(|metric| hosts.iter().map(|host| labels(metric, &[("host", host), ("env", "p")])))
        .collect();
    let days = 2 + rng.below(7) as i64;
    let mut value = 0.0;
    for hour in 0..days * 24 {
        let start = T0 + hour * HOUR_MS;
        let every = [MINUTE, 4 * MINUTE, 7 * MINUTE, 20 * MINUTE][rng.index(4)];
        let mut at = start;
        while at < start + HOUR_MS {
            let mut row = Vec::new();
            for labels in &series {
                if rng.one_in(5) {
                    continue;
                }
                value = if rng.one_in(60) { 0.0 } else { value + rng.below(100) as f64 / 7.0 };
                row.push((labels, at, value));
            }
            world.write(at, &row);
            if rng.one_in(40) {
                let late = at - rng.below(DAY_MS as u64 - 1) as i64;
                world.write(at, &[(&series[rng.index(9)], late, -1.0)]);
            }
            at += every + rng.below(MINUTE as u64) as i64;
        }
        let now = start + HOUR_MS + 2 * MINUTE;
        match rng.below(4) {
            0 => world.begin(now),
            1 | 2 => world.seal(now),
            _ => {}
        }
        if rng.one_in(8) {
            let today = u32::try_from(start / DAY_MS).unwrap();
            let due: Vec<u32> = (DAY as u32..today)
                .filter(|day| !world.memory.get_mut().unwrap().is_open(*day))
                .filter(|_| !rng.one_in(4))
                .collect();
            world.roll(&due);
        }
        if rng.one_in(30) || hour + 1 == days * 24 {
            ask_some(&world, &mut rng, seed, now);
        }
    }
}

fn ask_some(world: &World, rng: &mut Rng, seed: u64, now: i64) {
    for round in 0..8 {
        let range = [HOUR_MS, 6 * HOUR_MS, DAY_MS, 3 * DAY_MS, 9 * DAY_MS][rng.index(5)];
        let to_ms = now - rng.below(range as u64) as i64 + [0, 0, HOUR_MS][rng.index(3)];
        let steps = [
            30_000,
            MINUTE,
            FIVE_MINUTES_MS,
            7 * MINUTE,
            15 * MINUTE,
            HOUR_MS,
            3 * HOUR_MS,
            DAY_MS,
            2 * DAY_MS,
        ];
        let step_ms = steps[rng.index(9)].max(range / 3000);
        let texts =
            ["up", "x_total{host=~\"a|b\"}", "spread", "{env=\"p\",host!=\"b\"}", "{host=\"a\"}"];
        let mut query = query(
            texts[rng.index(5)],
            FUNCTIONS[rng.index(9)],
            (to_ms - range - rng.below(range as u64) as i64, to_ms),
            step_ms,
        );
        query.now_ms = now;
        if rng.one_in(4) {
            query.step_ms = None;
        }
        if rng.one_in(2) {
            let how = [Reduce::Sum, Reduce::Avg, Reduce::Min, Reduce::Max][rng.index(4)];
            query.reduce = Some(how);
        }
        if rng.one_in(3) && query.reduce.is_some() {
            query.by = Some(vec!["host".into(), "rack".into()]);
        }
        world.check(&query, &(seed, round));
    }
}

#[test]
fn answers_are_what_plain_loops_over_everything_written_say() {
    for seed in seeds(12) {
        life(seed);
    }
}

#[test]
fn what_is_open_lies_over_what_is_sealed() {
    let mut world = World::new();
    let up = labels("up", &[]);
    world.write(T0, &[(&up, T0, 1.0), (&up, T0 + 1000, 2.0), (&up, T0 + 2000, 3.0)]);
    world.seal(T0 + 2 * HOUR_MS);
    world.write(T0 + 2 * HOUR_MS, &[(&up, T0 + 1000, 20.0)]);
    world.begin(T0 + 4 * HOUR_MS);
    world.write(T0 + 4 * HOUR_MS, &[(&up, T0 + 2000, 30.0), (&up, T0 + 3000, 40.0)]);
    let mut all = query("up", Function::Raw, (T0, T0 + HOUR_MS), 1);
    all.step_ms = None;
    let answer = world.ask(&all).unwrap();
    assert_eq!(values(&answer), [Some(1.0), Some(20.0), Some(30.0), Some(40.0)]);
    assert_eq!(answer.tier, Tier::Raw);
}

#[test]
fn from_is_floored_and_to_is_ceiled_to_the_step() {
    let mut world = World::new();
    let up = labels("up", &[]);
    world.write(T0, &[(&up, T0, 1.0), (&up, T0 + 59_999, 2.0), (&up, T0 + 60_000, 4.0)]);
    let answer =
        world.ask(&query("up", Function::Sum, (T0 + 59_000, T0 + 59_500), MINUTE)).unwrap();
    assert_eq!((answer.steps.from_ms, answer.steps.to_ms), (T0, T0 + MINUTE));
    assert_eq!(answer.lines[0].points, [(T0, Some(3.0))]);
    let answer = world.ask(&query("up", Function::Sum, (T0, T0 + MINUTE), MINUTE)).unwrap();
    assert_eq!(answer.steps.count(), 1, "what is a multiple stays");
}

#[test]
fn without_a_step_there_are_at_most_300_points() {
    let world = World::new();
    let steps = [
        (50 * MINUTE, 10_000),
        (HOUR_MS, 15_000),
        (6 * HOUR_MS, 2 * MINUTE),
        (DAY_MS, 5 * MINUTE),
        (7 * DAY_MS, HOUR_MS),
        (30 * DAY_MS, 3 * HOUR_MS),
        (365 * DAY_MS, 7 * DAY_MS),
        (20_000 * DAY_MS, 112 * DAY_MS),
    ];
    for (range, step) in steps {
        let mut query = query("up", Function::Avg, (T0 - range, T0), 1);
        query.step_ms = None;
        let answer = world.ask(&query).unwrap();
        assert_eq!(answer.steps.step_ms, step, "{range}");
        assert!(answer.steps.count() <= 300, "{range}");
    }
}

#[test]
fn the_step_says_the_resolution() {
    let world = World::new();
    let tiers = [
        (10_000, Tier::Raw),
        (7 * MINUTE, Tier::Raw),
        (5 * MINUTE, Tier::FiveMinutes),
        (90 * MINUTE, Tier::FiveMinutes),
        (6 * HOUR_MS, Tier::Hour),
        (2 * DAY_MS, Tier::Day),
    ];
    for (step, tier) in tiers {
        let answer = world.ask(&query("up", Function::Avg, (T0, T0 + DAY_MS), step)).unwrap();
        assert_eq!((answer.tier, answer.steps.step_ms), (tier, step));
    }
}

/// Ten days of a series, all rolled up, with three days of raw samples and six of five-minute points left.
fn aged(metric: &str) -> (World, i64) {
    let mut world = World::new();
    let labels = labels(metric, &[]);
    let now = T0 + 10 * DAY_MS;
    fill(&mut world, &labels, (T0, now), 11 * MINUTE);
    let days: Vec<u32> = (DAY as u32..DAY as u32 + 10).collect();
    world.roll(&days);
    world.expire(Tier::Raw, now - 3 * DAY_MS);
    world.expire(Tier::FiveMinutes, now - 6 * DAY_MS);
    (world, now)
}

#[test]
fn what_is_older_than_its_resolution_comes_from_the_finest_that_is_left() {
    let (world, now) = aged("up");
    let ask = |days: i64, step| {
        let query = query("up", Function::Avg, (now - days * DAY_MS + 5 * MINUTE, now), step);
        let answer = world.check(&query, &days);
        (answer.tier, answer.steps.step_ms)
    };
    assert_eq!(ask(2, 4 * MINUTE), (Tier::Raw, 4 * MINUTE));
    assert_eq!(ask(5, 4 * MINUTE), (Tier::FiveMinutes, 5 * MINUTE));
    assert_eq!(ask(5, 7 * MINUTE), (Tier::FiveMinutes, 10 * MINUTE), "a multiple of its points");
    assert_eq!(ask(9, 4 * MINUTE), (Tier::Hour, HOUR_MS));
    assert_eq!(ask(9, 100 * MINUTE), (Tier::Hour, 2 * HOUR_MS));
    assert_eq!(ask(30, 10 * MINUTE), (Tier::Hour, HOUR_MS), "the one that reaches farthest back");
    assert_eq!(ask(30, 3 * DAY_MS), (Tier::Day, 3 * DAY_MS));
}

#[test]
fn all_functions_are_right_at_every_resolution_with_what_came_before_the_first_step() {
    let (world, now) = aged("up");
    for function in &FUNCTIONS[..8] {
        for (days, step) in
            [(2, MINUTE), (5, 5 * MINUTE), (5, 15 * MINUTE), (9, HOUR_MS), (9, DAY_MS)]
        {
            world.check(
                &query("up", *function, (now - days * DAY_MS + HOUR_MS, now), step),
                &(days, step),
            );
        }
    }
}

#[test]
fn a_young_server_answers_from_before_its_start_with_what_it_has() {
    let mut world = World::new();
    let up = labels("up", &[]);
    fill(&mut world, &up, (T0 + 5 * HOUR_MS, T0 + 2 * DAY_MS), 10 * MINUTE);
    world.roll(&[DAY as u32]);
    let to = T0 + 2 * DAY_MS;
    let answer = world.check(&query("up", Function::Sum, (T0 - DAY_MS, to), MINUTE), &"");
    assert_eq!(answer.tier, Tier::Raw, "spans of points begin earlier, but hold nothing earlier");
}

#[test]
fn percentiles_of_other_series_are_known_while_raw_samples_are_there() {
    let (world, now) = aged("up");
    let ask =
        |days: i64, step| query("up", Function::Quantile(0.5), (now - days * DAY_MS, now), step);
    assert_eq!(world.check(&ask(2, HOUR_MS), &"").tier, Tier::Raw, "whatever the step");
    let bad = world.bad(&ask(5, HOUR_MS));
    assert_eq!(bad, BadQuery::NoDistribution("up".into()));
    assert_eq!(bad.code(), "no_distribution");
}

#[test]
fn percentiles_of_distributions_come_from_sketches_where_points_are_read() {
    let (world, now) = aged("spread");
    for (days, step, tier) in [
        (2, MINUTE, Tier::Raw),
        (2, HOUR_MS, Tier::Hour),
        (9, 5 * MINUTE, Tier::Hour),
        (9, 2 * DAY_MS, Tier::Day),
    ] {
        let query = query("spread", Function::Quantile(0.95), (now - days * DAY_MS, now), step);
        assert_eq!(world.check(&query, &(days, step)).tier, tier);
    }
}

#[test]
fn late_samples_of_a_day_that_was_rolled_up_are_seen_at_once_and_after_they_were_sealed() {
    let mut world = World::new();
    let up = labels("up", &[]);
    fill(&mut world, &up, (T0, T0 + DAY_MS), 10 * MINUTE);
    world.roll(&[DAY as u32]);
    let day = query("up", Function::Max, (T0, T0 + DAY_MS), HOUR_MS);
    world.check(&day, &"rolled");
    let now = T0 + DAY_MS + HOUR_MS;
    world.write(now, &[(&up, T0 + 3 * HOUR_MS + 1, 1e9)]);
    assert_eq!(values(&world.check(&day, &"open"))[3], Some(1e9));
    world.begin(now + 2 * HOUR_MS);
    assert_eq!(values(&world.check(&day, &"being sealed"))[3], Some(1e9));
    world.seal(now + 2 * HOUR_MS);
    assert_eq!(values(&world.check(&day, &"sealed"))[3], Some(1e9));
    assert_eq!(world.ask(&day).unwrap().tier, Tier::Hour);
}

#[test]
fn by_adds_and_reduce_alone_makes_one_of_all() {
    let mut world = World::new();
    let of = |host, disk| labels("used", &[("host", host), ("disk", disk)]);
    let (a1, a2, b1) = (of("a", "1"), of("a", "2"), of("b", "1"));
    let alone = labels("used", &[("disk", "1")]);
    world.write(T0, &[(&a1, T0, 1.0), (&a2, T0, 2.0), (&b1, T0, 4.0), (&alone, T0, 8.0)]);
    let ask = |by: Option<&[&str]>, reduce| {
        let mut query = query("used", Function::Avg, (T0, T0 + MINUTE), MINUTE);
        query.by = by.map(|by| by.iter().map(|name| (*name).to_owned()).collect());
        query.reduce = reduce;
        let answer = world.ask(&query).unwrap();
        let line = |line: &Line| {
            assert_eq!(line.metric, None);
            let labels: Vec<String> = line.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            (labels.join(","), line.points[0].1.unwrap())
        };
        answer.lines.iter().map(line).collect::<Vec<_>>()
    };
    let text = |lines: &[(&str, f64)]| {
        lines.iter().map(|(labels, value)| ((*labels).to_owned(), *value)).collect::<Vec<_>>()
    };
    assert_eq!(ask(Some(&["host"]), None), text(&[("", 8.0), ("host=a", 3.0), ("host=b", 4.0)]));
    assert_eq!(ask(None, Some(Reduce::Max)), text(&[("", 8.0)]));
    assert_eq!(ask(Some(&[]), None), text(&[("", 15.0)]));
    assert_eq!(
        ask(Some(&["disk"]), Some(Reduce::Avg)),
        text(&[("disk=1", 13.0 / 3.0), ("disk=2", 2.0)])
    );
    assert_eq!(
        ask(Some(&["host", "disk", "host"]), Some(Reduce::Min)),
        text(&[
            ("disk=1", 8.0),
            ("disk=1,host=a", 1.0),
            ("disk=1,host=b", 4.0),
            ("disk=2,host=a", 2.0)
        ]),
    );
    assert_eq!(ask(Some(&["__name__"]), None), text(&[("__name__=used", 15.0)]));
}

#[test]
fn lines_are_sorted_by_labels_then_by_metric() {
    let mut world = World::new();
    let series =
        [labels("b", &[("x", "1")]), labels("a", &[("x", "2")]), labels("a", &[("x", "1")])];
    let row: Vec<_> = series.iter().map(|labels| (labels, T0, 1.0)).collect();
    world.write(T0, &row);
    let answer = world.ask(&query("{x=~\".+\"}", Function::Sum, (T0, T0 + 1), MINUTE)).unwrap();
    let told: Vec<_> = answer
        .lines
        .iter()
        .map(|line| (line.labels[0].1.as_str(), line.metric.as_deref().unwrap()))
        .collect();
    assert_eq!(told, [("1", "a"), ("1", "b"), ("2", "a")]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = World::new();
    let good = query("up", Function::Avg, (T0, T0 + HOUR_MS), MINUTE);
    assert_eq!(world.bad(&Query { to_ms: T0, ..good.clone() }), BadQuery::Range);
    assert_eq!(world.bad(&Query { to_ms: T0 - 1, ..good.clone() }), BadQuery::Range);
    assert_eq!(world.bad(&Query { to_ms: i64::MAX, ..good.clone() }), BadQuery::Range);
    assert_eq!(world.bad(&Query { from_ms: i64::MIN, ..good.clone() }), BadQuery::Range);
    for step in [0, -1, i64::MIN, i64::MAX] {
        let bad = world.bad(&Query { step_ms: Some(step), ..good.clone() });
        assert_eq!(bad.code(), "invalid_step", "{step}");
    }
    let raw = Query { function: Function::Raw, ..good.clone() };
    assert_eq!(world.bad(&raw).code(), "invalid_step", "raw has none");
    let raw = Query { step_ms: None, ..raw };
    let by = Some(vec!["host".to_owned()]);
    assert_eq!(world.bad(&Query { by: by.clone(), ..raw.clone() }).code(), "invalid_reduce");
    let reduce = Some(Reduce::Max);
    assert_eq!(world.bad(&Query { reduce, ..raw }).code(), "invalid_reduce");
    let percentile = Query { function: Function::Quantile(0.5), ..good };
    let bad = world.bad(&Query { by: by.clone(), ..percentile.clone() });
    assert_eq!(bad, BadQuery::Reduce("percentiles do not add up; say reduce=max, min or avg"));
    assert!(world.ask(&Query { by, reduce, ..percentile }).is_ok());
}

/// A source whose file must not be looked at.
struct Unread<'w>(&'w World);

impl Source for Unread<'_> {
    fn read(&self, _: &mut dyn FnMut(&dyn Read) -> Result<(), RowError>) -> Result<(), RowError> {
        panic!("it is read");
    }

    fn memory(&self, body: &mut dyn FnMut(&mut Memory)) {
        self.0.memory(body);
    }

    fn expired(&self) -> bool {
        false
    }
}

#[test]
fn what_is_too_much_is_refused_before_anything_is_read() {
    let mut world = World::new();
    let all: Vec<Labels> = (0..300).map(|n| labels("up", &[("n", &n.to_string())])).collect();
    let row: Vec<_> = all.iter().map(|labels| (labels, T0, 1.0)).collect();
    world.write(T0, &row);
    let bad = |query: &Query| match answer(&Unread(&world), tenant(), query) {
        Err(Error::Query(bad)) => bad,
        other => panic!("{other:?}"),
    };
    let most = query("up", Function::Avg, (T0, T0 + 11_000 * MINUTE), MINUTE);
    let beyond = Query { to_ms: most.to_ms + 1, ..most.clone() };
    assert_eq!(bad(&beyond), BadQuery::TooManyPoints { points: 11_001 });
    let ages = Query { from_ms: 0, step_ms: Some(1), ..most.clone() };
    assert_eq!(bad(&ages).code(), "too_many_points");
    let too_much = BadQuery::TooMuch { points: 3_300_000, series: 300, limit: ANSWER_POINTS_MAX };
    assert_eq!(bad(&most), too_much);
    let together = Query { reduce: Some(Reduce::Sum), ..most };
    assert_eq!(world.ask(&together).unwrap().steps.count(), 11_000);
}

#[test]
fn raw_gives_at_most_11000_samples_of_a_series() {
    let mut world = World::new();
    let up = labels("up", &[]);
    let row: Vec<_> = (0..11_001).map(|n| (&up, T0 + n * 100, 1.0)).collect();
    world.write(T0 + HOUR_MS, &row);
    let mut all = query("up", Function::Raw, (T0, T0 + 1_100_000), 1);
    all.step_ms = None;
    assert_eq!(values(&world.ask(&all).unwrap()).len(), 11_000);
    all.to_ms += 1;
    assert_eq!(world.bad(&all), BadQuery::TooManyPoints { points: 11_001 });
}

#[test]
fn nobody_waits_longer_than_the_deadline() {
    let mut world = World::new();
    let up = labels("up", &[]);
    world.write(T0, &[(&up, T0, 1.0)]);
    world.expired = true;
    let query = query("up", Function::Avg, (T0, T0 + HOUR_MS), MINUTE);
    assert!(matches!(world.ask(&query), Err(Error::TooLate)));
}

#[test]
fn other_tenants_series_are_not_seen() {
    let mut world = World::new();
    let up = labels("up", &[]);
    world.write(T0, &[(&up, T0, 1.0)]);
    let query = query("up", Function::Avg, (T0, T0 + HOUR_MS), MINUTE);
    assert_eq!(world.ask(&query).unwrap().lines.len(), 1);
    let other = answer(&world, TenantId::from_raw(8), &query).unwrap();
    assert_eq!(other.lines, []);
    let page = raw_page(&world, TenantId::from_raw(8), &up, (T0, T0 + 1), 10).unwrap();
    assert_eq!(page, []);
}

#[test]
fn a_damaged_block_is_left_out_and_counted_and_its_neighbours_are_answered() {
    let mut world = World::new();
    let up = labels("up", &[]);
    fill(&mut world, &up, (T0, T0 + 3 * HOUR_MS), MINUTE);
    for part in [0, 1] {
        let hour = Tier::Raw.span_of(T0) + 1;
        let mut key = None;
        let view = world.engine.read(&mut |view| {
            let all = crate::store::KeyRange::prefix(&rows::span_prefix(hour));
            view.scan(Table::Raw, &all, crate::store::Order::Forward, &mut |found, value| {
                if rows::read_block_key(found).unwrap().3 == part {
                    key = Some((found.to_vec(), value.to_vec()));
                }
                Flow::On
            })
        });
        view.unwrap();
        let (key, whole) = key.unwrap();
        let mut spoilt = whole.clone();
        let middle = spoilt.len() / 2;
        spoilt[middle] ^= 1;
        world.change(&mut |tx| tx.put(Table::Raw, &key, &spoilt).unwrap());
        let before = world.memory.lock().unwrap().counts().damaged;
        let query = query("up", Function::Count, (T0, T0 + 3 * HOUR_MS), HOUR_MS);
        let answer = world.ask(&query).unwrap();
        assert_eq!(values(&answer), [Some(60.0), None, Some(60.0)], "part {part}");
        assert_eq!(answer.damaged, 1, "part {part}");
        assert_eq!(world.memory.lock().unwrap().counts().damaged, before + 1, "part {part}");
        world.change(&mut |tx| tx.put(Table::Raw, &key, &whole).unwrap());
        assert_eq!(world.ask(&query).unwrap().damaged, 0, "part {part}");
    }
}

#[test]
fn large_hours_are_read_in_several_views_and_nothing_is_lost() {
    for seed in seeds(2) {
        let mut rng = Rng::from_seed(seed);
        let mut world = World::new();
        let all: Vec<Labels> = (0..400)
            .map(|n| labels("up", &[("n", &n.to_string()), ("odd", &(n % 9).to_string())]))
            .collect();
        for row in 0..1200 {
            let at = T0 + row * 3000;
            let row: Vec<_> = all
                .iter()
                .map(|labels| (labels, at, f64::from_bits(rng.next_u64() >> 2)))
                .collect();
            world.write(at, &row);
        }
        world.seal(T0 + 2 * HOUR_MS);
        // Some of it is late, or said anew.
        let late: Vec<_> =
            (0..500).map(|n| (&all[n % 77], T0 + rng.below(3_600_000) as i64, n as f64)).collect();
        world.write(T0 + HOUR_MS, &late);
        for select in ["up", "up{odd=\"3\"}", "up{n=\"399\"}", "up{n=~\"7|398\"}"] {
            let query = query(select, Function::Max, (T0, T0 + HOUR_MS), MINUTE);
            world.check(&query, &(seed, select));
        }
    }
}

#[test]
fn an_export_reads_every_sample_in_pages() {
    let mut world = World::new();
    let up = labels("up", &[("x", "1")]);
    fill(&mut world, &up, (T0, T0 + 5 * HOUR_MS), 37_000);
    world.write(T0 + 5 * HOUR_MS, &[(&up, T0 + 77, 1.5), (&up, T0 + 5 * HOUR_MS, 2.5)]);
    let mut pages = Vec::new();
    let mut from = T0;
    loop {
        let page = raw_page(&world, tenant(), &up, (from, i64::MAX), 100).unwrap();
        assert!(page.len() <= 100);
        let Some(last) = page.last() else { break };
        from = last.0 + 1;
        pages.extend(page);
    }
    assert_eq!(pages, world.samples(&up));
    assert_eq!(raw_page(&world, tenant(), &up, (T0, T0), 100).unwrap(), []);
    assert_eq!(raw_page(&world, tenant(), &up, (T0, i64::MAX), 0).unwrap(), []);
    let other = labels("down", &[]);
    assert_eq!(raw_page(&world, tenant(), &other, (T0, i64::MAX), 9).unwrap(), []);
}

#[test]
fn the_look_back_before_the_first_step_reaches_into_the_hour_before() {
    let mut world = World::new();
    let up = labels("up", &[]);
    let at = T0 + HOUR_MS - LOOK_BACK_MS + 1;
    world.write(at, &[(&up, at, 5.0), (&up, T0 + HOUR_MS, 7.0)]);
    world.seal(T0 + 3 * HOUR_MS);
    for step in [MINUTE, FIVE_MINUTES_MS, HOUR_MS] {
        let range = (T0 + HOUR_MS, T0 + HOUR_MS + 1);
        let told = values(&world.ask(&query("up", Function::Increase, range, step)).unwrap());
        assert_eq!(told, [Some(2.0)], "{step}");
    }
    let range = (T0 + HOUR_MS - MINUTE, T0 + HOUR_MS);
    let told = values(&world.ask(&query("up", Function::Last, range, MINUTE)).unwrap());
    assert_eq!(told, [Some(5.0)]);
}
