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
//! allocated at once for them is bounded by their own length: 256 times that, 64 KiB at least and 32 MiB
//! at most, whatever lengths they claim.

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

// The largest sequence, in memory, that a value of up to so many bytes may ask for. The same bound
// holds while writing, so nothing is written that could not be read back. The steps are what keeps
// the allocation in proportion: the serializer's bound is a constant of the type.
const STEPS: [usize; 4] = [1 << 10, 8 << 10, 64 << 10, 1 << 20];
type Limit<const BYTES: usize> = Configuration<true, BYTES>;
type Step0 = Limit<{ 64 << 10 }>;
type Step1 = Limit<{ 256 << 10 }>;
type Step2 = Limit<{ 1 << 20 }>;
type Step3 = Limit<{ 8 << 20 }>;
type Step4 = Limit<{ 32 << 20 }>;

const fn limit<const BYTES: usize>() -> Limit<BYTES> {
    Configuration::default().with_preallocation_size_limit()
}

macro_rules! schema {
    ($($step:ident)*) => {
        /// What the derives `SchemaRead` and `SchemaWrite` give a type; nobody writes it by hand.
        pub trait Schema:
            Sized $(+ SchemaWrite<$step, Src = Self> + for<'de> SchemaRead<'de, $step, Dst = Self>)*
        {
        }

        impl<T> Schema for T where
            T: Sized $(+ SchemaWrite<$step, Src = Self> + for<'de> SchemaRead<'de, $step, Dst = Self>)*
        {
        }
    };
}

schema! { Step0 Step1 Step2 Step3 Step4 }

/// The checksum of all our formats.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The stored bytes of `record`.
pub fn encode<R: Record + Schema>(record: &R) -> Result<Vec<u8>, Error> {
    encode_behind(&[], record)
}

/// `front`, and behind it the stored bytes of `record`, in one piece.
pub fn encode_behind<R: Record + Schema>(front: &[u8], record: &R) -> Result<Vec<u8>, Error> {
    let size = value_bytes(record)?;
    let mut out = Vec::with_capacity(front.len() + HEAD_BYTES + size + CRC_BYTES);
    out.extend_from_slice(front);
    out.push(R::HEAD.kind);
    out.push(R::HEAD.version);
    encode_value(&mut out, record, size)?;
    let crc = checksum(&out[front.len()..]);
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
    if checksum(body) != u32::from_le_bytes(*crc) {
        return Err(Error::Checksum);
    }
    Ok((Head { kind, version }, value))
}

/// Which of the steps a value of so many bytes stands on.
fn step_of(value_bytes: usize) -> usize {
    STEPS.iter().position(|&end| value_bytes <= end).unwrap_or(STEPS.len())
}

/// What the value of `record` takes, if that is not too much.
fn value_bytes<R: Schema>(record: &R) -> Result<usize, Error> {
    let largest: Step4 = limit();
    let size = wincode::config::serialized_size(record, largest);
    let size = size.map_err(|error| Error::Malformed(error.to_string()))?;
    let size = usize::try_from(size).map_err(|_| Error::TooLarge(usize::MAX))?;
    let total = HEAD_BYTES + size + CRC_BYTES;
    if RECORD_BYTES_MAX < total { Err(Error::TooLarge(total)) } else { Ok(size) }
}

fn encode_value<R: Schema>(out: &mut Vec<u8>, record: &R, size: usize) -> Result<(), Error> {
    match step_of(size) {
        0 => wincode::config::serialize_into::<R, Step0>(out, record, limit()),
        1 => wincode::config::serialize_into::<R, Step1>(out, record, limit()),
        2 => wincode::config::serialize_into::<R, Step2>(out, record, limit()),
        3 => wincode::config::serialize_into::<R, Step3>(out, record, limit()),
        _ => wincode::config::serialize_into::<R, Step4>(out, record, limit()),
    }
    .map_err(|error| Error::Malformed(error.to_string()))
}

fn decode_value<R: Schema>(value: &[u8]) -> Result<R, Error> {
    match step_of(value.len()) {
        0 => wincode::config::deserialize_exact::<R, Step0>(value, limit()),
        1 => wincode::config::deserialize_exact::<R, Step1>(value, limit()),
        2 => wincode::config::deserialize_exact::<R, Step2>(value, limit()),
        3 => wincode::config::deserialize_exact::<R, Step3>(value, limit()),
        _ => wincode::config::deserialize_exact::<R, Step4>(value, limit()),
    }
    .map_err(|error| Error::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests;
