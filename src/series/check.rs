//! Whether a whole file is as it should be.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Display;

use super::block::{self, Opened, Spoilt};
use super::labels::Labels;
use super::point::{self, Common, Point};
use super::rows::{
    DayRow, NextRow, RowError, SpanRow, Tally, each_series, group_range, next_key, read_block_key,
};
use super::wal::{self, Found, Item};
use super::{DAY_MS, GroupId, Kind, Tier, column, roll, times};
use crate::base::codec;
use crate::base::key::{BadKey, KeyReader, KeyWriter};
use crate::base::limits::{GROUP_SERIES_MAX, READ_ROWS_MAX, SLICE_ROWS_MAX};
use crate::store::{Engine, Flow, KeyRange, Read, Table, scan_in_pages};

/// Findings that are told one by one; the rest are counted.
const TOLD_MAX: usize = 100;

/// What is wrong, in words; bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What, at most 100 of them.
    pub found: Vec<String>,
    /// How many in all.
    pub count: u64,
    /// Rows that were looked at.
    pub rows: u64,
    /// Series that there are.
    pub series: u64,
}

impl Findings {
    /// Whether all is as it should be.
    pub fn is_sound(&self) -> bool {
        self.count == 0
    }

    fn tell(&mut self, place: impl Display, what: impl Display) {
        self.count += 1;
        if self.found.len() < TOLD_MAX {
            self.found.push(format!("series, {place}: {what}"));
        }
    }
}

/// What stands in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Series of which it tells; they may not be in the file yet.
    pub series: u64,
    /// Samples that are in no block yet.
    pub samples: u64,
    /// Frames that are whole.
    pub frames: u64,
    /// Bytes at its end that were never finished. The next start cuts them; nobody was told that they are durable.
    pub torn: u64,
    /// What is wrong with it.
    pub finding: Option<String>,
}

/// Reads the log, and changes nothing.
pub fn check_log(bytes: &[u8]) -> LogReport {
    let (mut series, mut samples) = (HashSet::new(), 0);
    let read = wal::read(bytes, &mut |item| match item {
        Item::Define(entry) => drop(series.insert(entry.id)),
        Item::Delete(id) => drop(series.remove(&id)),
        Item::Kind(..) => {}
        Item::Row(row) => samples += row.cells.len() as u64,
    });
    let mut report = LogReport { series: series.len() as u64, samples, ..LogReport::default() };
    match read {
        Err(error) => report.finding = Some(format!("series, the log: {error}")),
        Ok(Found { frames, bytes, torn, damaged }) => {
            report.frames = frames;
            if damaged {
                report.finding = Some(format!(
                    "series, the log: it is damaged behind {bytes} bytes; {torn} bytes cannot be read"
                ));
            } else {
                report.torn = torn;
            }
        }
    }
    report
}

/// What the values of each column of a group mean.
type Kinds = BTreeMap<GroupId, BTreeMap<u16, Kind>>;

/// Walks through the file: every row can be read, every block decodes, columns and rows ascend, series have a place of their
/// own, spans hold what they say, valid days have the points of their samples (recomputed).
pub fn check(engine: &dyn Engine) -> Result<Findings, RowError> {
    let mut findings = Findings::default();
    let kinds = series(engine, &mut findings)?;
    let mut held = BTreeMap::new();
    for tier in Tier::ALL {
        blocks(engine, &mut findings, tier, &mut held)?;
    }
    spans(engine, &mut findings, held)?;
    for day in valid_days(engine, &mut findings)? {
        recompute(engine, &mut findings, day, &kinds)?;
    }
    Ok(findings)
}

fn kind_of(kind: u8) -> Option<Kind> {
    let kinds = [Kind::Gauge, Kind::Counter, Kind::Distribution];
    kinds.into_iter().find(|known| *known as u8 == kind)
}

/// Every series: its row is whole, and neither its labels nor its place is another's.
fn series(engine: &dyn Engine, findings: &mut Findings) -> Result<Kinds, RowError> {
    let (mut kinds, mut tenants) = (Kinds::new(), BTreeMap::new());
    let (mut names, mut next) = (HashSet::new(), NextRow { series: 0, group: 0 });
    each_series(engine, &mut |found| {
        findings.rows += 1;
        let (id, row) = match found {
            Ok(series) => series,
            Err(error) => return findings.tell("a row of the list", error),
        };
        findings.series += 1;
        let place = format!("series {}", id.0);
        let (Some(labels), Some(kind)) = (Labels::from_bytes(&row.labels), kind_of(row.kind))
        else {
            return findings.tell(place, "its labels or its kind are none");
        };
        if !names.insert((row.tenant, labels)) {
            findings.tell(&place, "another series of the tenant has the same labels");
        }
        let group = GroupId(row.group);
        if *tenants.entry(group).or_insert(row.tenant) != row.tenant {
            findings.tell(&place, "its group has series of another tenant");
        }
        if GROUP_SERIES_MAX <= row.column {
            findings.tell(&place, "its column is beyond those that a group may have");
        }
        if kinds.entry(group).or_default().insert(row.column, kind).is_some() {
            findings.tell(&place, "another series has its column of the group");
        }
        next.series = next.series.max(id.0.saturating_add(1));
        next.group = next.group.max(row.group.saturating_add(1));
    })?;
    let mut row = None;
    engine.read(&mut |view| {
        row = view.get(Table::Meta, &next_key())?;
        Ok(())
    })?;
    match row.map(|row| codec::decode::<NextRow>(&row)) {
        None if next.series == 0 => {}
        None => findings.tell("the ids that come next", "they are not there"),
        Some(Err(error)) => findings.tell("the ids that come next", error),
        Some(Ok(row)) if row.series < next.series || row.group < next.group => {
            findings.tell("the ids that come next", "one of them is in use");
        }
        Some(Ok(_)) => {}
    }
    Ok(kinds)
}

/// What rows of a slice share.
enum Shared {
    Times(Vec<i64>),
    Common(Common),
}

/// Where the walk through the blocks of a tier stands.
struct Walk {
    tier: Tier,
    place: Option<(u32, GroupId)>,
    slice: Option<u16>,
    shared: Option<Shared>,
    /// The last moment of the group, and the last column of the slice.
    last: Option<i64>,
    last_column: Option<u16>,
}

/// Every block of a tier; what their spans hold is put into `held`.
fn blocks(
    engine: &dyn Engine,
    findings: &mut Findings,
    tier: Tier,
    held: &mut BTreeMap<(Tier, u32), SpanRow>,
) -> Result<(), RowError> {
    let mut walk =
        Walk { tier, place: None, slice: None, shared: None, last: None, last_column: None };
    let (mut tally, mut span_now) = (Tally::amid(), None);
    let all = KeyRange::all();
    scan_in_pages(engine, tier.table(), &all, READ_ROWS_MAX, &mut |key, value| {
        findings.rows += 1;
        let (span, group, slice, part) = match read_block_key(key) {
            Ok(place) => place,
            Err(error) => {
                findings.tell(tier.table().name(), error);
                return Flow::On;
            }
        };
        if span_now != Some(span) {
            (tally, span_now) = (Tally::amid(), Some(span));
        }
        tally.add(key, value.len());
        held.insert((tier, span), tally.sum);
        if let Err(what) = walk.row((span, group, slice, part), value) {
            let name = tier.table().name();
            let place =
                format!("{name}, span {span}, group {}, slice {slice}, part {part}", group.0);
            findings.tell(place, what);
        }
        Flow::On
    })?;
    Ok(())
}

impl Walk {
    /// One row, behind those before it.
    fn row(
        &mut self,
        (span, group, slice, part): (u32, GroupId, u16, u16),
        value: &[u8],
    ) -> Result<(), Spoilt> {
        let first_of_span = self.place.is_none_or(|(before, _)| before != span);
        if self.place != Some((span, group)) {
            (self.place, self.slice, self.last) = (Some((span, group)), None, None);
        }
        let begins = self.slice != Some(slice);
        if begins {
            (self.slice, self.shared, self.last_column) = (Some(slice), None, None);
        }
        if part == 0 {
            self.shared = Some(self.shared(span, value)?);
            return Ok(());
        }
        let Some(shared) = &self.shared else {
            let opened = Opened::open(value).map(drop);
            // Of what is going because it is too old, rows may be left whose moments went first.
            let orphan = begins && !first_of_span;
            return if orphan { Err(Spoilt("the rows before it are missing")) } else { opened };
        };
        let opened = Opened::open(value)?;
        let mut last = self.last_column;
        for (number, bytes) in opened.columns() {
            if last.is_none_or(|last| last < number) && u16::MAX != number {
                last = Some(number);
            } else {
                return Err(Spoilt("its columns do not follow those before it"));
            }
            decode(shared, self.tier, bytes)?;
        }
        if opened.columns().next().map(|(first, _)| first.saturating_add(1)) != Some(part) {
            return Err(Spoilt("its key does not name its first column"));
        }
        self.last_column = last;
        Ok(())
    }

    fn shared(&mut self, span: u32, value: &[u8]) -> Result<Shared, Spoilt> {
        let bytes = block::unseal(value)?;
        let (start, length) = (self.tier.span_start(span), self.tier.span_ms());
        if self.tier != Tier::Raw {
            let common = Common::decode(&bytes, start, self.tier.step_ms())?;
            let end = common.steps.last().map_or(0, |step| i64::from(step.0) + 1);
            let fits = end * self.tier.step_ms() <= length;
            return if fits {
                Ok(Shared::Common(common))
            } else {
                Err(Spoilt("a step is not of its span"))
            };
        }
        let times = times::decode(&bytes)?;
        let (first, last) = (times.first().copied(), times.last().copied());
        if first < Some(start) || Some(start + length) <= last || SLICE_ROWS_MAX < times.len() {
            return Err(Spoilt("its moments are not of its hour, or too many"));
        }
        if first <= self.last {
            return Err(Spoilt("its moments do not follow those of the slice before"));
        }
        self.last = last;
        Ok(Shared::Times(times))
    }
}

fn decode(shared: &Shared, tier: Tier, mut bytes: &[u8]) -> Result<(), Spoilt> {
    match shared {
        Shared::Times(times) => {
            let rows = u32::try_from(times.len()).map_err(|_| Spoilt("too many moments"))?;
            column::decode(&mut bytes, rows)?;
            if bytes.is_empty() { Ok(()) } else { Err(Spoilt("there is more than a column")) }
        }
        Shared::Common(common) => {
            let points = point::decode(bytes, common)?;
            let end = points.last().map_or(0, |(step, _)| i64::from(*step) + 1);
            let fits = end * tier.step_ms() <= tier.span_ms();
            if fits { Ok(()) } else { Err(Spoilt("a point is not of its span")) }
        }
    }
}

/// What spans say that they hold, against what they do.
fn spans(
    engine: &dyn Engine,
    findings: &mut Findings,
    mut held: BTreeMap<(Tier, u32), SpanRow>,
) -> Result<(), RowError> {
    let read = |key: &[u8]| -> Result<(u8, u32), BadKey> {
        let mut key = KeyReader::new(key);
        let place = (key.u8()?, key.u32()?);
        key.finish()?;
        Ok(place)
    };
    scan_in_pages(engine, Table::Spans, &KeyRange::all(), READ_ROWS_MAX, &mut |key, value| {
        findings.rows += 1;
        let place = read(key).ok().and_then(|(tier, span)| {
            let tier = Tier::ALL.into_iter().find(|known| *known as u8 == tier)?;
            Some((tier, span))
        });
        let Some((tier, span)) = place else {
            findings.tell("the list of spans", "a key is none");
            return Flow::On;
        };
        let name = format!("{}, span {span}", tier.table().name());
        let is = held.remove(&(tier, span)).unwrap_or_default();
        match codec::decode::<SpanRow>(value) {
            Err(error) => findings.tell(name, error),
            Ok(said) if (said.rows, said.bytes) != (is.rows, is.bytes) || said.pages < is.pages => {
                findings.tell(name, format!("it is said to hold {said:?}, and holds {is:?}"));
            }
            Ok(_) => {}
        }
        Flow::On
    })?;
    for ((tier, span), is) in held {
        let name = format!("{}, span {span}", tier.table().name());
        findings.tell(name, format!("it holds {is:?}, and is not in the list of spans"));
    }
    Ok(())
}

/// Days whose points are those of the samples that are there.
fn valid_days(engine: &dyn Engine, findings: &mut Findings) -> Result<BTreeSet<u32>, RowError> {
    let prefix = KeyWriter::new().name("series").name("day").finish();
    let mut days = BTreeSet::new();
    let range = KeyRange::prefix(&prefix);
    scan_in_pages(engine, Table::Meta, &range, READ_ROWS_MAX, &mut |key, value| {
        findings.rows += 1;
        let day = <[u8; 4]>::try_from(&key[prefix.len()..]).map(u32::from_be_bytes);
        match (day, codec::decode::<DayRow>(value)) {
            (Ok(day), Ok(row)) if row.valid && row.cut == 0 => drop(days.insert(day)),
            (Ok(_), Ok(_)) => {}
            (Err(_), _) => findings.tell("the list of days", "a key is none"),
            (Ok(day), Err(error)) => findings.tell(format!("day {day}"), error),
        }
        Flow::On
    })?;
    Ok(days)
}

/// Computes the points of a day anew, and compares.
fn recompute(
    engine: &dyn Engine,
    findings: &mut Findings,
    day: u32,
    kinds: &Kinds,
) -> Result<(), RowError> {
    let read = |body: &mut dyn FnMut(&dyn Read) -> Result<(), RowError>| {
        let mut result = Ok(());
        engine.read(&mut |view| {
            result = body(view);
            Ok(())
        })?;
        result
    };
    let mut after = None;
    loop {
        let mut groups = Vec::new();
        read(&mut |view| {
            groups = roll::groups(view, day, after)?;
            Ok(())
        })?;
        let Some(last) = groups.last() else { return Ok(()) };
        after = Some(*last);
        for group in groups {
            let columns = kinds.get(&group);
            let kind = |column: u16| columns?.get(&column).map(|kind| *kind == Kind::Distribution);
            // What is damaged was told already, and what is left of it cannot be compared.
            let (rolled, 0) = roll::plan(&read, day, group, &kind)? else { continue };
            for rolled in rolled {
                let mut rows = Vec::new();
                let range = group_range(rolled.span, group, 0);
                scan_in_pages(
                    engine,
                    rolled.tier.table(),
                    &range,
                    READ_ROWS_MAX,
                    &mut |key, value| {
                        rows.push((key.to_vec(), value.to_vec()));
                        Flow::On
                    },
                )?;
                let name = format!("{}, day {day}, group {}", rolled.tier.table().name(), group.0);
                let mine = points_of(&rolled.rows, rolled.tier, rolled.span, day);
                let mut its = points_of(&rows, rolled.tier, rolled.span, day);
                its.retain(|(column, _), _| kind(*column).is_some());
                compare(findings, &name, mine, its);
            }
        }
    }
}

type Points = BTreeMap<(u16, u32), Point>;

/// The points of a day in rows of a group and span.
fn points_of(rows: &[(Vec<u8>, Vec<u8>)], tier: Tier, span: u32, day: u32) -> Points {
    let (mut points, mut common) = (Points::new(), None);
    for (key, value) in rows {
        let Ok((.., part)) = read_block_key(key) else { continue };
        if part == 0 {
            let start = tier.span_start(span);
            let head = block::unseal(value);
            common = head.and_then(|head| Common::decode(&head, start, tier.step_ms())).ok();
        } else if let (Some(common), Ok(opened)) = (&common, Opened::open(value)) {
            for (column, bytes) in opened.columns() {
                let its = point::decode(bytes, common).unwrap_or_default();
                points.extend(its.into_iter().map(|(step, point)| ((column, step), point)));
            }
        }
    }
    let of_day = |step: u32| {
        let at = tier.span_start(span) + i64::from(step) * tier.step_ms();
        at / DAY_MS == i64::from(day)
    };
    points.retain(|(_, step), _| of_day(*step));
    points
}

fn compare(findings: &mut Findings, name: &str, mine: Points, mut its: Points) {
    for ((column, step), point) in mine {
        let place = format!("{name}, column {column}, step {step}");
        match its.remove(&(column, step)) {
            None => findings.tell(place, "a point is missing"),
            Some(is) if !is_same(&point, &is) => {
                findings.tell(place, "a point is not that of its samples");
            }
            Some(_) => {}
        }
    }
    for (column, step) in its.keys() {
        let place = format!("{name}, column {column}, step {step}");
        findings.tell(place, "a point has no samples");
    }
}

/// Whether two points are the same, to the bit. What a series means may have changed since; then one has no sketch.
fn is_same(a: &Point, b: &Point) -> bool {
    let sketches = a.sketch.is_some() && b.sketch.is_some();
    let bytes = |point: &Point| {
        let sketch = point.sketch.clone().filter(|_| sketches);
        let nothing = Common { start_ms: 0, step_ms: 1, steps: Vec::new() };
        let mut bytes = Vec::new();
        point::encode(&[(0, Point { sketch, ..point.clone() })], &nothing, &mut bytes);
        bytes
    };
    bytes(a) == bytes(b)
}

#[cfg(test)]
mod tests;
