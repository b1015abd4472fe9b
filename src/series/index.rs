//! Which series there are: found by their labels, by what a writer calls them, and by what a selector wants.
//!
//! In memory alone; read from the file at the start. Pairs of label and value are kept once, with the series that have
//! them: a selector is an intersection of such lists, and an expression is tried once per value and not per series.
//!
//! ```text
//!   slots   [Entry | free]*                    tables of slot numbers:  ids, labels, texts (through their rows)
//!   tenant  -> all its ids; label -> value -> ids               the metric is the value of the label __name__
//!   group   -> tenant; column -> slot; the column after the last one it ever had
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::ops::Bound;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::labels::{Labels, METRIC_LABEL};
use super::select::{Comparison, Matcher, Selector};
use super::{GroupId, Kind, SeriesId};
use crate::base::id::TenantId;
use crate::base::limits::{GROUP_SERIES_MAX, SERIES_TEXTS_MIN};

/// A series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: SeriesId,
    /// Whose it is.
    pub tenant: TenantId,
    /// With what it arrives.
    pub group: GroupId,
    /// Which column of that group it is.
    pub column: u16,
    /// What its values mean.
    pub kind: Kind,
    /// What it is called.
    pub labels: Labels,
}

/// No slot, no text.
const NONE: u32 = u32::MAX;

/// A place for a series.
#[derive(Debug)]
struct Slot {
    entry: Entry,
    /// The first of the texts that lead here.
    text: u32,
}

/// What a writer calls a series.
#[derive(Debug)]
struct Text {
    bytes: Box<[u8]>,
    slot: u32,
    /// The next one of the same series.
    next: u32,
}

/// The series that have a value.
type Ids = BTreeSet<SeriesId>;

/// What is known of a tenant.
#[derive(Debug, Default)]
struct Tenant {
    ids: Ids,
    labels: BTreeMap<Box<str>, BTreeMap<Box<str>, Ids>>,
}

/// A group. One without series is kept, so that none of its columns is given again.
#[derive(Debug)]
struct Group {
    tenant: TenantId,
    /// Slots by column; [`NONE`] where there is none.
    columns: Vec<u32>,
    live: u16,
    next: u16,
}

/// All series of all tenants.
#[derive(Debug, Default)]
pub struct Index {
    hasher: FixedState,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    ids: HashTable<u32>,
    labels: HashTable<u32>,
    texts: Vec<Text>,
    text_table: HashTable<u32>,
    tenants: BTreeMap<TenantId, Tenant>,
    groups: BTreeMap<GroupId, Group>,
}

fn place(slot: u32) -> usize {
    usize::try_from(slot).expect("BUG: this is no machine of 16 bits")
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("BUG: there are far fewer series and texts than numbers")
}

impl Index {
    /// An empty one, whose tables nobody can crowd who does not know the seed.
    pub fn with_seed(seed: u64) -> Index {
        Index { hasher: FixedState::with_seed(seed), ..Index::default() }
    }

    fn hash(&self, tenant: TenantId, bytes: &[u8]) -> u64 {
        hash(&self.hasher, tenant, bytes)
    }

    fn slot(&self, slot: u32) -> &Slot {
        slot_of(&self.slots, slot)
    }

    fn entry(&self, slot: u32) -> &Entry {
        &self.slot(slot).entry
    }

    fn slot_of_id(&self, id: SeriesId) -> Option<u32> {
        let hash = hash_id(&self.hasher, id);
        self.ids.find(hash, |slot| self.entry(*slot).id == id).copied()
    }

    /// The series with these labels.
    pub fn find(&self, tenant: TenantId, labels: &Labels) -> Option<&Entry> {
        let hash = self.hash(tenant, labels.as_bytes());
        let is_it = |slot: &u32| {
            let entry = self.entry(*slot);
            entry.tenant == tenant && entry.labels == *labels
        };
        self.labels.find(hash, is_it).map(|slot| self.entry(*slot))
    }

    /// The series that this tenant's expositions call so: the bytes of `metric{...}` as they stood in a line that was
    /// understood before ([`Index::remember`]). Costs one hash.
    pub fn find_text(&self, tenant: TenantId, text: &[u8]) -> Option<&Entry> {
        let row = self.text_row(tenant, text)?;
        Some(self.entry(self.texts[place(row)].slot))
    }

    fn text_row(&self, tenant: TenantId, text: &[u8]) -> Option<u32> {
        let is_it = |row: &u32| {
            let row = &self.texts[place(*row)];
            *row.bytes == *text && self.entry(row.slot).tenant == tenant
        };
        self.text_table.find(self.hash(tenant, text), is_it).copied()
    }

    /// From now on `text` is this series. Bounded: beyond twice as many texts as series (and 1,000) all are forgotten; one
    /// that is far longer than the labels, as blanks make it, is not kept.
    pub fn remember(&mut self, tenant: TenantId, text: &[u8], id: SeriesId) {
        let Some(slot) = self.slot_of_id(id) else {
            return;
        };
        let entry = self.entry(slot);
        if entry.tenant != tenant || text_bytes_max(&entry.labels) < text.len() {
            return;
        }
        match self.text_row(tenant, text) {
            Some(row) if self.texts[place(row)].slot == slot => return,
            Some(row) => self.forget_text(row),
            None => {}
        }
        if (2 * self.len()).max(SERIES_TEXTS_MIN) <= self.texts.len() {
            self.forget_texts();
        }
        let row = number(self.texts.len());
        let first = &mut slot_mut(&mut self.slots, slot).text;
        self.texts.push(Text { bytes: text.into(), slot, next: *first });
        *first = row;
        let hash = self.hash(tenant, text);
        let Index { hasher, slots, texts, text_table, .. } = self;
        text_table.insert_unique(hash, row, |row| {
            let row = &texts[place(*row)];
            hash_text(hasher, slots, row)
        });
    }

    fn forget_texts(&mut self) {
        self.texts = Vec::new();
        self.text_table = HashTable::new();
        for slot in self.slots.iter_mut().flatten() {
            slot.text = NONE;
        }
    }

    /// Forgets one text; the last row takes its place.
    fn forget_text(&mut self, row: u32) {
        self.replace_link(row, self.texts[place(row)].next);
        self.unlist_text(row);
        let last = number(self.texts.len() - 1);
        if row != last {
            self.replace_link(last, row);
            let hash = hash_text(&self.hasher, &self.slots, &self.texts[place(last)]);
            let listed = self.text_table.find_mut(hash, |listed| *listed == last);
            *listed.expect("BUG: every text is in the table") = row;
        }
        self.texts.swap_remove(place(row));
    }

    fn unlist_text(&mut self, row: u32) {
        let hash = hash_text(&self.hasher, &self.slots, &self.texts[place(row)]);
        let listed = self.text_table.find_entry(hash, |listed| *listed == row);
        listed.expect("BUG: every text is in the table").remove();
    }

    /// Whatever leads to a row leads elsewhere now.
    fn replace_link(&mut self, row: u32, to: u32) {
        let slot = self.texts[place(row)].slot;
        let mut at = self.slot(slot).text;
        if at == row {
            slot_mut(&mut self.slots, slot).text = to;
            return;
        }
        loop {
            let next = &mut self.texts[place(at)].next;
            if *next == row {
                *next = to;
                return;
            }
            at = *next;
        }
    }

    /// A series by its id.
    pub fn get(&self, id: SeriesId) -> Option<&Entry> {
        self.slot_of_id(id).map(|slot| self.entry(slot))
    }

    /// Adds one whose id, labels and place are new. False, and nothing is changed, if any of them is not; or if its group
    /// is another tenant's, or its column none.
    pub fn add(&mut self, entry: Entry) -> bool {
        let foreign =
            self.groups.get(&entry.group).is_some_and(|group| group.tenant != entry.tenant);
        if foreign
            || GROUP_SERIES_MAX <= entry.column
            || self.get(entry.id).is_some()
            || self.at(entry.group, entry.column).is_some()
            || self.find(entry.tenant, &entry.labels).is_some()
        {
            return false;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            number(self.slots.len() - 1)
        });
        self.add_to_tenant(&entry);
        self.add_to_group(&entry, slot);
        let (id_hash, labels_hash) =
            (hash_id(&self.hasher, entry.id), self.hash(entry.tenant, entry.labels.as_bytes()));
        self.slots[place(slot)] = Some(Slot { entry, text: NONE });
        let Index { hasher, slots, ids, labels, .. } = self;
        ids.insert_unique(id_hash, slot, |slot| hash_id(hasher, slot_of(slots, *slot).entry.id));
        labels.insert_unique(labels_hash, slot, |slot| {
            let entry = &slot_of(slots, *slot).entry;
            hash(hasher, entry.tenant, entry.labels.as_bytes())
        });
        true
    }

    fn add_to_tenant(&mut self, entry: &Entry) {
        let tenant = self.tenants.entry(entry.tenant).or_default();
        tenant.ids.insert(entry.id);
        for (label, value) in pairs(&entry.labels) {
            // Most are there already: nothing is copied for them.
            if !tenant.labels.contains_key(label) {
                tenant.labels.insert(label.into(), BTreeMap::new());
            }
            let values = tenant.labels.get_mut(label).expect("BUG: it was put there just now");
            match values.get_mut(value) {
                Some(ids) => drop(ids.insert(entry.id)),
                None => drop(values.insert(value.into(), Ids::from([entry.id]))),
            }
        }
    }

    fn add_to_group(&mut self, entry: &Entry, slot: u32) {
        let group = self.groups.entry(entry.group).or_insert_with(|| Group {
            tenant: entry.tenant,
            columns: Vec::new(),
            live: 0,
            next: 0,
        });
        let column = usize::from(entry.column);
        if group.columns.len() <= column {
            group.columns.resize(column + 1, NONE);
        }
        group.columns[column] = slot;
        group.live += 1;
        group.next = group.next.max(entry.column + 1);
    }

    /// Changes what its values mean.
    pub fn set_kind(&mut self, id: SeriesId, kind: Kind) {
        if let Some(slot) = self.slot_of_id(id) {
            slot_mut(&mut self.slots, slot).entry.kind = kind;
        }
    }

    /// Removes one, and gives it back.
    pub fn remove(&mut self, id: SeriesId) -> Option<Entry> {
        let slot = self.slot_of_id(id)?;
        while self.slot(slot).text != NONE {
            self.forget_text(self.slot(slot).text);
        }
        let entry = self.entry(slot).clone();
        let id_hash = hash_id(&self.hasher, id);
        let labels_hash = self.hash(entry.tenant, entry.labels.as_bytes());
        for (table, hash) in [(&mut self.ids, id_hash), (&mut self.labels, labels_hash)] {
            let listed = table.find_entry(hash, |listed| *listed == slot);
            listed.expect("BUG: every series is in both tables").remove();
        }
        self.remove_from_tenant(&entry);
        self.remove_from_group(&entry);
        self.slots[place(slot)] = None;
        self.free.push(slot);
        if self.is_empty() {
            (self.slots, self.free) = (Vec::new(), Vec::new());
        }
        Some(entry)
    }

    fn remove_from_tenant(&mut self, entry: &Entry) {
        let tenant = self.tenants.get_mut(&entry.tenant).expect("BUG: it has this series");
        tenant.ids.remove(&entry.id);
        for (label, value) in pairs(&entry.labels) {
            let values = tenant.labels.get_mut(label).expect("BUG: this series has the label");
            let ids = values.get_mut(value).expect("BUG: this series has the value");
            ids.remove(&entry.id);
            if ids.is_empty() {
                values.remove(value);
            }
            if values.is_empty() {
                tenant.labels.remove(label);
            }
        }
        if tenant.ids.is_empty() {
            self.tenants.remove(&entry.tenant);
        }
    }

    fn remove_from_group(&mut self, entry: &Entry) {
        let group = self.groups.get_mut(&entry.group).expect("BUG: it has this series");
        group.columns[usize::from(entry.column)] = NONE;
        group.live -= 1;
        if group.live == 0 {
            group.columns = Vec::new();
        }
    }

    /// Those of a tenant that are meant, by group and column.
    pub fn select(&self, tenant: TenantId, selector: &Selector) -> Vec<&Entry> {
        let ids = self.tenants.get(&tenant).map(|tenant| self.meant(tenant, selector));
        let mut entries: Vec<&Entry> =
            ids.unwrap_or_default().into_iter().filter_map(|id| self.get(id)).collect();
        entries.sort_unstable_by_key(|entry| (entry.group, entry.column));
        entries
    }

    /// The next `limit` of those of a tenant that are meant (all without a selector), by id, from above `after`.
    pub fn page(
        &self,
        tenant: TenantId,
        selector: Option<&Selector>,
        after: Option<SeriesId>,
        limit: usize,
    ) -> Vec<&Entry> {
        let Some(tenant) = self.tenants.get(&tenant) else {
            return Vec::new();
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entry = |id: SeriesId| self.get(id);
        match selector {
            None => {
                let ids = tenant.ids.range((from, Bound::Unbounded));
                ids.take(limit).copied().filter_map(entry).collect()
            }
            Some(selector) => {
                let ids = self.meant(tenant, selector);
                let first = ids.partition_point(|id| after.is_some_and(|after| *id <= after));
                ids[first..].iter().take(limit).copied().filter_map(entry).collect()
            }
        }
    }

    /// The ids that are meant, ascending. Conditions that look up one value come first; what is left of them is looked at
    /// itself where a label has more values than there are series left.
    fn meant(&self, tenant: &Tenant, selector: &Selector) -> Vec<SeriesId> {
        let mut left: Option<Vec<SeriesId>> = None;
        if let Some(metric) = &selector.metric {
            left = Some(
                tenant.with_value(METRIC_LABEL, metric).into_iter().flatten().copied().collect(),
            );
        }
        let (plain, wide): (Vec<&Matcher>, Vec<&Matcher>) =
            selector.matchers.iter().partition(|one| one.comparison == Comparison::Equal);
        for one in plain.iter().filter(|one| !one.value.is_empty()) {
            let ids = tenant.with_value(&one.label, &one.value);
            left = Some(match (left, ids) {
                (_, None) => return Vec::new(),
                (None, Some(ids)) => ids.iter().copied().collect(),
                (Some(left), Some(ids)) => both(&left, ids),
            });
        }
        let empty = plain.into_iter().filter(|one| one.value.is_empty());
        for one in wide.into_iter().chain(empty) {
            left = Some(self.narrow(tenant, left, one));
        }
        left.unwrap_or_else(|| tenant.ids.iter().copied().collect())
    }

    fn narrow(
        &self,
        tenant: &Tenant,
        left: Option<Vec<SeriesId>>,
        matcher: &Matcher,
    ) -> Vec<SeriesId> {
        let values = tenant.labels.get(&matcher.label);
        match left {
            Some(mut left) if left.len() <= values.map_or(0, BTreeMap::len) => {
                left.retain(|id| {
                    let entry =
                        self.get(*id).expect("BUG: lists of values name series that there are");
                    matcher.accepts(entry.labels.get(&matcher.label).unwrap_or(""))
                });
                left
            }
            left => {
                let left = left.unwrap_or_else(|| tenant.ids.iter().copied().collect());
                // A label that is not there is accepted or not: the values that are the other way are looked for.
                let absent = matcher.accepts("");
                let mut others: Vec<SeriesId> = values
                    .into_iter()
                    .flatten()
                    .filter(|(value, _)| matcher.accepts(value) != absent)
                    .flat_map(|(_, ids)| ids.iter().copied())
                    .collect();
                others.sort_unstable();
                kept(left, &others, !absent)
            }
        }
    }

    /// How many a tenant has.
    pub fn count(&self, tenant: TenantId) -> usize {
        self.tenants.get(&tenant).map_or(0, |tenant| tenant.ids.len())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten().map(|slot| &slot.entry)
    }

    /// The series of a column of a group, if there is one.
    pub fn at(&self, group: GroupId, column: u16) -> Option<&Entry> {
        let slot = self.groups.get(&group)?.columns.get(usize::from(column))?;
        (*slot != NONE).then(|| self.entry(*slot))
    }

    /// Which columns of a group have a series, for those who look at many of them.
    pub fn columns(&self, group: GroupId) -> impl Fn(u16) -> bool + '_ {
        let columns = self.groups.get(&group).map_or(&[][..], |group| &group.columns);
        move |column| columns.get(usize::from(column)).is_some_and(|slot| *slot != NONE)
    }

    /// The column that a new member of this group gets: above every one that it ever had since the start; `None` when
    /// the group has as many as it may have.
    pub fn next_column(&self, group: GroupId) -> Option<u16> {
        let next = self.groups.get(&group).map_or(0, |group| group.next);
        (next < GROUP_SERIES_MAX).then_some(next)
    }

    /// Whose group it is; `None` when it has no series (any more).
    pub fn tenant_of(&self, group: GroupId) -> Option<TenantId> {
        self.groups.get(&group).filter(|group| 0 < group.live).map(|group| group.tenant)
    }
}

fn slot_of(slots: &[Option<Slot>], slot: u32) -> &Slot {
    slots[place(slot)].as_ref().expect("BUG: tables lead to series that there are")
}

fn slot_mut(slots: &mut [Option<Slot>], slot: u32) -> &mut Slot {
    slots[place(slot)].as_mut().expect("BUG: tables lead to series that there are")
}

/// With every character escaped, a text is not longer than this; a line may be, by blanks alone.
fn text_bytes_max(labels: &Labels) -> usize {
    2 * labels.as_bytes().len() + 64
}

fn hash(hasher: &FixedState, tenant: TenantId, bytes: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u64(tenant.raw());
    state.write(bytes);
    state.finish()
}

fn hash_id(hasher: &FixedState, id: SeriesId) -> u64 {
    hasher.hash_one(id.0)
}

fn hash_text(hasher: &FixedState, slots: &[Option<Slot>], text: &Text) -> u64 {
    hash(hasher, slot_of(slots, text.slot).entry.tenant, &text.bytes)
}

/// The labels of a series and its metric.
fn pairs(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    std::iter::once((METRIC_LABEL, labels.metric())).chain(labels.pairs())
}

impl Tenant {
    fn with_value(&self, label: &str, value: &str) -> Option<&Ids> {
        self.labels.get(label)?.get(value)
    }
}

/// What is in both; each is looked up when the one side is far longer, else they are walked through side by side.
fn both(left: &[SeriesId], ids: &Ids) -> Vec<SeriesId> {
    let (Some(first), Some(last)) = (left.first(), left.last()) else {
        return Vec::new();
    };
    if left.len() < ids.len() / 16 {
        return left.iter().copied().filter(|id| ids.contains(id)).collect();
    }
    let mut at = 0;
    let mut found = Vec::new();
    for id in ids.range(*first..=*last) {
        while left[at] < *id {
            at += 1;
        }
        if left[at] == *id {
            found.push(*id);
        }
    }
    found
}

/// What of `left` is among the others, or what is not; both ascend.
fn kept(mut left: Vec<SeriesId>, others: &[SeriesId], among: bool) -> Vec<SeriesId> {
    let mut at = 0;
    left.retain(|id| {
        while others.get(at).is_some_and(|other| other < id) {
            at += 1;
        }
        (others.get(at) == Some(id)) == among
    });
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Entry, Index};
    use crate::base::id::TenantId;
    use crate::base::limits::{GROUP_SERIES_MAX, SERIES_TEXTS_MIN};
    use crate::base::rng::Rng;
    use crate::series::labels::Labels;
    use crate::series::select::Selector;
    use crate::series::{GroupId, Kind, SeriesId};
    use crate::testing::seeds;

    const TENANT: TenantId = TenantId::from_raw(1);

    fn entry(id: u32, metric: &str, host: &str) -> Entry {
        let labels = Labels::new(metric, [("host", host)]).unwrap();
        let column = u16::try_from(id).unwrap();
        let (id, group) = (SeriesId(id), GroupId(0));
        Entry { id, tenant: TENANT, group, column, kind: Kind::Gauge, labels }
    }

    #[test]
    fn what_is_not_new_is_not_added_and_changes_nothing() {
        let mut index = Index::default();
        assert!(index.add(entry(1, "cpu", "a")));
        let before = format!("{index:?}");
        let other = TenantId::from_raw(2);
        for wrong in [
            entry(1, "cpu", "b"),
            Entry { id: SeriesId(2), column: 2, ..entry(1, "cpu", "a") },
            Entry { id: SeriesId(2), ..entry(1, "cpu", "b") },
            Entry { tenant: other, ..entry(2, "cpu", "a") },
            Entry { column: GROUP_SERIES_MAX, ..entry(2, "cpu", "b") },
        ] {
            assert!(!index.add(wrong.clone()), "{wrong:?}");
            assert_eq!(format!("{index:?}"), before, "{wrong:?}");
        }
        assert!(index.add(Entry { tenant: other, group: GroupId(1), ..entry(2, "cpu", "a") }));
        assert_eq!((index.count(TENANT), index.count(other), index.len()), (1, 1, 2));
        assert_eq!(
            index.find(other, &entry(1, "cpu", "a").labels).map(|e| e.id),
            Some(SeriesId(2))
        );
    }

    #[test]
    fn a_column_is_never_given_twice() {
        let mut index = Index::default();
        let group = GroupId(0);
        assert_eq!(index.next_column(group), Some(0));
        for id in 0..u32::from(GROUP_SERIES_MAX) {
            assert_eq!(index.next_column(group).map(u32::from), Some(id));
            assert!(index.add(entry(id, "cpu", &id.to_string())));
        }
        assert_eq!(index.next_column(group), None);
        assert_eq!(index.tenant_of(group), Some(TENANT));
        for id in 0..u32::from(GROUP_SERIES_MAX) {
            assert!(index.remove(SeriesId(id)).is_some());
        }
        assert_eq!((index.next_column(group), index.tenant_of(group)), (None, None));
        assert!(index.is_empty() && index.at(group, 3).is_none());
    }

    #[test]
    fn a_text_leads_to_its_series_until_that_is_gone() {
        let mut index = Index::with_seed(5);
        assert!(index.add(entry(1, "cpu", "a")) && index.add(entry(2, "cpu", "b")));
        let other = TenantId::from_raw(2);
        index.remember(TENANT, b"x", SeriesId(1));
        index.remember(other, b"y", SeriesId(1));
        index.remember(TENANT, b"z", SeriesId(9));
        let found =
            |index: &Index, tenant, text: &[u8]| index.find_text(tenant, text).map(|e| e.id.0);
        assert_eq!(found(&index, TENANT, b"x"), Some(1));
        for (tenant, text) in [(other, &b"x"[..]), (other, b"y"), (TENANT, b"y"), (TENANT, b"z")] {
            assert_eq!(found(&index, tenant, text), None, "{text:?}");
        }
        index.remember(TENANT, b"x", SeriesId(2));
        assert_eq!(found(&index, TENANT, b"x"), Some(2), "the later told wins");
        assert!(index.remove(SeriesId(2)).is_some());
        assert_eq!(found(&index, TENANT, b"x"), None);
    }

    #[test]
    fn a_text_of_one_tenant_is_none_of_another() {
        let mut index = Index::default();
        let of = |number: u32| TenantId::from_raw(u64::from(number));
        for id in 0..400 {
            let group = GroupId(id);
            assert!(index.add(Entry { tenant: of(id), group, column: 0, ..entry(id, "cpu", "a") }));
            index.remember(of(id), b"cpu", SeriesId(id));
        }
        // The table looks at some of the others on its way: what they are called is the same.
        for id in 0..800 {
            let found = index.find_text(of(id), b"cpu").map(|entry| entry.id);
            assert_eq!(found, (id < 400).then_some(SeriesId(id)));
        }
    }

    #[test]
    fn texts_are_bounded() {
        let mut index = Index::default();
        assert!(index.add(entry(1, "cpu", "a")));
        for at in 0..SERIES_TEXTS_MIN {
            index.remember(TENANT, format!("t{at}").as_bytes(), SeriesId(1));
        }
        assert_eq!(index.texts.len(), SERIES_TEXTS_MIN);
        assert!(index.find_text(TENANT, b"t0").is_some());
        index.remember(TENANT, b"new", SeriesId(1));
        assert_eq!((index.texts.len(), index.text_table.len()), (1, 1));
        assert!(
            index.find_text(TENANT, b"new").is_some() && index.find_text(TENANT, b"t0").is_none()
        );
    }

    #[test]
    fn a_text_that_is_blown_up_by_blanks_is_not_kept() {
        let mut index = Index::default();
        let value = "\\".repeat(1024);
        assert!(index.add(entry(1, "cpu", &value)));
        // As long as it can be without blanks.
        let escaped = index.get(SeriesId(1)).unwrap().labels.to_string();
        index.remember(TENANT, escaped.as_bytes(), SeriesId(1));
        assert!(escaped.len() > 2048 && index.find_text(TENANT, escaped.as_bytes()).is_some());
        let blown = escaped + &" ".repeat(60_000);
        index.remember(TENANT, blown.as_bytes(), SeriesId(1));
        assert_eq!(index.texts.len(), 1);
    }

    /// What the index must say, from a list that is looked through.
    #[derive(Default)]
    struct Model {
        entries: BTreeMap<SeriesId, Entry>,
        texts: BTreeMap<(TenantId, String), SeriesId>,
        next_columns: BTreeMap<GroupId, u16>,
    }

    const SELECTORS: [&str; 14] = [
        "m1",
        "{a=\"1\"}",
        "m1{a=\"1\",b=\"2\"}",
        "m2{a=\"\"}",
        "m1{a!=\"\",b!=\"1\"}",
        "{a=~\"1|3\"}",
        "{a=~\"[0-9]+\",b!~\"1|2\"}",
        "{a!~\"2|\"}",
        "m1{b!~\"2\"}",
        "{__name__=~\"m.\"}",
        "{__name__!=\"m1\",a=\"2\"}",
        "{__name__!~\"m1\",b=~\".+\"}",
        "m1{b=~\"2|\"}",
        "nothing{a=\"1\"}",
    ];

    impl Model {
        fn random(rng: &mut Rng, id: u32) -> Entry {
            let text =
                |rng: &mut Rng, count: usize| ["", "1", "2", "3", "40", "5"][rng.index(count)];
            let metric = ["m1", "m2", "m3"][rng.index(3)];
            let labels = Labels::new(metric, [("a", text(rng, 6)), ("b", text(rng, 4))]).unwrap();
            let tenant = TenantId::from_raw(rng.below(2));
            let group = GroupId(u32::try_from(rng.below(3)).unwrap());
            let (column, kind) = (u16::try_from(rng.below(9)).unwrap(), Kind::Gauge);
            Entry { id: SeriesId(id), tenant, group, column, kind, labels }
        }

        fn accepts(&self, entry: &Entry) -> bool {
            self.entries.values().all(|e| {
                e.id != entry.id
                    && (e.group, e.column) != (entry.group, entry.column)
                    && (e.tenant, &e.labels) != (entry.tenant, &entry.labels)
            })
        }

        fn check(&self, index: &Index, hint: &str) {
            for tenant in [0, 1].map(TenantId::from_raw) {
                let own = || self.entries.values().filter(|e| e.tenant == tenant);
                assert_eq!(index.count(tenant), own().count(), "{hint}");
                for text in SELECTORS {
                    let selector = Selector::parse(text).unwrap();
                    let by_id: Vec<_> = own().filter(|e| selector.is_match(&e.labels)).collect();
                    let mut by_place = by_id.clone();
                    by_place.sort_by_key(|e| (e.group, e.column));
                    assert_eq!(index.select(tenant, &selector), by_place, "{hint} {text}");
                    let after = by_id.get(1).map(|e| e.id);
                    let page: Vec<_> =
                        by_id.iter().copied().filter(|e| after < Some(e.id)).take(3).collect();
                    assert_eq!(
                        index.page(tenant, Some(&selector), after, 3),
                        page,
                        "{hint} {text}"
                    );
                }
                let after = own().nth(2).map(|e| e.id);
                let page: Vec<_> = own().filter(|e| after < Some(e.id)).take(4).collect();
                assert_eq!(index.page(tenant, None, after, 4), page, "{hint}");
            }
            self.check_places(index, hint);
        }

        fn check_places(&self, index: &Index, hint: &str) {
            for entry in self.entries.values() {
                assert_eq!(index.get(entry.id), Some(entry), "{hint}");
                assert_eq!(index.find(entry.tenant, &entry.labels), Some(entry), "{hint}");
                assert_eq!(index.at(entry.group, entry.column), Some(entry), "{hint}");
                assert_eq!(index.tenant_of(entry.group), Some(entry.tenant), "{hint}");
            }
            for (group, next) in &self.next_columns {
                assert_eq!(index.next_column(*group), Some(*next), "{hint}");
            }
            for ((tenant, text), id) in &self.texts {
                let found = index.find_text(*tenant, text.as_bytes()).map(|e| e.id);
                assert_eq!(found, Some(*id), "{hint} {text}");
            }
            assert_eq!(
                (index.len(), index.all().count()),
                (self.entries.len(), self.entries.len())
            );
            assert_eq!(index.texts.len(), self.texts.len(), "{hint}: no text is left behind");
            let tables = (index.ids.len(), index.labels.len(), index.text_table.len());
            assert_eq!(tables, (index.len(), index.len(), self.texts.len()), "{hint}");
        }

        fn step(&mut self, index: &mut Index, rng: &mut Rng, id: u32, hint: &str) {
            match rng.index(6) {
                0..3 => {
                    let entry = Model::random(rng, id);
                    let foreign = index.groups.get(&entry.group);
                    let foreign = foreign.is_some_and(|group| group.tenant != entry.tenant);
                    let new = self.accepts(&entry) && !foreign;
                    assert_eq!(index.add(entry.clone()), new, "{hint}");
                    if new {
                        let next = self.next_columns.entry(entry.group).or_default();
                        *next = (*next).max(entry.column + 1);
                        self.entries.insert(entry.id, entry);
                    }
                }
                3 => {
                    let id = SeriesId(u32::try_from(rng.below(u64::from(id) + 1)).unwrap());
                    assert_eq!(index.remove(id), self.entries.remove(&id), "{hint}");
                    self.texts.retain(|_, series| *series != id);
                }
                4 => {
                    let id = SeriesId(u32::try_from(rng.below(u64::from(id) + 1)).unwrap());
                    let tenant = TenantId::from_raw(rng.below(2));
                    let text = format!("t{}", rng.below(12));
                    index.remember(tenant, text.as_bytes(), id);
                    if self.entries.get(&id).is_some_and(|entry| entry.tenant == tenant) {
                        self.texts.insert((tenant, text), id);
                    }
                }
                _ => {
                    let id = SeriesId(u32::try_from(rng.below(u64::from(id) + 1)).unwrap());
                    index.set_kind(id, Kind::Counter);
                    if let Some(entry) = self.entries.get_mut(&id) {
                        entry.kind = Kind::Counter;
                    }
                }
            }
        }
    }

    #[test]
    fn the_index_says_what_a_list_says_that_is_looked_through() {
        for seed in seeds(40) {
            let mut rng = Rng::from_seed(seed);
            let mut index = Index::with_seed(seed);
            let mut model = Model::default();
            for id in 0..120 {
                let hint = format!("seed {seed}, step {id}");
                model.step(&mut index, &mut rng, id, &hint);
                if rng.one_in(8) {
                    model.check(&index, &hint);
                }
            }
            for id in 0..120 {
                assert_eq!(index.remove(SeriesId(id)), model.entries.remove(&SeriesId(id)));
            }
            model.texts.clear();
            model.check(&index, &format!("seed {seed}, at the end"));
            assert!(index.tenants.is_empty() && index.slots.is_empty() && index.free.is_empty());
            assert!(index.groups.values().all(|group| group.columns.is_empty()), "seed {seed}");
        }
    }

    #[test]
    fn many_series_are_intersected_as_few_are() {
        let mut index = Index::default();
        for id in 0..2000 {
            let metric = ["m1", "m2"][usize::from(id % 3 == 0)];
            let its = entry(id % 1000, metric, &format!("h{id}"));
            assert!(index.add(Entry { id: SeriesId(id), group: GroupId(id / 1000), ..its }));
        }
        for text in [
            "m1{host=\"h500\"}",
            "m2{host=\"h500\"}",
            "{host=\"h501\",__name__=~\"m.\"}",
            "m1{host=~\"h1..\"}",
            "m2{host!~\"h.*0\"}",
            "{host=~\"h(7|9)\",__name__!=\"m2\"}",
        ] {
            let selector = Selector::parse(text).unwrap();
            let mut told: Vec<_> = index.all().filter(|e| selector.is_match(&e.labels)).collect();
            told.sort_by_key(|e| (e.group, e.column));
            assert_eq!(index.select(TENANT, &selector), told, "{text}");
        }
    }
}
