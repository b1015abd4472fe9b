//! What is known of the series without looking: the index, the open buckets, what is on its way to the log, what spans
//! there are, and figures.
//!
//! ```text
//!   write --> opens --begin_seal--> sealing --(commit)--> sealed: gone from here
//!        '--> pending --take_pending--> the log
//! ```
//!
//! A sample is in `opens` or in `sealing` until the commit that has it in a block; a reader looks here first and then into
//! the file, and so misses nothing. One lock around all of it, held for memory work alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::index::{Entry, Index};
use super::labels::Labels;
use super::open::{Open, Taken};
use super::rows::SpanRow;
use super::select::Selector;
use super::text::{self, BadLine};
use super::wal::{Item, Row};
use super::{DAY_MS, GroupId, HOUR_MS, Kind, SeriesId, Tier};
use crate::base::id::TenantId;
use crate::base::limits::{
    AHEAD_MAX, LATE_MAX, OPEN_BUCKET_SAMPLES, OPEN_SAMPLES_MAX, PENDING_CELLS_MAX,
    REFUSALS_TOLD_MAX, SERIES_MAX,
};
use crate::base::time::Timestamp;

/// What a writer calls a series.
#[derive(Clone, Debug)]
pub enum Name<'b> {
    /// As a line of an exposition has it: `metric{...}`.
    Text {
        /// The whole of it.
        name: &'b str,
        /// The metric alone.
        metric: &'b str,
    },
    /// Already taken apart.
    Labels(Labels),
}

/// A sample on its way in.
#[derive(Clone, Debug)]
pub struct Incoming<'b> {
    /// Its line or its index, for those who are told that it was refused.
    pub place: u32,
    /// Of which series.
    pub name: Name<'b>,
    /// What the writer says its values mean.
    pub kind: Option<Kind>,
    /// When; the moment of the call without.
    pub time_ms: Option<i64>,
    /// The value.
    pub value: f64,
}

/// Why one sample was not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It could not be read.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// It is older than late samples may be.
    #[error("it is older than a day; late samples are taken for a day")]
    TooOld,
    /// It is of the future.
    #[error(
        "its time lies more than 10 minutes ahead; times are milliseconds in expositions and seconds or RFC 3339 in JSON"
    )]
    TooNew,
    /// The tenant has as many series as it may have.
    #[error(
        "the quota series is {limit}, and {used} are used; an administrator raises it: \
         holdfast tenant set NAME --quota series=N, or deletes some: DELETE /v1/series?match=..."
    )]
    TooManySeries {
        /// How many it may have.
        limit: u64,
        /// How many it has; more than the limit if that was lowered.
        used: u64,
    },
    /// The server has as many as it may have.
    #[error("this server keeps at most {0} series")]
    ServerFull(usize),
}

impl Refusal {
    /// The stable word.
    pub const fn code(&self) -> &'static str {
        match self {
            Refusal::Line(BadLine::Malformed { .. }) => "malformed",
            Refusal::Line(BadLine::Labels(_)) => "invalid_labels",
            Refusal::TooOld => "too_old",
            Refusal::TooNew => "too_new",
            Refusal::TooManySeries { .. } | Refusal::ServerFull(_) => "quota_exceeded",
        }
    }
}

/// What became of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Samples that were taken; those that were there already are among them.
    pub accepted: u64,
    /// The others: place and why. At most [`crate::base::limits::REFUSALS_TOLD_MAX`] are told.
    pub refused: Vec<(u32, Refusal)>,
    /// How many were refused in all.
    pub refused_count: u64,
    /// When the log holds everything up to this number, all of it is on disk.
    pub sequence: u64,
}

/// The memory is full of samples that are not sealed yet: nothing of the call was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples that were taken.
    pub accepted: u64,
    /// Of them, those that were there already, with the same value.
    pub same: u64,
    /// Of them, those that took the place of another value.
    pub replaced: u64,
    /// Of them, those of an hour before the current one.
    pub late: u64,
    /// Refused: too old.
    pub too_old: u64,
    /// Refused: too new.
    pub too_new: u64,
    /// Refused: too many series.
    pub too_many: u64,
    /// Refused: could not be read.
    pub malformed: u64,
    /// Blocks that were damaged when somebody read them.
    pub damaged: u64,
    /// Samples of the log whose series is gone: they were left out when it was taken up.
    pub skipped: u64,
}

/// An open bucket's place: hour, and group.
pub type Place = (u32, GroupId);

type IsDistribution = dyn Fn(&str) -> bool + Send + Sync;

/// Says of a metric whether it is a distribution whoever writes it.
#[derive(Clone, Default)]
pub struct Distributions(Option<Arc<IsDistribution>>);

impl Distributions {
    /// Those for which `is` says yes.
    pub fn new(is: impl Fn(&str) -> bool + Send + Sync + 'static) -> Distributions {
        Distributions(Some(Arc::new(is)))
    }

    fn has(&self, metric: &str) -> bool {
        self.0.as_ref().is_some_and(|is| is(metric))
    }
}

impl std::fmt::Debug for Distributions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Distributions")
    }
}

/// See the module. Fields are public to the module's own operations alone.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) index: Index,
    pub(super) opens: BTreeMap<Place, Open>,
    pub(super) sealing: BTreeMap<Place, Arc<Open>>,
    /// The last hour that was sealed because it was over.
    pub(super) sealed_until: Option<u32>,
    /// Samples in `opens` and `sealing`.
    pub(super) samples: usize,
    pub(super) pending: Vec<Item>,
    /// What `pending` weighs: its cells, and [`ITEM_CELLS`] for each item.
    pub(super) pending_cells: usize,
    pub(super) sequence: u64,
    /// Series that are not, or not any more, as their rows in the file say.
    pub(super) unsaved: BTreeSet<SeriesId>,
    pub(super) next_series: u32,
    pub(super) next_group: u32,
    /// Groups below this one were there at the start, and get no new members: columns that they had before, of series
    /// that are deleted, may still be in the file.
    pub(super) closed_groups: u32,
    pub(super) spans: BTreeMap<(Tier, u32), SpanRow>,
    /// Days whose points are valid.
    pub(super) rolled: BTreeSet<u32>,
    pub(super) counts: Counts,
    pub(super) distributions: Distributions,
    /// Series in which the server stores its own figures, since the start: its recorder names them every ten seconds.
    pub(super) own: BTreeMap<TenantId, BTreeSet<SeriesId>>,
    /// For how long raw samples are kept; none as long as nobody said.
    pub(super) raw_kept_ms: Option<i64>,
}

/// What [`Memory::write`] is told instead of a tenant's quota when the samples are the server's own figures.
pub const OWN_SERIES: u64 = u64::MAX;

/// As much memory as so many cells takes an item on its way to the log.
const ITEM_CELLS: usize = 4;

/// A sample whose series is known.
struct Cell {
    at_ms: i64,
    group: GroupId,
    column: u16,
    value: f64,
}

/// A sample whose series is not.
struct Stranger<'s> {
    sample: &'s Incoming<'s>,
    labels: Labels,
    at_ms: i64,
}

/// A call that writes.
struct Call<'m> {
    memory: &'m mut Memory,
    tenant: TenantId,
    series_max: u64,
    now_ms: i64,
    /// The earliest and the latest moment that are taken.
    from_ms: i64,
    to_ms: i64,
    cells: Vec<Cell>,
    written: Written,
}

impl Call<'_> {
    fn refuse(&mut self, place: u32, refusal: Refusal) {
        let counts = &mut self.memory.counts;
        let counter = match refusal {
            Refusal::Line(_) => &mut counts.malformed,
            Refusal::TooOld => &mut counts.too_old,
            Refusal::TooNew => &mut counts.too_new,
            Refusal::TooManySeries { .. } | Refusal::ServerFull(_) => &mut counts.too_many,
        };
        *counter += 1;
        self.written.refused_count += 1;
        if self.written.refused.len() < REFUSALS_TOLD_MAX {
            self.written.refused.push((place, refusal));
        }
    }

    /// Takes it up if its series is known; gives it back if not.
    fn known<'s>(&mut self, sample: &'s Incoming<'s>) -> Result<Option<Stranger<'s>>, Refusal> {
        let at_ms = sample.time_ms.unwrap_or(self.now_ms);
        if at_ms < self.from_ms {
            return Err(Refusal::TooOld);
        }
        if self.to_ms < at_ms {
            return Err(Refusal::TooNew);
        }
        let index = &mut self.memory.index;
        let entry = match &sample.name {
            Name::Text { name, .. } => {
                if let Some(entry) = index.find_text(self.tenant, name.as_bytes()) {
                    entry
                } else {
                    let labels = text::labels(name)?;
                    let Some(id) = index.find(self.tenant, &labels).map(|entry| entry.id) else {
                        return Ok(Some(Stranger { sample, labels, at_ms }));
                    };
                    index.remember(self.tenant, name.as_bytes(), id);
                    index.get(id).expect("BUG: it was found in a line above")
                }
            }
            Name::Labels(labels) => match index.find(self.tenant, labels) {
                Some(entry) => entry,
                None => return Ok(Some(Stranger { sample, labels: labels.clone(), at_ms })),
            },
        };
        let cell = Cell { at_ms, group: entry.group, column: entry.column, value: sample.value };
        let said = sample.kind.filter(|said| *said != entry.kind).map(|said| (entry.id, said));
        let id = entry.id;
        self.cells.push(cell);
        self.note_own(id);
        if let Some((id, kind)) = said {
            self.memory.say_kind(id, kind);
        }
        Ok(None)
    }

    /// The server's own figures are no part of what a tenant may have.
    fn note_own(&mut self, id: SeriesId) {
        if self.series_max == OWN_SERIES {
            self.memory.own.entry(self.tenant).or_default().insert(id);
        }
    }

    /// Makes series of those that are not known, and takes them up.
    fn strangers(&mut self, strangers: Vec<Stranger<'_>>) {
        if strangers.is_empty() {
            return;
        }
        // Groups of each moment: a new series joins one of those that arrived with it.
        let mut rows: BTreeMap<i64, BTreeSet<GroupId>> = BTreeMap::new();
        for cell in &self.cells {
            rows.entry(cell.at_ms).or_default().insert(cell.group);
        }
        for Stranger { sample, labels, at_ms } in strangers {
            // One before it in the call may have made it.
            let found = self.memory.index.find(self.tenant, &labels);
            let place = match found.map(|entry| (entry.id, (entry.group, entry.column))) {
                Some((id, place)) => {
                    if let Some(kind) = sample.kind {
                        self.memory.say_kind(id, kind);
                    }
                    place
                }
                None => match self.define(sample, labels, rows.entry(at_ms).or_default()) {
                    Ok(place) => place,
                    Err(refusal) => {
                        self.refuse(sample.place, refusal);
                        continue;
                    }
                },
            };
            let (group, column) = place;
            self.cells.push(Cell { at_ms, group, column, value: sample.value });
        }
    }

    /// Makes a series; where it stands.
    fn define(
        &mut self,
        sample: &Incoming<'_>,
        labels: Labels,
        row: &mut BTreeSet<GroupId>,
    ) -> Result<(GroupId, u16), Refusal> {
        let memory = &mut *self.memory;
        let own = memory.own.get(&self.tenant).map_or(0, BTreeSet::len);
        let used = memory.index.count(self.tenant).saturating_sub(own) as u64;
        if self.series_max <= used {
            return Err(Refusal::TooManySeries { limit: self.series_max, used });
        }
        let full = Refusal::ServerFull(SERIES_MAX);
        if SERIES_MAX <= memory.index.len() {
            return Err(full);
        }
        let (Some(after), Some(group_after)) =
            (memory.next_series.checked_add(1), memory.new_group().0.checked_add(1))
        else {
            return Err(full);
        };
        let closed = memory.closed_groups;
        let mut room = row
            .range(GroupId(closed)..)
            .rev()
            .filter_map(|group| Some((*group, memory.index.next_column(*group)?)));
        let (group, column) = room.next().unwrap_or((memory.new_group(), 0));
        let metric = labels.metric();
        let kind = if memory.distributions.has(metric) {
            Kind::Distribution
        } else {
            sample.kind.unwrap_or_else(|| Kind::of_metric(metric))
        };
        let id = SeriesId(memory.next_series);
        let entry = Entry { id, tenant: self.tenant, group, column, kind, labels };
        let added = memory.index.add(entry.clone());
        assert!(added, "BUG: nobody has its id, its labels or its place");
        if let Name::Text { name, .. } = &sample.name {
            memory.index.remember(self.tenant, name.as_bytes(), id);
        }
        memory.next_series = after;
        if self.series_max == OWN_SERIES {
            memory.own.entry(self.tenant).or_default().insert(id);
        }
        if memory.next_group <= group.0 {
            memory.next_group = group_after;
        }
        memory.unsaved.insert(id);
        memory.push_pending(Item::Define(entry));
        row.insert(group);
        Ok((group, column))
    }

    /// Puts what was taken up into open buckets, and what changed on the way to the log.
    fn take(mut self) -> Written {
        let memory = self.memory;
        let late_before = Tier::Raw.span_start(Tier::Raw.span_of(self.now_ms));
        let mut changed = Vec::with_capacity(self.cells.len());
        self.written.accepted = self.cells.len() as u64;
        memory.counts.accepted += self.written.accepted;
        let mut cells = self.cells.into_iter().peekable();
        while let Some(first) = cells.peek() {
            let place = (Tier::Raw.span_of(first.at_ms), first.group);
            let open = memory.opens.entry(place).or_default();
            let (start, before) = (Tier::Raw.span_start(place.0), open.samples());
            let here = |cell: &Cell| {
                cell.group == place.1 && (start..start + HOUR_MS).contains(&cell.at_ms)
            };
            while let Some(cell) = cells.next_if(here) {
                memory.counts.late += u64::from(cell.at_ms < late_before);
                match open.set(cell.at_ms, cell.column, cell.value) {
                    Taken::Same => memory.counts.same += 1,
                    Taken::Replaced => {
                        memory.counts.replaced += 1;
                        changed.push(cell);
                    }
                    Taken::New => changed.push(cell),
                }
            }
            memory.samples += open.samples() - before;
        }
        memory.push_rows(changed);
        self.written.sequence = memory.sequence;
        self.written
    }
}

impl Memory {
    /// An empty one, whose tables of names nobody can crowd who does not know the seed.
    pub fn with_seed(seed: u64) -> Memory {
        Memory { index: Index::with_seed(seed), ..Memory::default() }
    }

    /// Takes samples, at `now`, into a tenant that may have `series_max` series. Those that are refused do not keep the
    /// others out.
    ///
    /// Samples of one call that have one moment are rows: series that are new join the group of a series of that row that is
    /// known, as long as it has room, or begin one.
    pub fn write(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        series_max: u64,
        samples: &[Incoming<'_>],
    ) -> Result<Written, Full> {
        // A call alone may be as large as it likes: its body is bounded.
        let pending = if self.pending.is_empty() { 0 } else { self.pending_cells + samples.len() };
        let open = if self.samples == 0 { 0 } else { self.open_weight() + samples.len() };
        if OPEN_SAMPLES_MAX < open || PENDING_CELLS_MAX < pending {
            return Err(Full);
        }
        let mut call = Call {
            memory: self,
            tenant,
            series_max,
            now_ms: now.unix_ms(),
            from_ms: now.minus(LATE_MAX).unix_ms(),
            to_ms: now.plus(AHEAD_MAX).unix_ms(),
            cells: Vec::with_capacity(samples.len()),
            written: Written::default(),
        };
        let mut strangers = Vec::new();
        for sample in samples {
            match call.known(sample) {
                Ok(stranger) => strangers.extend(stranger),
                Err(refusal) => call.refuse(sample.place, refusal),
            }
        }
        call.strangers(strangers);
        Ok(call.take())
    }

    /// Raw samples are kept for so long: what needs them is not asked of times before that.
    pub fn set_raw_kept(&mut self, kept: Duration) {
        self.raw_kept_ms = i64::try_from(kept.as_millis()).ok();
    }

    /// What is a distribution whoever writes it; for series that come from now on.
    pub fn set_distributions(&mut self, distributions: Distributions) {
        self.distributions = distributions;
    }

    /// Somebody says what the values of a series mean.
    fn say_kind(&mut self, id: SeriesId, kind: Kind) {
        let Some(entry) = self.index.get(id) else {
            return;
        };
        let settled =
            entry.kind == Kind::Distribution && self.distributions.has(entry.labels.metric());
        if settled || entry.kind == kind {
            return;
        }
        self.index.set_kind(id, kind);
        self.unsaved.insert(id);
        self.push_pending(Item::Kind(id, kind));
    }

    /// The number of a group that begins with the next series: never below that series' own, so that whoever knows which
    /// series there were knows also which groups.
    fn new_group(&self) -> GroupId {
        GroupId(self.next_group.max(self.next_series))
    }

    fn push_pending(&mut self, item: Item) {
        self.pending_cells += ITEM_CELLS;
        if let Item::Row(row) = &item {
            self.pending_cells += row.cells.len();
        }
        self.pending.push(item);
        self.sequence += 1;
    }

    /// Puts cells on the way to the log, as rows; of two of one place, the later one.
    fn push_rows(&mut self, mut cells: Vec<Cell>) {
        let place = |cell: &Cell| (cell.at_ms, cell.group, cell.column);
        if !cells.is_sorted_by_key(place) {
            cells.sort_by_key(place);
        }
        for row in cells.chunk_by(|a, b| (a.at_ms, a.group) == (b.at_ms, b.group)) {
            let mut its: Vec<(u16, f64)> = Vec::with_capacity(row.len());
            for cell in row {
                match its.last_mut() {
                    Some((column, value)) if *column == cell.column => *value = cell.value,
                    _ => its.push((cell.column, cell.value)),
                }
            }
            let (group, at_ms) = (row[0].group, row[0].at_ms);
            self.push_pending(Item::Row(Row { group, at_ms, cells: its }));
        }
    }

    /// Whether so much waits for the log that it should not wait any longer.
    pub fn is_half_full(&self) -> bool {
        PENDING_CELLS_MAX / 2 <= self.pending_cells
    }

    /// The number of what happened last.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Deletes what is meant; how many, and the number after which that is on disk. What was stored of them is out of
    /// reach at once, and goes from the file with its age, or when its block is written anew.
    pub fn delete(
        &mut self,
        tenant: TenantId,
        selector: Option<&Selector>,
        series_max: usize,
    ) -> (usize, u64) {
        let meant = self.index.page(tenant, selector, None, series_max);
        let ids: Vec<SeriesId> = meant.into_iter().map(|entry| entry.id).collect();
        for id in &ids {
            self.push_pending(Item::Delete(*id));
        }
        self.remove(&ids);
        (ids.len(), self.sequence)
    }

    /// Removes series, and their samples that are open. Those that are being sealed cannot be reached any more.
    fn remove(&mut self, ids: &[SeriesId]) {
        let mut gone: BTreeMap<GroupId, Vec<u16>> = BTreeMap::new();
        for id in ids {
            if let Some(entry) = self.index.remove(*id) {
                if let Some(own) = self.own.get_mut(&entry.tenant) {
                    own.remove(id);
                    if own.is_empty() {
                        self.own.remove(&entry.tenant);
                    }
                }
                gone.entry(entry.group).or_default().push(entry.column);
                self.unsaved.insert(*id);
            }
        }
        for (group, columns) in gone {
            let mut places = Vec::new();
            each_hour(&self.opens, group, (0, i64::MAX), &mut |hour, _| places.push((hour, group)));
            for place in places {
                let open = self.opens.get_mut(&place).expect("BUG: it was found a line above");
                self.samples -= columns.iter().map(|column| open.remove(*column)).sum::<usize>();
                if open.samples() == 0 {
                    self.opens.remove(&place);
                }
            }
        }
    }

    /// Takes up one item of the log. Taking it up twice changes nothing.
    pub fn replay(&mut self, item: Item) {
        match item {
            Item::Define(entry) => self.replay_series(entry),
            Item::Kind(id, kind) => {
                if self.index.get(id).is_some_and(|entry| entry.kind != kind) {
                    self.index.set_kind(id, kind);
                    self.unsaved.insert(id);
                }
            }
            Item::Delete(id) => {
                self.know_id(id);
                self.remove(&[id]);
                // Also if it is not in the file: the ids that come next are written there with it.
                self.unsaved.insert(id);
            }
            Item::Row(row) => self.replay_row(&row),
        }
    }

    /// Neither the id nor a group of this number is given to anybody.
    fn know_id(&mut self, id: SeriesId) {
        let after = id.0.saturating_add(1);
        self.next_series = self.next_series.max(after);
        self.next_group = self.next_group.max(after);
    }

    fn replay_series(&mut self, entry: Entry) {
        self.know_id(entry.id);
        self.next_group = self.next_group.max(entry.group.0.saturating_add(1));
        let (id, kind) = (entry.id, entry.kind);
        match self.index.get(id).map(|known| known.kind) {
            Some(known) if known == kind => {}
            Some(_) => {
                self.index.set_kind(id, kind);
                self.unsaved.insert(id);
            }
            // Where its labels are another's, it was deleted since, and the log goes on to say so.
            None => {
                if self.index.add(entry) {
                    self.unsaved.insert(id);
                }
            }
        }
    }

    fn replay_row(&mut self, row: &Row) {
        let place = (Tier::Raw.span_of(row.at_ms), row.group);
        let open = self.opens.entry(place).or_default();
        let (before, is_there) = (open.samples(), self.index.columns(row.group));
        for (column, value) in &row.cells {
            if is_there(*column) {
                open.set(row.at_ms, *column, *value);
            } else {
                self.counts.skipped += 1;
            }
        }
        self.samples += open.samples() - before;
        if open.samples() == 0 {
            self.opens.remove(&place);
        }
    }

    /// What has happened since the last time, for the log, and the number up to which that is.
    pub fn take_pending(&mut self) -> (Vec<Item>, u64) {
        self.pending_cells = 0;
        (std::mem::take(&mut self.pending), self.sequence)
    }

    /// Everything that a new log has to hold, with all that is pending: what is open or being sealed, and what the file
    /// does not know of the list of series; and the number up to which that is.
    pub fn everything(&mut self) -> (Vec<Item>, u64) {
        let (_, sequence) = self.take_pending();
        let (mut gone, mut items) = (Vec::new(), Vec::new());
        for id in &self.unsaved {
            match self.index.get(*id) {
                Some(entry) => items.push(Item::Define(entry.clone())),
                None => gone.push(Item::Delete(*id)),
            }
        }
        // Those that are gone first: others may have their labels now.
        gone.append(&mut items);
        for (place, open) in &self.sealing {
            self.rows_of(*place, open, &mut gone);
        }
        for (place, open) in &self.opens {
            self.rows_of(*place, open, &mut gone);
        }
        (gone, sequence)
    }

    /// A bucket as rows.
    fn rows_of(&self, (_, group): Place, open: &Open, items: &mut Vec<Item>) {
        let mut slice = open.slice();
        slice.retain(self.index.columns(group));
        let (times, columns) = (slice.times.len(), slice.columns.len());
        // Where most cells are there, rows do not grow again and again; where they are not, they take no room.
        let room = if times * columns < 2 * open.samples() { columns } else { 0 };
        let mut rows: Vec<Vec<(u16, f64)>> = (0..times).map(|_| Vec::with_capacity(room)).collect();
        for (number, column) in &slice.columns {
            column.cells().for_each(|(row, value)| rows[row as usize].push((*number, value)));
        }
        let rows = slice.times.into_iter().zip(rows);
        items.extend(rows.map(|(at_ms, cells)| Item::Row(Row { group, at_ms, cells })));
    }

    /// The file was opened anew, and `file` is what it holds: whatever of it was written last may be there or not.
    pub fn adopt(&mut self, file: Memory) {
        let here = self.index.all().filter(|entry| file.index.get(entry.id) != Some(entry));
        let gone = file.index.all().filter(|entry| self.index.get(entry.id).is_none());
        // What was not saved before stays so: of a series that came and went the file knows nothing, and not that its id is used.
        self.unsaved.extend(here.chain(gone).map(|entry| entry.id));
        self.next_series = self.next_series.max(file.next_series);
        self.next_group = self.next_group.max(file.next_group);
        self.spans = file.spans;
        self.rolled = file.rolled;
    }

    /// The samples of a series that are here, ascending, those of now over those that are being sealed.
    pub fn read(&self, entry: &Entry, from_ms: i64, to_ms: i64) -> Vec<(i64, f64)> {
        let mut samples = Vec::new();
        each_hour(&self.opens, entry.group, (from_ms, to_ms), &mut |_, open| {
            open.read(entry.column, from_ms, to_ms, &mut samples);
        });
        let mut below = Vec::new();
        each_hour(&self.sealing, entry.group, (from_ms, to_ms), &mut |_, open| {
            open.read(entry.column, from_ms, to_ms, &mut below);
        });
        if below.is_empty() {
            return samples;
        }
        below.retain(|(at, _)| samples.binary_search_by_key(at, |(at, _)| *at).is_err());
        samples.append(&mut below);
        samples.sort_unstable_by_key(|(at, _)| *at);
        samples
    }

    /// The list of series.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Counts samples that could not be read and so never came here.
    pub fn count_malformed(&mut self, samples: u64) {
        self.counts.malformed += samples;
    }

    /// Samples that are not sealed.
    pub fn open_samples(&self) -> usize {
        self.samples
    }

    /// What samples that are not sealed weigh, in samples: many buckets with few of them take more memory than they do.
    pub(super) fn open_weight(&self) -> usize {
        self.samples + OPEN_BUCKET_SAMPLES * (self.opens.len() + self.sealing.len())
    }

    /// What each tier holds: its first and last span, and the sum of its rows.
    pub fn tier(&self, tier: Tier) -> Option<(u32, u32, SpanRow)> {
        let mut spans = self.spans.range((tier, 0)..=(tier, u32::MAX));
        let (&(_, first), row) = spans.next()?;
        let mut found = (first, first, *row);
        for (&(_, span), row) in spans {
            let held = &mut found.2;
            found.1 = span;
            held.rows = held.rows.saturating_add(row.rows);
            held.bytes = held.bytes.saturating_add(row.bytes);
            held.pages = held.pages.saturating_add(row.pages);
        }
        Some(found)
    }

    /// Whether the points of a day can be read: they are valid, and nothing of that day is open.
    pub fn is_rolled(&self, day: u32) -> bool {
        self.rolled.contains(&day) && !self.is_open(day)
    }

    /// Whether something of a day is open or being sealed.
    pub(super) fn is_open(&self, day: u32) -> bool {
        let start = Tier::Raw.span_of(i64::from(day) * DAY_MS);
        let end = Tier::Raw.span_of((i64::from(day) + 1) * DAY_MS);
        let hours = (start, GroupId(0))..(end, GroupId(0));
        self.opens.range(hours.clone()).next().is_some()
            || self.sealing.range(hours).next().is_some()
    }
}

/// Visits the buckets of a group that may have samples of a stretch of time, in order. However long that is, it looks only
/// at hours that are there.
fn each_hour<T: std::borrow::Borrow<Open>>(
    buckets: &BTreeMap<Place, T>,
    group: GroupId,
    (from_ms, to_ms): (i64, i64),
    visit: &mut dyn FnMut(u32, &Open),
) {
    let (Some(((first, _), _)), Some(((last, _), _))) =
        (buckets.first_key_value(), buckets.last_key_value())
    else {
        return;
    };
    let last_end = Tier::Raw.span_start(*last) + HOUR_MS;
    let (from_ms, to_ms) = (from_ms.max(Tier::Raw.span_start(*first)), to_ms.min(last_end));
    if to_ms <= from_ms {
        return;
    }
    let (mut hour, end) = (Tier::Raw.span_of(from_ms), Tier::Raw.span_of(to_ms - 1));
    while hour <= end {
        let Some((&(its_hour, its_group), open)) = buckets.range((hour, group)..).next() else {
            return;
        };
        if (its_hour, its_group) == (hour, group) {
            visit(hour, open.borrow());
        }
        // Another group of this hour says nothing of later ones.
        hour = if its_hour == hour { hour + 1 } else { its_hour };
    }
}

#[cfg(test)]
mod tests;
