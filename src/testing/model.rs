//! The model: what an engine would be if disks were perfect and memory free.
//!
//! A commit replaces one immutable map by the next; an operation is undone by going back to the map
//! from before it. Short enough to be right by reading.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::base::limits::{
    DELETE_ROWS_MAX, DISK_MARGIN_BYTES, KEY_BYTES_MAX, READ_ROWS_MAX, VALUE_BYTES_MAX,
};
use crate::store::{
    Batch, Commit, Engine, EngineFigures, Error, Finish, Flow, KeyRange, Order, Read, ReadBody,
    Result, Table, Visitor, Write, WriteBody,
};

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// An engine without a disk. Clones share their content, as handles on one file would.
#[derive(Clone, Default)]
pub struct Model {
    committed: Arc<RwLock<Arc<Rows>>>,
    writer: Arc<Mutex<()>>,
}

impl Engine for Model {
    fn read(&self, body: &mut ReadBody<'_>) -> Result {
        let rows = Arc::clone(&self.committed.read());
        body(&View { rows: (*rows).clone(), before: None, dirty: false, shown: 0.into() })
    }

    fn write(&self, _commit: Commit, body: &mut WriteBody<'_>) -> Result {
        let _one_at_a_time = self.writer.lock();
        let rows = (**self.committed.read()).clone();
        let mut view = View { rows, before: None, dirty: false, shown: 0.into() };
        if body(&mut view)? == Finish::Commit {
            *self.committed.write() = Arc::new(view.rows);
        }
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> u64 {
        bytes.max(DISK_MARGIN_BYTES)
    }

    fn figures(&self) -> EngineFigures {
        EngineFigures::default()
    }
}

struct View {
    rows: Rows,
    before: Option<Rows>,
    dirty: bool,
    shown: std::cell::Cell<u64>,
}

impl View {
    fn within(&self, table: Table, range: &KeyRange) -> Vec<(&Vec<u8>, &Vec<u8>)> {
        if range.is_empty() {
            return Vec::new();
        }
        let from = Bound::Included((table, range.from.clone()));
        let rows = self.rows.range((from, Bound::Unbounded));
        rows.map(|((t, key), value)| (t, key, value))
            .take_while(|(t, key, _)| **t == table && range.to.as_ref().is_none_or(|to| *key < to))
            .map(|(_, key, value)| (key, value))
            .collect()
    }
}

impl Read for View {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.rows.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        order: Order,
        visit: &mut Visitor<'_>,
    ) -> Result {
        let mut rows = self.within(table, range);
        if order == Order::Reverse {
            rows.reverse();
        }
        for (key, value) in rows {
            if READ_ROWS_MAX <= self.shown.get() {
                return Err(Error::TooManyRows);
            }
            self.shown.set(self.shown.get() + 1);
            if visit(key, value) == Flow::Stop {
                break;
            }
        }
        Ok(())
    }
}

impl Write for View {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result {
        if KEY_BYTES_MAX < key.len() {
            return Err(Error::KeyTooLarge(key.len()));
        }
        if VALUE_BYTES_MAX < value.len() {
            return Err(Error::ValueTooLarge(value.len()));
        }
        self.rows.insert((table, key.to_vec()), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool> {
        Ok(self.rows.remove(&(table, key.to_vec())).is_some())
    }

    fn delete_range(&mut self, table: Table, range: &KeyRange, rows_max: u64) -> Result<u64> {
        if DELETE_ROWS_MAX < rows_max {
            return Err(Error::DeletesTooMany(rows_max));
        }
        let rows_max = usize::try_from(rows_max).expect("BUG: checked above");
        let keys: Vec<Vec<u8>> =
            self.within(table, range).into_iter().take(rows_max).map(|(k, _)| k.clone()).collect();
        for key in &keys {
            self.rows.remove(&(table, key.clone()));
        }
        Ok(keys.len() as u64)
    }
}

impl Batch for View {
    fn begin(&mut self) -> Result {
        self.before = Some(self.rows.clone());
        self.shown.set(0);
        Ok(())
    }

    fn keep(&mut self) -> Result {
        let before = self.before.take().expect("BUG: an operation begins before it is kept");
        self.dirty |= before != self.rows;
        Ok(())
    }

    fn undo(&mut self) -> Result {
        self.rows = self.before.take().expect("BUG: an operation begins before it is undone");
        Ok(())
    }

    fn is_dirty(&self) -> bool {
        self.dirty
    }

    fn is_broken(&self) -> bool {
        false
    }
}
