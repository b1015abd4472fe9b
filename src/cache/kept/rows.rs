//! How an entry stands in the file.
//!
//! ```text
//! Kept    tenant u64 | namespace 00 | key, escaped, 00 00 | 0000   ->  the head: a record
//! Kept    tenant u64 | namespace 00 | key, escaped, 00 00 | 0001.. ->  the value in parts, if it is large
//! ```
//!
//! The head says how many parts there are; its checksum is over the whole value. To change the record:
//! add `HeadV2` with version 2, write that, and let [`Row::read`] look at [`codec::head`] and upgrade what
//! it finds. A head is rewritten whenever its entry is.

use super::Error;
use crate::base::codec::{self, Head, Record, SchemaRead, SchemaWrite};
use crate::base::id::TenantId;
use crate::base::key::{BadKey, KeyReader, KeyWriter};
use crate::base::limits::{KEPT_INLINE_BYTES_MAX, VALUE_BYTES_MAX};
use crate::store::{self, KeyRange, Read, Table, Write};

/// The head of an entry, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub(super) struct Row {
    /// Which value it is.
    pub(super) version: u64,
    /// Which writing of the head it is; it differs from the version when the life was changed since.
    pub(super) stamp: u64,
    /// Since when the value is there.
    pub(super) stored_at_ms: u64,
    /// Until when it is fresh; for ever without.
    pub(super) fresh_until_ms: Option<u64>,
    /// For how long it is stale after that.
    pub(super) stale_ms: u64,
    pub(super) content_type: String,
    pub(super) tags: Vec<String>,
    /// Length of the value.
    pub(super) value_bytes: u64,
    /// Rows that hold it; none when it stands here.
    pub(super) parts: u16,
    /// Checksum of the value.
    pub(super) value_crc: u32,
    /// The value, if it is small.
    pub(super) small: Vec<u8>,
}

impl Record for Row {
    const HEAD: Head = Head { kind: 0x20, version: 1 };
}

/// Why a row cannot be used: its bytes are not what was written there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damaged {
    #[error(transparent)]
    Record(#[from] codec::Error),
    #[error(transparent)]
    Key(#[from] BadKey),
    #[error("the value is not the one that was written")]
    Value,
    #[error("{0} is out of its bounds")]
    Bounds(&'static str),
}

impl Row {
    /// The row in these bytes.
    pub(super) fn read(bytes: &[u8]) -> Result<Row, Damaged> {
        Ok(codec::decode::<Row>(bytes)?)
    }

    /// When nothing of it is served any more, by the calendar.
    pub(super) fn gone_at_ms(&self) -> Option<u64> {
        self.fresh_until_ms.map(|fresh| fresh.saturating_add(self.stale_ms))
    }

    /// What it takes in the file, about.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.value_bytes).unwrap_or(usize::MAX).saturating_add(512)
    }

    fn check_value(&self, value: &[u8]) -> Result<(), Damaged> {
        let same = value.len() as u64 == self.value_bytes;
        let same = same && codec::checksum(value) == self.value_crc;
        if same { Ok(()) } else { Err(Damaged::Value) }
    }
}

/// Where the rows of a tenant begin.
pub(super) fn tenant_prefix(tenant: TenantId) -> Vec<u8> {
    KeyWriter::new().u64(tenant.raw()).finish()
}

/// Where the rows of a namespace begin.
pub(super) fn namespace_prefix(tenant: TenantId, namespace: &str) -> Vec<u8> {
    KeyWriter::new().u64(tenant.raw()).name(namespace).finish()
}

/// Where the rows of the keys that begin with `prefix` begin.
pub(super) fn keys_prefix(tenant: TenantId, namespace: &str, prefix: &str) -> Vec<u8> {
    let mut key = entry(tenant, namespace, prefix);
    // Without the end of the key, everything that goes on behind it is meant.
    key.truncate(key.len() - 2);
    key
}

/// What all rows of an entry begin with.
pub(super) fn entry(tenant: TenantId, namespace: &str, key: &str) -> Vec<u8> {
    KeyWriter::new().u64(tenant.raw()).name(namespace).bytes(key.as_bytes()).finish()
}

/// The key of a part of an entry; the head is part zero.
pub(super) fn part(entry: &[u8], number: u16) -> Vec<u8> {
    [entry, &number.to_be_bytes()].concat()
}

/// The key behind all rows of an entry; no row has it, because no value has so many parts.
pub(super) fn behind(entry: &[u8]) -> Vec<u8> {
    part(entry, u16::MAX)
}

/// A row's key, taken apart.
pub(super) struct RowKey {
    pub(super) tenant: TenantId,
    pub(super) namespace: String,
    pub(super) key: String,
    pub(super) part: u16,
}

impl RowKey {
    pub(super) fn read(bytes: &[u8]) -> Result<RowKey, Damaged> {
        let mut reader = KeyReader::new(bytes);
        let tenant = TenantId::from_raw(reader.u64()?);
        let namespace = reader.name()?.to_owned();
        let key = String::from_utf8(reader.bytes()?).map_err(|_| Damaged::Bounds("the key"))?;
        let part = reader.u16()?;
        reader.finish()?;
        Ok(RowKey { tenant, namespace, key, part })
    }
}

/// What stands at an entry's place.
pub(super) enum There {
    Nothing,
    Row(Row),
    Damaged,
}

/// Looks at an entry.
pub(super) fn look(view: &dyn Read, entry: &[u8]) -> store::Result<There> {
    let Some(bytes) = view.get(Table::Kept, &part(entry, 0))? else {
        return Ok(There::Nothing);
    };
    // Told when the file was opened.
    Ok(Row::read(&bytes).map_or(There::Damaged, There::Row))
}

/// The value of `row`.
pub(super) fn value(
    view: &(impl Read + ?Sized),
    entry: &[u8],
    row: &Row,
) -> store::Result<Option<Vec<u8>>> {
    let mut value = row.small.clone();
    for number in 1..=row.parts {
        match view.get(Table::Kept, &part(entry, number))? {
            Some(bytes) => value.extend_from_slice(&bytes),
            None => return Ok(None),
        }
    }
    Ok(row.check_value(&value).is_ok().then_some(value))
}

/// Removes the parts of an entry from `first` on, the head being the first of all.
pub(super) fn remove(tx: &mut dyn Write, entry: &[u8], first: u16) -> store::Result<u64> {
    let range = KeyRange::between(&part(entry, first), &behind(entry));
    tx.delete_range(Table::Kept, &range, crate::base::limits::DELETE_ROWS_MAX)
}

/// Writes an entry over what was there.
pub(super) fn write(
    tx: &mut dyn Write,
    entry: &[u8],
    mut row: Row,
    value: &[u8],
    old: &There,
) -> Result<(), Error> {
    row.value_bytes = value.len() as u64;
    row.value_crc = codec::checksum(value);
    let small = value.len() <= KEPT_INLINE_BYTES_MAX;
    let parts = if small { 0 } else { value.len().div_ceil(VALUE_BYTES_MAX) };
    row.parts = u16::try_from(parts).expect("BUG: a value's length is bounded");
    row.small = if small { value.to_vec() } else { Vec::new() };
    match old {
        There::Row(old) if old.parts <= row.parts => {}
        There::Nothing => {}
        There::Row(_) => drop(remove(tx, entry, row.parts + 1)?),
        There::Damaged => drop(remove(tx, entry, 0)?),
    }
    write_head(tx, entry, &row)?;
    if !small {
        for (number, bytes) in (1..=row.parts).zip(value.chunks(VALUE_BYTES_MAX)) {
            tx.put(Table::Kept, &part(entry, number), bytes)?;
        }
    }
    Ok(())
}

/// Writes the head alone, when only the life of an entry changed.
pub(super) fn write_head(tx: &mut dyn Write, entry: &[u8], row: &Row) -> Result<(), Error> {
    let bytes = codec::encode(row).expect("BUG: the parts of a head are bounded");
    assert!(bytes.len() <= VALUE_BYTES_MAX, "BUG: a head has {} bytes", bytes.len());
    Ok(tx.put(Table::Kept, &part(entry, 0), &bytes)?)
}

/// Rows as they follow each other in the file, put together again.
#[derive(Default)]
pub(super) struct Gathering {
    /// What all rows of the entry in work begin with, its head and its value so far.
    open: Option<(Vec<u8>, Row, Vec<u8>)>,
}

/// A whole entry.
pub(super) struct Whole {
    pub(super) at: RowKey,
    pub(super) row: Row,
    pub(super) value: Vec<u8>,
}

impl Gathering {
    /// Takes a row in. Whole entries go to `out`; what cannot be read is told.
    pub(super) fn take(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        out: &mut Vec<Whole>,
    ) -> Result<(), Damaged> {
        let at = RowKey::read(key)?;
        let entry = &key[..key.len() - 2];
        let cut = at.part == 0 && self.open.take().is_some();
        if at.part == 0 {
            let mut row = Row::read(bytes)?;
            let value = std::mem::take(&mut row.small);
            self.open = Some((entry.to_vec(), row, value));
        } else {
            match &mut self.open {
                Some((open, _, value)) if open == entry => value.extend_from_slice(bytes),
                // Nobody waits for it: it has lost its head, which was told.
                _ => return Ok(()),
            }
        }
        if let Some((_, row, value)) = self.open.take_if(|(_, row, value)| is_whole(row, value)) {
            row.check_value(&value)?;
            out.push(Whole { at, row, value });
        }
        if cut { Err(Damaged::Value) } else { Ok(()) }
    }

    /// Whether an entry was begun and is not whole yet.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

fn is_whole(row: &Row, value: &[u8]) -> bool {
    row.value_bytes <= value.len() as u64
}
