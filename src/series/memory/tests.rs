//! Memory beside a model of it: writes, the log, deletions, what is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Distributions, Full, Incoming, Memory, Name, OWN_SERIES, Open, Refusal, Written};
use crate::base::id::TenantId;
use crate::base::limits::{
    GROUP_SERIES_MAX, OPEN_BUCKET_SAMPLES, OPEN_SAMPLES_MAX, PENDING_CELLS_MAX,
};
use crate::base::rng::Rng;
use crate::base::time::Timestamp;
use crate::series::labels::Labels;
use crate::series::rows::SpanRow;
use crate::series::select::Selector;
use crate::series::text::BadLine;
use crate::series::wal::{Encoder, Item, MAGIC, read};
use crate::series::{DAY_MS, GroupId, HOUR_MS, Kind, Tier, seal};
use crate::testing::seeds;

const NOW: i64 = 1_700_000_000_000;
const TENANT: TenantId = TenantId::from_raw(1);

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(ms).unwrap()
}

fn sample(name: &str, time_ms: Option<i64>, value: f64) -> Incoming<'_> {
    let metric = name.split('{').next().unwrap();
    Incoming { place: 1, name: Name::Text { name, metric }, kind: None, time_ms, value }
}

fn labels(metric: &str, core: u64) -> Labels {
    Labels::new(metric, [("core", &*core.to_string())]).unwrap()
}

/// Series of a tenant, what is in them, and what they mean.
type Model = BTreeMap<(u64, Labels), (Kind, BTreeMap<i64, u64>)>;

fn assert_holds(memory: &Memory, model: &Model, rng: &mut Rng, seed: u64) {
    assert_eq!(memory.index.len(), model.len(), "seed {seed}");
    for ((tenant, labels), (kind, samples)) in model {
        let found = memory.index.find(TenantId::from_raw(*tenant), labels);
        let entry = found.unwrap_or_else(|| panic!("seed {seed}: {labels} is not there"));
        assert_eq!(entry.kind, *kind, "seed {seed}: {labels}");
        let mut moment =
            || NOW + i64::try_from(rng.below(30 * 3600)).unwrap() * 1000 - 26 * HOUR_MS;
        let (from, to) = (moment(), moment());
        for (from, to) in [(0, i64::MAX), (from, to)] {
            let read = memory.read(entry, from, to);
            let read = read.into_iter().map(|(at, value)| (at, value.to_bits()));
            let expected = samples.range(from..to.max(from)).map(|(at, bits)| (*at, *bits));
            assert!(read.eq(expected), "seed {seed}: {labels} from {from} to {to}");
        }
    }
    let samples = memory.opens.values().map(Open::samples).sum::<usize>();
    let sealing = memory.sealing.values().map(|open| open.samples()).sum::<usize>();
    assert_eq!(memory.samples, samples + sealing, "seed {seed}");
    let groups: BTreeMap<_, _> =
        memory.index.all().map(|entry| (entry.group, entry.tenant)).collect();
    let whose = |entry: &super::Entry| groups[&entry.group] == entry.tenant;
    assert!(memory.index.all().all(whose), "seed {seed}: a group of two tenants");
}

fn write(memory: &mut Memory, model: &mut Model, rng: &mut Rng, now: i64) {
    let tenant = rng.below(2);
    let mut said = Vec::new();
    for _ in 0..rng.below(40) {
        let labels = labels(["cpu", "hits_total"][rng.index(2)], rng.below(12));
        let time = match rng.below(4) {
            0 => Some(now - i64::try_from(rng.below(27 * 3600)).unwrap() * 1000),
            1 => Some(now + i64::try_from(rng.below(900)).unwrap() * 1000),
            _ => None,
        };
        let kind = [None, None, None, Some(Kind::Gauge), Some(Kind::Counter)][rng.index(5)];
        said.push((labels, time, kind, [1.5, -0.0, f64::NAN, 7.0][rng.index(4)]));
    }
    let texts: Vec<String> = said.iter().map(|(labels, ..)| labels.to_string()).collect();
    let incoming =
        said.iter().zip(&texts).zip(0..).map(|(((labels, time_ms, kind, value), text), place)| {
            let name = if rng.one_in(2) {
                Name::Labels(labels.clone())
            } else {
                Name::Text { name: text, metric: labels.metric() }
            };
            Incoming { place, name, kind: *kind, time_ms: *time_ms, value: *value }
        });
    let incoming: Vec<Incoming<'_>> = incoming.collect();
    let written = memory.write(at(now), TenantId::from_raw(tenant), 1000, &incoming).unwrap();
    let mut refused = Vec::new();
    for ((labels, time, kind, value), place) in said.iter().cloned().zip(0..) {
        let time = time.unwrap_or(now);
        if time < now - 24 * HOUR_MS || now + 600_000 < time {
            let early = time < now;
            refused.push((place, if early { Refusal::TooOld } else { Refusal::TooNew }));
            continue;
        }
        let usual = Kind::of_metric(labels.metric());
        let its = model.entry((tenant, labels)).or_insert((kind.unwrap_or(usual), BTreeMap::new()));
        its.0 = kind.unwrap_or(its.0);
        its.1.insert(time, value.to_bits());
    }
    assert_eq!(written.accepted + written.refused_count, incoming.len() as u64);
    assert_eq!(written.refused, refused);
}

fn replayed(log: &[u8], times: usize) -> Memory {
    let mut memory = Memory::default();
    for _ in 0..times {
        read(log, &mut |item| memory.replay(item)).unwrap();
    }
    memory
}

#[test]
fn memory_answers_what_was_written_and_so_does_what_is_taken_up_from_its_log() {
    for seed in seeds(150) {
        let rng = &mut Rng::from_seed(seed);
        let (mut memory, mut model) = (Memory::default(), Model::new());
        let (mut log, mut encoder, mut now) = (MAGIC.to_vec(), Encoder::default(), NOW);
        for _ in 0..rng.below(40) {
            now += i64::try_from(rng.below(1800)).unwrap() * 1000;
            match rng.below(8) {
                0 => {
                    let selector = Selector::parse("cpu{core=~\"[0-5]\"}").unwrap();
                    let meant = |(tenant, labels): &(u64, Labels)| {
                        *tenant == 1 && selector.is_match(labels)
                    };
                    let many = model.keys().filter(|key| meant(key)).count();
                    model.retain(|key, _| !meant(key));
                    let (deleted, sequence) = memory.delete(TENANT, Some(&selector), 100);
                    assert_eq!((deleted, sequence), (many, memory.sequence()), "seed {seed}");
                }
                1 => {
                    // As sealing begins: what is there already stays for the next time.
                    let opens = std::mem::take(&mut memory.opens);
                    for (place, open) in opens {
                        if rng.one_in(2) && !memory.sealing.contains_key(&place) {
                            memory.sealing.insert(place, Arc::new(open));
                        } else {
                            memory.opens.insert(place, open);
                        }
                    }
                }
                2 => {
                    let (items, sequence) = memory.take_pending();
                    assert_eq!(sequence, memory.sequence(), "seed {seed}");
                    encoder.frame(&items, &mut log);
                }
                3 if rng.one_in(2) => {
                    (log, encoder) = (MAGIC.to_vec(), Encoder::default());
                    encoder.frame(&memory.everything().0, &mut log);
                    assert!(memory.pending.is_empty(), "seed {seed}");
                }
                _ => write(&mut memory, &mut model, rng, now),
            }
            assert_holds(&memory, &model, rng, seed);
        }
        encoder.frame(&memory.take_pending().0, &mut log);
        let twice = 1 + rng.index(2);
        let mut again = replayed(&log, twice);
        assert_holds(&again, &model, rng, seed);
        assert!(again.pending.is_empty(), "seed {seed}");
        // And what it would write itself.
        let mut anew = MAGIC.to_vec();
        Encoder::default().frame(&again.everything().0, &mut anew);
        assert_holds(&replayed(&anew, 1), &model, rng, seed);
        assert!(again.next_series <= memory.next_series, "seed {seed}");
    }
}

#[test]
fn what_is_known_already_and_what_is_wrong_in_a_line_do_not_disturb_the_others() {
    let mut memory = Memory::default();
    let first = [
        sample("cpu{core=\"1\"}", None, 1.0),
        sample("cpu{core=}", None, 2.0),
        sample("cpu{core=\"2\"}", None, 3.0),
    ];
    let written = memory.write(at(NOW), TENANT, 10, &first).unwrap();
    assert_eq!((written.accepted, written.refused_count), (2, 1));
    assert!(matches!(written.refused[..], [(1, Refusal::Line(BadLine::Malformed { .. }))]));
    assert_eq!(memory.take_pending().0.len(), 3, "two series, and their row");
    // The same again: taken, and nothing to write.
    let written = memory.write(at(NOW), TENANT, 10, &first).unwrap();
    assert_eq!((written.accepted, memory.counts.same), (2, 2));
    assert!(memory.pending.is_empty());
    // Twice in one call: the last one counts.
    let twice = [first[0].clone(), sample("cpu{core=\"1\"}", Some(NOW), 8.0)];
    memory.write(at(NOW), TENANT, 10, &twice).unwrap();
    let (items, sequence) = memory.take_pending();
    let [Item::Row(row)] = &items[..] else { panic!("{items:?}") };
    assert_eq!((&row.cells[..], sequence), (&[(0, 8.0)][..], memory.sequence()));
    assert_eq!(memory.counts.replaced, 1);
}

#[test]
fn a_refused_sample_makes_no_series() {
    let mut memory = Memory::default();
    let old = [sample("a", Some(NOW - DAY_MS - 1), 1.0), sample("a", Some(NOW + 600_001), 1.0)];
    let written = memory.write(at(NOW), TENANT, 10, &old).unwrap();
    assert_eq!(written.refused, [(1, Refusal::TooOld), (1, Refusal::TooNew)]);
    assert!(memory.index.is_empty() && memory.pending.is_empty());
    let just = [sample("a", Some(NOW - DAY_MS), 1.0), sample("a", Some(NOW + 600_000), 1.0)];
    assert_eq!(memory.write(at(NOW), TENANT, 10, &just).unwrap().accepted, 2);
    let more = [sample("b", None, 1.0), sample("c", None, 1.0), sample("a", None, 1.0)];
    let written = memory.write(at(NOW), TENANT, 2, &more).unwrap();
    let limit = Refusal::TooManySeries { limit: 2, used: 2 };
    assert_eq!((written.accepted, written.refused), (2, vec![(1, limit)]));
    assert_eq!((memory.index.count(TENANT), memory.counts.too_many), (2, 1));
    let lowered = memory.write(at(NOW), TENANT, 0, &[sample("c", None, 1.0)]).unwrap();
    let told = lowered.refused[0].1.to_string();
    assert!(told.starts_with("the quota series is 0, and 2 are used; "), "{told}");
}

#[test]
fn new_series_join_those_of_their_row_as_long_as_there_is_room() {
    let mut memory = Memory::default();
    let names: Vec<String> =
        (0..u32::from(GROUP_SERIES_MAX) + 5).map(|n| format!("a{n}")).collect();
    let group = |memory: &Memory, name: &str| {
        memory.index.find(TENANT, &Labels::new(name, []).unwrap()).unwrap().group
    };
    let all: Vec<_> = names.iter().map(|name| sample(name, None, 1.0)).collect();
    memory.write(at(NOW), TENANT, 10_000, &all).unwrap();
    let groups: BTreeSet<_> = memory.index.all().map(|entry| entry.group).collect();
    assert_eq!(groups.len(), 2);
    let joined = [sample("a2050", None, 2.0), sample("new", None, 1.0)];
    memory.write(at(NOW + 1), TENANT, 10_000, &joined).unwrap();
    assert_eq!(group(&memory, "new"), group(&memory, "a2050"));
    // Another moment is another row.
    let apart = [sample("a2050", None, 2.0), sample("other", Some(NOW), 1.0)];
    memory.write(at(NOW + 2), TENANT, 10_000, &apart).unwrap();
    assert!(!groups.contains(&group(&memory, "other")));
    // Groups of before the start are closed: the file may have more columns of them than there are series.
    memory.closed_groups = memory.next_group;
    let late = [sample("a2050", None, 2.0), sample("x", None, 1.0), sample("y", None, 1.0)];
    memory.write(at(NOW + 3), TENANT, 10_000, &late).unwrap();
    assert_ne!(group(&memory, "x"), group(&memory, "a2050"));
    assert_eq!(group(&memory, "x"), group(&memory, "y"));
}

#[test]
fn neither_an_id_nor_a_group_is_used_again_after_a_deletion_that_only_the_log_knows() {
    let mut memory = Memory::default();
    memory.write(at(NOW), TENANT, 10, &[sample("a", None, 1.0), sample("b", None, 1.0)]).unwrap();
    let before = (memory.next_series, memory.next_group);
    memory.delete(TENANT, None, 10);
    let mut log = MAGIC.to_vec();
    Encoder::default().frame(&memory.everything().0, &mut log);
    let again = replayed(&log, 1);
    assert!(again.index.is_empty());
    assert!(before.0 <= again.next_series && before.1 <= again.next_group);
    // The file has to hear of it before the log forgets it.
    assert!(!again.unsaved.is_empty());
}

#[test]
fn a_series_that_came_and_went_is_not_forgotten_when_the_file_is_opened_anew() {
    let mut memory = Memory::default();
    memory.write(at(NOW), TENANT, 10, &[sample("a", None, 1.0)]).unwrap();
    memory.delete(TENANT, None, 10);
    let unsaved = memory.unsaved.clone();
    assert_eq!(unsaved.len(), 1);
    memory.adopt(Memory::default());
    assert_eq!(memory.unsaved, unsaved, "its id is written as used");
    let mut log = MAGIC.to_vec();
    Encoder::default().frame(&memory.everything().0, &mut log);
    assert_eq!(replayed(&log, 1).next_series, memory.next_series);
}

#[test]
fn a_row_of_a_series_that_is_gone_is_counted_and_left_out() {
    let mut memory = Memory::default();
    memory.write(at(NOW), TENANT, 10, &[sample("a", None, 1.0), sample("b", None, 1.0)]).unwrap();
    let rows: Vec<Item> =
        memory.take_pending().0.into_iter().filter(|item| matches!(item, Item::Row(_))).collect();
    let mut other = Memory::default();
    for row in rows {
        other.replay(row);
    }
    assert_eq!((other.counts.skipped, other.samples, other.opens.len()), (2, 0, 0));
}

#[test]
fn distributions_of_the_settings_stay_so_whoever_says_otherwise() {
    let mut memory = Memory::default();
    memory.set_distributions(Distributions::new(|metric| metric == "wait_ms"));
    let kind = |memory: &Memory, name: &str| {
        memory.index.find(TENANT, &Labels::new(name, []).unwrap()).unwrap().kind
    };
    let mut gauge = [sample("wait_ms", None, 1.0), sample("x", None, 1.0)];
    for sample in &mut gauge {
        sample.kind = Some(Kind::Gauge);
    }
    for _ in 0..2 {
        memory.write(at(NOW), TENANT, 10, &gauge).unwrap();
        assert_eq!(kind(&memory, "wait_ms"), Kind::Distribution);
        assert_eq!(kind(&memory, "x"), Kind::Gauge);
    }
    gauge[1].kind = Some(Kind::Distribution);
    memory.write(at(NOW), TENANT, 10, &gauge).unwrap();
    assert_eq!(kind(&memory, "x"), Kind::Distribution);
}

#[test]
fn more_than_may_wait_is_refused_before_anything_is_taken() {
    let mut memory = Memory::default();
    memory.write(at(NOW), TENANT, 10, &[sample("a", None, 1.0)]).unwrap();
    memory.pending_cells = PENDING_CELLS_MAX;
    assert!(memory.is_half_full());
    let more = [sample("b", None, 1.0)];
    assert_eq!(memory.write(at(NOW), TENANT, 10, &more), Err(Full));
    assert_eq!((memory.index.len(), memory.samples), (1, 1));
    memory.take_pending();
    assert!(memory.write(at(NOW), TENANT, 10, &more).is_ok());
    memory.samples = OPEN_SAMPLES_MAX;
    assert_eq!(memory.write(at(NOW), TENANT, 10, &more), Err::<Written, _>(Full));
}

#[test]
fn many_buckets_of_few_samples_are_as_much_as_many_samples() {
    let mut memory = Memory::default();
    memory.write(at(NOW), TENANT, 10, &[sample("a", None, 1.0)]).unwrap();
    let more = u32::try_from(OPEN_SAMPLES_MAX / OPEN_BUCKET_SAMPLES).unwrap();
    let buckets = |n| (0..n).map(|group| ((0, GroupId(group)), Open::default()));
    memory.opens.extend(buckets(more / 2));
    assert!(seal::is_pressed(&memory));
    let next = [sample("b", None, 1.0)];
    assert!(memory.write(at(NOW), TENANT, 10, &next).is_ok());
    memory.opens.extend(buckets(more));
    assert_eq!(memory.write(at(NOW), TENANT, 10, &next), Err::<Written, _>(Full));
}

#[test]
fn a_file_that_was_opened_anew_says_what_of_the_series_it_does_not_have() {
    let (mut memory, mut file) = (Memory::default(), Memory::default());
    let name = |n: u64| labels("cpu", n).to_string();
    let names: Vec<String> = (0..4).map(name).collect();
    let all: Vec<_> = names.iter().map(|name| sample(name, None, 1.0)).collect();
    memory.write(at(NOW), TENANT, 10, &all).unwrap();
    // The file has the first three, and has not heard that the third is gone; the second was changed since.
    let items = memory.take_pending().0;
    let defines = items.into_iter().filter(|item| matches!(item, Item::Define(_)));
    defines.take(3).for_each(|define| file.replay(define));
    let ids: Vec<_> = memory.index.all().map(|entry| entry.id).collect();
    memory.remove(&[ids[2]]);
    memory.say_kind(ids[1], Kind::Counter);
    file.spans.insert((Tier::Raw, 7), SpanRow { rows: 1, bytes: 2, pages: 3 });
    file.rolled.insert(9);
    memory.unsaved.clear();
    memory.adopt(file);
    assert_eq!(memory.unsaved, [ids[1], ids[2], ids[3]].into());
    assert_eq!(memory.index.len(), 3);
    assert_eq!(memory.tier(Tier::Raw), Some((7, 7, SpanRow { rows: 1, bytes: 2, pages: 3 })));
    assert!(memory.is_rolled(9));
}

#[test]
fn a_day_of_which_something_is_open_is_not_read_from_its_points() {
    let mut memory = Memory::default();
    let day = Tier::FiveMinutes.span_of(NOW);
    memory.rolled.extend([day - 1, day]);
    assert!(memory.is_rolled(day) && !memory.is_rolled(day + 1));
    memory.write(at(NOW), TENANT, 10, &[sample("a", None, 1.0)]).unwrap();
    assert!(!memory.is_rolled(day) && memory.is_rolled(day - 1));
    let (place, open) = memory.opens.pop_first().unwrap();
    memory.sealing.insert(place, Arc::new(open));
    assert!(!memory.is_rolled(day) && memory.is_rolled(day - 1));
}

#[test]
fn the_servers_own_figures_are_no_part_of_what_a_tenant_may_have() {
    let mut memory = Memory::default();
    let named = |name: &'static str| Incoming {
        place: 0,
        name: Name::Text { name, metric: name },
        kind: None,
        time_ms: None,
        value: 1.0,
    };
    let own = [named("queue_waiting"), named("queue_running"), named("worker_count")];
    assert_eq!(memory.write(at(NOW), TENANT, OWN_SERIES, &own).map(|w| w.accepted), Ok(3));
    let theirs = [named("a"), named("b"), named("c")];
    let written = memory.write(at(NOW), TENANT, 2, &theirs).unwrap();
    assert_eq!((written.accepted, written.refused_count), (2, 1));
    // What is deleted and written by the tenant is the tenant's.
    let selector = Selector::parse("queue_waiting").unwrap();
    assert_eq!(memory.delete(TENANT, Some(&selector), 10).0, 1);
    assert_eq!(memory.write(at(NOW), TENANT, 3, &own[..1]).map(|w| w.accepted), Ok(1));
    let written = memory.write(at(NOW), TENANT, 3, &theirs[2..]).unwrap();
    assert_eq!(written.refused_count, 1, "three of its own are there");
}
