//! Every sample in a map, and the plainest way to each answer.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "numbers of a test are small, and compared to the bit where that is meant"
)]

use std::collections::BTreeMap;

use holdfast::base::id::TenantId;
use holdfast::series::fold::{Function, Reduce, Steps};
use holdfast::series::query::Query;
use holdfast::series::{LOOK_BACK_MS, Tier};

type Labels = Vec<(String, String)>;
type Points = Vec<(i64, Option<f64>)>;
type Samples = BTreeMap<i64, f64>;
/// What is not on disk for certain: whose, which, when, what was there, what is there now.
type Doubt = (TenantId, String, i64, Option<f64>, f64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reference {
    series: BTreeMap<(TenantId, String), Samples>,
    doubts: Vec<Doubt>,
}

impl Reference {
    pub(super) fn newest(&self, tenant: TenantId, name: &str) -> Option<f64> {
        let samples = self.series.get(&(tenant, name.to_owned()))?;
        samples.values().next_back().copied()
    }

    pub(super) fn write(&mut self, tenant: TenantId, name: &str, at_ms: i64, value: f64) {
        let samples = self.series.entry((tenant, name.to_owned())).or_default();
        let before = samples.insert(at_ms, value);
        self.doubts.push((tenant, name.to_owned(), at_ms, before, value));
    }

    /// Everything is on disk.
    pub(super) fn stored(&mut self) {
        self.doubts.clear();
    }

    /// Of each moment in doubt: what was on disk, and what was written last.
    pub(super) fn in_doubt(&self) -> Vec<Doubt> {
        let mut first = BTreeMap::new();
        for (tenant, name, at_ms, before, after) in &self.doubts {
            let key = (*tenant, name.clone(), *at_ms);
            first.entry(key).or_insert((*before, *after)).1 = *after;
        }
        let doubts = first.into_iter();
        doubts
            .map(|((tenant, name, at_ms), (before, after))| (tenant, name, at_ms, before, after))
            .collect()
    }

    pub(super) fn settle(&mut self, tenant: TenantId, name: &str, at_ms: i64, found: Option<f64>) {
        let key = (tenant, name.to_owned());
        let Some(samples) = self.series.get_mut(&key) else { return };
        match found {
            Some(value) => drop(samples.insert(at_ms, value)),
            None => drop(samples.remove(&at_ms)),
        }
        // A series of which nothing reached the disk may be known or not: ask for it with the next sample.
        if samples.is_empty() {
            self.series.remove(&key);
        }
    }

    pub(super) fn delete(&mut self, tenant: TenantId, prefix: &str) -> u64 {
        let before = self.series.len();
        self.series.retain(|(its, name), _| *its != tenant || !name.starts_with(prefix));
        (before - self.series.len()) as u64
    }

    /// What the query should give, by labels.
    pub(super) fn answer(
        &self,
        tenant: TenantId,
        metric: &str,
        query: &Query,
        steps: Steps,
    ) -> BTreeMap<Labels, Points> {
        let mut lines: BTreeMap<Labels, Vec<Vec<Option<f64>>>> = BTreeMap::new();
        for ((its, name), samples) in &self.series {
            let host = label(name, "host");
            if *its != tenant || !name.starts_with(&format!("{metric}{{")) || host == "3" {
                continue;
            }
            let zone = ("zone".to_owned(), label(name, "zone"));
            let labels = match query.by {
                Some(_) => vec![zone],
                None => vec![("host".to_owned(), host), zone],
            };
            lines.entry(labels).or_default().push(fold(query.function, samples, steps));
        }
        let moments: Vec<i64> =
            (0..steps.count()).map(|n| steps.from_ms + steps.step_ms * n as i64).collect();
        let together = |all: Vec<Vec<Option<f64>>>| -> Points {
            let at = |n: usize| all.iter().filter_map(|one| one[n]).collect::<Vec<f64>>();
            moments.iter().enumerate().map(|(n, ms)| (*ms, reduced(query.reduce, &at(n)))).collect()
        };
        lines.into_iter().map(|(labels, all)| (labels, together(all))).collect()
    }
}

fn label(name: &str, label: &str) -> String {
    let (_, rest) = name.split_once(&format!("{label}=\"")).expect("the label is there");
    rest.split_once('"').expect("it ends").0.to_owned()
}

fn reduced(reduce: Option<Reduce>, values: &[f64]) -> Option<f64> {
    let first = *values.first()?;
    if values.len() == 1 {
        return Some(first);
    }
    let sum = || values.iter().sum::<f64>();
    Some(match reduce {
        None | Some(Reduce::Sum) => sum(),
        Some(Reduce::Avg) => sum() / values.len() as f64,
        Some(Reduce::Min) => values.iter().copied().fold(f64::NAN, f64::min),
        Some(Reduce::Max) => values.iter().copied().fold(f64::NAN, f64::max),
    })
}

/// A value a step, by looking at every sample for every step.
fn fold(function: Function, samples: &Samples, steps: Steps) -> Vec<Option<f64>> {
    let one = |n: usize| {
        let start = steps.from_ms + steps.step_ms * n as i64;
        let end = start + steps.step_ms;
        let inside: Vec<f64> = samples.range(start..end).map(|(_, value)| *value).collect();
        if function == Function::Last {
            let until = end.min(steps.now_ms);
            let last = samples.range(..end).next_back();
            return last.filter(|(at, _)| until - LOOK_BACK_MS <= **at).map(|(_, value)| *value);
        }
        let count = inside.len() as f64;
        if inside.is_empty() {
            return None;
        }
        Some(match function {
            Function::Avg => inside.iter().sum::<f64>() / count,
            Function::Min => inside.iter().copied().fold(f64::NAN, f64::min),
            Function::Max => inside.iter().copied().fold(f64::NAN, f64::max),
            Function::Sum => inside.iter().sum(),
            Function::Count => count,
            Function::Increase => increase(samples, start, end),
            Function::Rate => increase(samples, start, end) / (steps.step_ms as f64 / 1000.0),
            Function::Quantile(part) => return quantile(inside, part),
            Function::Raw | Function::Last => unreachable!("not asked like this"),
        })
    };
    (0..steps.count()).map(one).collect()
}

fn increase(samples: &Samples, start: i64, end: i64) -> f64 {
    let mut all = 0.0;
    let mut before =
        samples.range(..start).next_back().filter(|(at, _)| start - **at <= LOOK_BACK_MS);
    for sample in samples.range(start..end) {
        if let Some((_, before)) = before {
            all += rise(*before, *sample.1);
        }
        before = Some(sample);
    }
    all
}

fn rise(before: f64, after: f64) -> f64 {
    if !before.is_finite() || !after.is_finite() {
        return 0.0;
    }
    let rise = if before <= after { after - before } else { after };
    if rise.is_finite() { rise } else { 0.0 }
}

fn quantile(mut values: Vec<f64>, part: f64) -> Option<f64> {
    values.retain(|value| !value.is_nan());
    values.sort_by(f64::total_cmp);
    let rank = (part * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

/// Whether two answers are the same: to the bit where nothing is added up, else up to the order of adding.
pub(super) fn same(
    function: Function,
    found: Option<f64>,
    wanted: Option<f64>,
    tier: Tier,
) -> bool {
    let (Some(found), Some(wanted)) = (found, wanted) else {
        return found.is_none() && wanted.is_none();
    };
    if found == wanted || (found.is_nan() && wanted.is_nan()) {
        return true;
    }
    let near = |part: f64| (found - wanted).abs() <= part * found.abs().max(wanted.abs()).max(1e-9);
    match function {
        Function::Quantile(_) if tier != Tier::Raw => near(0.021),
        // Large values take the digits of small ones with them.
        Function::Avg | Function::Sum | Function::Rate | Function::Increase => {
            near(1e-9) || 1e15 < found.abs().max(wanted.abs())
        }
        _ => false,
    }
}
