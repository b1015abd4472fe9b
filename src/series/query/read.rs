//! From segments to samples and points, series by series, in the order of time.
//!
//! A batch is a few hundred series of one hour, or a few series of many: what is open of them is copied under the lock, then
//! their blocks in one view, and then both are decoded and told. Memory comes first, so that what is sealed meanwhile is
//! found in the file. What one view copies of a series' hour is whole: parts and moments of two versions of it never meet.

use std::ops::Range;

use super::Source;
use super::plan::Segment;
use crate::base::limits::{QUERY_OPEN_SAMPLES, QUERY_VIEW_BYTES, QUERY_VIEW_ROWS};
use crate::series::block::{self, Opened, Spoilt};
use crate::series::column::{self, Column, Rows};
use crate::series::index::Entry;
use crate::series::memory::Memory;
use crate::series::point::{self, Common, Point};
use crate::series::rows::{block_key, read_block_key};
use crate::series::{Error, GroupId, RowError, Tier, times};
use crate::store::{Flow, KeyRange, Order, Read};

/// Series, or series' hours, of one batch.
const BATCH: usize = 256;

/// What is told of a series.
pub(super) enum Piece<'p> {
    /// Samples that ascend.
    Samples(&'p [(i64, f64)]),
    /// A point, and when it begins.
    Point(i64, &'p Point),
}

/// Who is told: the number of the series, and what of it. Says whether to go on.
pub(super) type Sink<'s> = dyn FnMut(usize, Piece<'_>) -> Result<Flow, Error> + 's;

/// Series of one group in one segment.
#[derive(Clone, Debug)]
struct Task {
    segment: Segment,
    group: GroupId,
    /// Which of the series.
    series: Range<usize>,
    /// What is open of each.
    open: Vec<Vec<(i64, f64)>>,
    slices: Vec<Slice>,
}

/// What was copied of a slice.
#[derive(Clone, Debug)]
struct Slice {
    /// Part 0.
    head: Vec<u8>,
    /// The others that are needed, by their first columns.
    parts: Vec<(u16, Vec<u8>)>,
}

/// What may be copied yet.
#[derive(Clone, Copy, Debug)]
struct Room {
    bytes: usize,
    rows: usize,
}

impl Room {
    fn take(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.rows = self.rows.saturating_sub(1);
    }

    fn is_empty(self) -> bool {
        self.bytes == 0 || self.rows == 0
    }
}

/// Reads what there is of `series` (by group and column) in `segments` (ascending), and tells it. Damaged blocks are left
/// out and counted; says how many they were.
pub(super) fn read(
    source: &dyn Source,
    series: &[Entry],
    segments: &[Segment],
    sink: &mut Sink<'_>,
) -> Result<u64, Error> {
    let mut reader = Reader { source, series, damaged: 0, samples: Vec::new() };
    let result = reader.all(segments, sink);
    let damaged = reader.damaged;
    if 0 < damaged {
        source.memory(&mut |memory| memory.counts.damaged += damaged);
    }
    result.map(|()| damaged)
}

struct Reader<'r> {
    source: &'r dyn Source,
    series: &'r [Entry],
    damaged: u64,
    /// Samples of one series on their way to the sink.
    samples: Vec<(i64, f64)>,
}

impl Reader<'_> {
    fn all(&mut self, segments: &[Segment], sink: &mut Sink<'_>) -> Result<(), Error> {
        let mut place = (0, 0);
        while place.0 < segments.len() && !self.series.is_empty() {
            if self.source.expired() {
                return Err(Error::TooLate);
            }
            let mut tasks = self.tasks(segments, place);
            self.source.memory(&mut |memory| open(memory, self.series, &mut tasks));
            self.source.read(&mut |view| copy(view, self.series, &mut tasks))?;
            for task in &mut tasks {
                place = self.after(place.0, task, segments);
                if self.tell(task, sink)? == Flow::Stop {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The next batch, from a segment and a series on.
    fn tasks(&self, segments: &[Segment], (mut segment, mut first): (usize, usize)) -> Vec<Task> {
        let (mut tasks, mut room) = (Vec::new(), BATCH);
        while 0 < room && segment < segments.len() {
            let group = self.series[first].group;
            let rest = &self.series[first..];
            let count = rest.iter().take(room).take_while(|entry| entry.group == group).count();
            let (open, slices) = (Vec::new(), Vec::new());
            let series = first..first + count;
            tasks.push(Task { segment: segments[segment], group, series, open, slices });
            room -= count;
            first += count;
            if first == self.series.len() {
                (segment, first) = (segment + 1, 0);
            }
        }
        tasks
    }

    /// The place behind a task that was done.
    fn after(&self, segment: usize, task: &Task, segments: &[Segment]) -> (usize, usize) {
        let its = segments[segment..].iter().position(|other| *other == task.segment);
        let segment = segment + its.expect("BUG: tasks are made of segments");
        let end = task.series.end;
        if end == self.series.len() { (segment + 1, 0) } else { (segment, end) }
    }

    /// Tells what was copied of a task.
    fn tell(&mut self, task: &mut Task, sink: &mut Sink<'_>) -> Result<Flow, Error> {
        if task.segment.tier == Tier::Raw {
            self.samples(task, sink)
        } else {
            self.points(task, sink)
        }
    }

    fn points(&mut self, task: &Task, sink: &mut Sink<'_>) -> Result<Flow, Error> {
        let Segment { tier, span, from_ms, to_ms } = task.segment;
        let (start, step) = (tier.span_start(span), tier.step_ms());
        for slice in &task.slices {
            let head = block::unseal(&slice.head);
            let Some(common) = self.sound(head.and_then(|head| Common::decode(&head, start, step)))
            else {
                continue;
            };
            let mut parts = Parts::new(&slice.parts);
            for series in task.series.clone() {
                let Some(bytes) = parts.column(self.series[series].column, &mut self.damaged)
                else {
                    continue;
                };
                let points = self.sound(point::decode(bytes, &common)).unwrap_or_default();
                for (number, point) in &points {
                    let at_ms = start.saturating_add(i64::from(*number).saturating_mul(step));
                    if (from_ms..to_ms).contains(&at_ms)
                        && sink(series, Piece::Point(at_ms, point))? == Flow::Stop
                    {
                        return Ok(Flow::Stop);
                    }
                }
            }
        }
        Ok(Flow::On)
    }

    fn samples(&mut self, task: &mut Task, sink: &mut Sink<'_>) -> Result<Flow, Error> {
        let mut until = i64::MIN;
        for slice in std::mem::take(&mut task.slices) {
            let head = block::unseal(&slice.head);
            let times = head.and_then(|head| times::decode(&head));
            // Slices follow each other; one that does not would be told out of order.
            let times = times.and_then(|times| match times.first() {
                Some(first) if until < *first => Ok(times),
                _ => Err(Spoilt("its moments are those of another slice")),
            });
            let Some(times) = self.sound(times) else { continue };
            until = times.last().copied().unwrap_or(until);
            if times[0] < task.segment.to_ms
                && task.segment.from_ms <= until
                && self.slice(task, &times, &slice.parts, sink)? == Flow::Stop
            {
                return Ok(Flow::Stop);
            }
        }
        for (series, open) in task.series.clone().zip(&task.open) {
            if !open.is_empty() && sink(series, Piece::Samples(open))? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::On)
    }

    /// Tells the samples of a slice, and what is open up to its end.
    fn slice(
        &mut self,
        task: &mut Task,
        times: &[i64],
        parts: &[(u16, Vec<u8>)],
        sink: &mut Sink<'_>,
    ) -> Result<Flow, Error> {
        let rows = u32::try_from(times.len()).unwrap_or(u32::MAX);
        let until = times.last().copied().unwrap_or(i64::MIN);
        let range = task.segment.from_ms..task.segment.to_ms;
        let mut parts = Parts::new(parts);
        for (series, open) in task.series.clone().zip(&mut task.open) {
            let Some(mut bytes) = parts.column(self.series[series].column, &mut self.damaged)
            else {
                continue;
            };
            let Some(column) = self.sound(column::decode(&mut bytes, rows)) else { continue };
            self.samples.clear();
            sealed(times, &column, &range, &mut self.samples);
            // What is open lies over what is sealed.
            let above = open.partition_point(|(at, _)| *at <= until);
            if 0 < above {
                overlay(&mut self.samples, &open[..above]);
                open.drain(..above);
            }
            if !self.samples.is_empty()
                && sink(series, Piece::Samples(&self.samples))? == Flow::Stop
            {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::On)
    }

    /// What was read, or nothing and one more that is damaged.
    fn sound<T>(&mut self, read: Result<T, Spoilt>) -> Option<T> {
        self.damaged += u64::from(read.is_err());
        read.ok()
    }
}

/// The samples of a column within a range.
fn sealed(times: &[i64], column: &Column, range: &Range<i64>, out: &mut Vec<(i64, f64)>) {
    match &column.rows {
        Rows::From(first) => {
            let times = times.get(*first as usize..).unwrap_or_default();
            let count = times.len().min(column.values.len());
            let (times, values) = (&times[..count], &column.values[..count]);
            let start = times.partition_point(|at| *at < range.start);
            let end = times.partition_point(|at| *at < range.end).max(start);
            let within = times[start..end].iter().zip(&values[start..end]);
            out.extend(within.map(|(at, value)| (*at, *value)));
        }
        Rows::Some(rows) => {
            let all = rows.iter().zip(&column.values);
            let all = all.filter_map(|(row, value)| Some((*times.get(*row as usize)?, *value)));
            out.extend(all.filter(|(at, _)| range.contains(at)));
        }
    }
}

/// Puts samples over others; both ascend.
fn overlay(samples: &mut Vec<(i64, f64)>, above: &[(i64, f64)]) {
    if samples.last().map(|(at, _)| *at) < above.first().map(|(at, _)| *at) {
        samples.extend_from_slice(above);
        return;
    }
    let below = std::mem::take(samples);
    let mut above = above.iter().copied().peekable();
    for sample in below {
        while let Some(earlier) = above.next_if(|(at, _)| *at < sample.0) {
            samples.push(earlier);
        }
        samples.push(above.next_if(|(at, _)| *at == sample.0).unwrap_or(sample));
    }
    samples.extend(above);
}

/// The columns of parts, asked for in ascending order: each part is opened once.
struct Parts<'p> {
    rest: &'p [(u16, Vec<u8>)],
    opened: Option<Opened>,
}

impl<'p> Parts<'p> {
    fn new(parts: &'p [(u16, Vec<u8>)]) -> Parts<'p> {
        Parts { rest: parts, opened: None }
    }

    fn column(&mut self, column: u16, damaged: &mut u64) -> Option<&[u8]> {
        let before = self.rest.partition_point(|(first, _)| *first <= column);
        if let Some(((_, bytes), _)) = self.rest[..before].split_last() {
            self.opened = Opened::open(bytes).ok();
            *damaged += u64::from(self.opened.is_none());
            self.rest = &self.rest[before..];
        }
        self.opened.as_ref()?.column(column)
    }
}

/// Copies what is open; cuts the batch where it is too much.
fn open(memory: &Memory, series: &[Entry], tasks: &mut Vec<Task>) {
    let mut samples = 0;
    for number in 0..tasks.len() {
        let task = &mut tasks[number];
        task.open.clear();
        if task.segment.tier != Tier::Raw {
            continue;
        }
        for entry in &series[task.series.clone()] {
            let open = memory.read(entry, task.segment.from_ms, task.segment.to_ms);
            samples += open.len();
            task.open.push(open);
            if QUERY_OPEN_SAMPLES < samples {
                task.series.end = task.series.start + task.open.len();
                tasks.truncate(number + 1);
                return;
            }
        }
    }
}

/// Copies the blocks of tasks, as many as fit into one view, and cuts off the others.
fn copy(view: &dyn Read, series: &[Entry], tasks: &mut Vec<Task>) -> Result<(), RowError> {
    let mut room = Room { bytes: QUERY_VIEW_BYTES, rows: QUERY_VIEW_ROWS };
    for number in 0..tasks.len() {
        let task = &mut tasks[number];
        let wanted = task.series.end;
        let columns: Vec<u16> =
            series[task.series.clone()].iter().map(|entry| entry.column).collect();
        let covered = copy_slices(view, task, &columns, &mut room)?;
        task.series.end = task.series.start + covered;
        task.open.truncate(covered);
        if task.series.end < wanted || room.is_empty() {
            tasks.truncate(number + 1);
            break;
        }
    }
    Ok(())
}

/// Copies the slices of a group and span; for how many of the columns.
fn copy_slices(
    view: &dyn Read,
    task: &mut Task,
    columns: &[u16],
    room: &mut Room,
) -> Result<usize, RowError> {
    let (table, span, group) = (task.segment.tier.table(), task.segment.span, task.group);
    let key = |slice: u16, part: u16| block_key(span, group, slice, part);
    task.slices.clear();
    let mut last = None;
    let all = KeyRange { from: key(0, 0), to: Some(block_key(span, next(group), 0, 0)) };
    view.scan(table, &all, Order::Reverse, &mut |found, _| {
        last = read_block_key(found).ok();
        Flow::Stop
    })?;
    let Some((.., last, _)) = last else {
        return Ok(columns.len());
    };
    // All slices of a column are copied in this view, so each may have a share.
    let slices = usize::from(last) + 1;
    let share = Room { bytes: room.bytes / slices, rows: room.rows / slices };
    let mut covered = columns.len();
    for slice in 0..=last {
        // Slices are numbered without gaps: where there is no head, it is lost, and is found to be damaged below.
        let head = view.get(table, &key(slice, 0))?.unwrap_or_default();
        room.take(head.len());
        let mut share = if task.slices.is_empty() {
            share
        } else {
            Room { bytes: usize::MAX, rows: usize::MAX }
        };
        let place = Place { view, table, key: &|part| key(slice, part) };
        let (parts, count) = place.parts(&columns[..covered], &mut share)?;
        for (_, bytes) in &parts {
            room.take(bytes.len());
        }
        covered = covered.min(count);
        task.slices.push(Slice { head, parts });
    }
    Ok(covered)
}

fn next(group: GroupId) -> GroupId {
    GroupId(group.0.saturating_add(1))
}

/// One slice in the file.
struct Place<'v> {
    view: &'v dyn Read,
    table: crate::store::Table,
    key: &'v dyn Fn(u16) -> Vec<u8>,
}

type PartRows = Vec<(u16, Vec<u8>)>;

impl Place<'_> {
    /// The parts of columns (ascending, one at least), and for how many of them there was room.
    fn parts(&self, columns: &[u16], room: &mut Room) -> Result<(PartRows, usize), RowError> {
        let mut parts = Vec::new();
        let (first, last) = (columns[0], columns[columns.len() - 1]);
        // Neighbours are read along; otherwise each is looked up.
        if usize::from(last - first) < 4 * columns.len() && first < last {
            self.seek(first, &mut parts, room)?;
            let end = self.scan((first, last), &mut parts, room)?;
            let covered = columns.partition_point(|column| end.is_none_or(|end| *column < end));
            return Ok((parts, covered));
        }
        for (number, column) in columns.iter().enumerate() {
            if 0 < number && room.is_empty() {
                return Ok((parts, number));
            }
            self.seek(*column, &mut parts, room)?;
        }
        Ok((parts, columns.len()))
    }

    /// Copies the part in which a column stands, if it stands anywhere, unless it is the one before.
    fn seek(&self, column: u16, parts: &mut PartRows, room: &mut Room) -> Result<(), RowError> {
        let range = KeyRange::between(&(self.key)(1), &(self.key)(column.saturating_add(2)));
        self.view.scan(self.table, &range, Order::Reverse, &mut |key, value| {
            if let Some(first) = first_column(key)
                && parts.last().is_none_or(|(before, _)| *before < first)
            {
                room.take(value.len());
                parts.push((first, value.to_vec()));
            }
            Flow::Stop
        })?;
        Ok(())
    }

    /// Copies the parts that begin behind a column and not behind another; the column at which there was no more room.
    fn scan(
        &self,
        (first, last): (u16, u16),
        parts: &mut PartRows,
        room: &mut Room,
    ) -> Result<Option<u16>, RowError> {
        let from = first.saturating_add(2);
        let range = KeyRange::between(&(self.key)(from), &(self.key)(last.saturating_add(2)));
        let mut end = None;
        self.view.scan(self.table, &range, Order::Forward, &mut |key, value| {
            let Some(first) = first_column(key) else { return Flow::On };
            if room.is_empty() {
                end = Some(first);
                return Flow::Stop;
            }
            room.take(value.len());
            parts.push((first, value.to_vec()));
            Flow::On
        })?;
        Ok(end)
    }
}

/// The first column of a part.
fn first_column(key: &[u8]) -> Option<u16> {
    read_block_key(key).ok().and_then(|(.., part)| part.checked_sub(1))
}
