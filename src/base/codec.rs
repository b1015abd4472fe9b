//! Records: how a value becomes stored bytes, and the one file that knows the serializer.
//!
//! ```text
//! [kind u8][version u8][the value in bincode 1.x's format][crc32c of all before, u32 little-endian]
//! ```
//!
//! bincode's *format* is frozen and documented by every reader of it; bincode the crate is no longer
//! maintained, so the bytes are written by another one, and the tests prove byte equality with bincode
//! 1.3.3. Whoever holds a data directory can therefore read it without us.
//!
//! Changing a record: never edit a struct that has shipped. Add `FooV2` with the next version, make
//! the reader look at [`Head::version`] and upgrade what it finds.
//!
//! Reading is total. Damaged, cut or oversized bytes are an [`Error`], never a panic, and what is
//! allocated for them is bounded by their own length (64 times, at least 64 KiB).

use super::limits::RECORD_BYTES_MAX;
use wincode::config::Configuration;
pub use wincode::{SchemaRead, SchemaWrite};

/// Why bytes are not the record that was asked for, or a value cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than any record.
    #[error("the record is cut short: {0} bytes")]
    Short(usize),
    /// More than [`RECORD_BYTES_MAX`].
    #[error("the record has {0} bytes, the limit is {RECORD_BYTES_MAX}")]
    TooLarge(usize),
    /// The bytes changed since they were written.
    #[error("the record's checksum is wrong")]
    Checksum,
    /// A record of another kind, or of a version this reader does not know.
    #[error("expected a record of kind {expected:?}, found {found:?}")]
    Unexpected {
        /// What the caller asked for.
        expected: Head,
        /// What the bytes say they are.
        found: Head,
    },
    /// The checksum is right, but the value is not of this type.
    #[error("the record's value is malformed: {0}")]
    Malformed(String),
}

/// The first two bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which struct it is.
    pub kind: u8,
    /// Which version of that struct.
    pub version: u8,
}

/// A value that is stored: it has a kind and a version for ever.
pub trait Record {
    /// The first two bytes of the record.
    const HEAD: Head;
}

const HEAD_BYTES: usize = 2;
const CRC_BYTES: usize = 4;

// The largest sequence, in memory, that a record of up to so many bytes may ask for. The same bound
// holds while writing, so nothing is written that could not be read back.
const SMALL_BYTES: usize = 1 << 10;
const MEDIUM_BYTES: usize = 64 << 10;
type Small = Configuration<true, { 64 << 10 }>;
type Medium = Configuration<true, { 4 << 20 }>;
type Large = Configuration<true, { 64 * RECORD_BYTES_MAX }>;
const SMALL: Small = Configuration::default().with_preallocation_size_limit();
const MEDIUM: Medium = Configuration::default().with_preallocation_size_limit();
const LARGE: Large = Configuration::default().with_preallocation_size_limit();

/// What the derives `SchemaRead` and `SchemaWrite` give a type; nobody writes it by hand.
pub trait Schema:
    Sized
    + SchemaWrite<Small, Src = Self>
    + SchemaWrite<Medium, Src = Self>
    + SchemaWrite<Large, Src = Self>
    + for<'de> SchemaRead<'de, Small, Dst = Self>
    + for<'de> SchemaRead<'de, Medium, Dst = Self>
    + for<'de> SchemaRead<'de, Large, Dst = Self>
{
}

impl<T> Schema for T where
    T: Sized
        + SchemaWrite<Small, Src = Self>
        + SchemaWrite<Medium, Src = Self>
        + SchemaWrite<Large, Src = Self>
        + for<'de> SchemaRead<'de, Small, Dst = Self>
        + for<'de> SchemaRead<'de, Medium, Dst = Self>
        + for<'de> SchemaRead<'de, Large, Dst = Self>
{
}

/// The stored bytes of `record`.
pub fn encode<R: Record + Schema>(record: &R) -> Result<Vec<u8>, Error> {
    let value = encode_value(record)?;
    let mut out = Vec::with_capacity(HEAD_BYTES + value.len() + CRC_BYTES);
    out.push(R::HEAD.kind);
    out.push(R::HEAD.version);
    out.extend_from_slice(&value);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// The record in `bytes`: all of them, of exactly this kind and version.
pub fn decode<R: Record + Schema>(bytes: &[u8]) -> Result<R, Error> {
    let (found, value) = open(bytes)?;
    if found != R::HEAD {
        return Err(Error::Unexpected { expected: R::HEAD, found });
    }
    decode_value(value)
}

/// Kind and version of the record in `bytes`, whose checksum is right.
pub fn head(bytes: &[u8]) -> Result<Head, Error> {
    open(bytes).map(|(head, _)| head)
}

fn open(bytes: &[u8]) -> Result<(Head, &[u8]), Error> {
    if RECORD_BYTES_MAX < bytes.len() {
        return Err(Error::TooLarge(bytes.len()));
    }
    let short = || Error::Short(bytes.len());
    let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or_else(short)?;
    let (&[kind, version], value) = body.split_first_chunk::<HEAD_BYTES>().ok_or_else(short)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(Error::Checksum);
    }
    Ok((Head { kind, version }, value))
}

fn encode_value<R: Schema>(record: &R) -> Result<Vec<u8>, Error> {
    let malformed = |error: wincode::WriteError| Error::Malformed(error.to_string());
    let size = wincode::config::serialized_size(record, LARGE).map_err(malformed)?;
    let size = usize::try_from(size).map_err(|_| Error::TooLarge(usize::MAX))?;
    match HEAD_BYTES + size + CRC_BYTES {
        total if RECORD_BYTES_MAX < total => return Err(Error::TooLarge(total)),
        _ if size <= SMALL_BYTES => wincode::config::serialize(record, SMALL),
        _ if size <= MEDIUM_BYTES => wincode::config::serialize(record, MEDIUM),
        _ => wincode::config::serialize(record, LARGE),
    }
    .map_err(malformed)
}

fn decode_value<R: Schema>(value: &[u8]) -> Result<R, Error> {
    match value.len() {
        len if len <= SMALL_BYTES => wincode::config::deserialize_exact(value, SMALL),
        len if len <= MEDIUM_BYTES => wincode::config::deserialize_exact(value, MEDIUM),
        _ => wincode::config::deserialize_exact(value, LARGE),
    }
    .map_err(|error| Error::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests;
