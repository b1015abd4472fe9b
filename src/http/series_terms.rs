//! The calls of the series, from bytes to what they mean: each refusal has its code.
//!
//! ```text
//!  JSON --[spans]--> pieces of text --[here]--> Incoming, Query
//!  text --[series::text]--> lines --[here]--> Incoming
//! ```
//!
//! **Invariants**
//! - A body that cannot be read is refused as a whole, before anything of it is taken; a sample that is wrong by itself is refused
//!   alone, with its place and a code.
//! - Numbers are read to the bit: the text of a number goes to the one reader of decimals that rounds as it should.
//! - However long a body is, [`WRITE_CHUNK_SAMPLES`](crate::base::limits::WRITE_CHUNK_SAMPLES) of its samples are in memory at a time.

mod ask;
mod sample;

pub(super) use self::ask::{
    Asked, Range, batch, function_of, name_of, names, query, selector, timeout,
};
pub(super) use self::sample::{Format, Rejected, samples};

use super::problem::Problem;
use crate::base::time::Timestamp;

/// A parameter that is true or false; false without it.
pub(super) fn truth_of(parameter: &'static str, text: Option<&str>) -> Result<bool, Problem> {
    let is =
        |text: &str, words: [&str; 2]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match text {
        None => Ok(false),
        Some(text) if is(text, ["1", "true"]) => Ok(true),
        Some(text) if is(text, ["0", "false"]) => Ok(false),
        Some(_) => {
            let detail = format!("{parameter} is 1, 0, true or false");
            Err(Problem::new(&format!("invalid_{parameter}"), detail))
        }
    }
}

/// For the fuzzer: how many samples of a body in JSON are taken, and the places of all that were told; or how many were, before
/// the body was refused.
pub(crate) fn json_samples(body: &[u8], now: Timestamp) -> Result<(usize, Vec<u32>), usize> {
    let (mut taken, mut places) = (0, Vec::new());
    let read = samples(Format::Json, body, now, |samples, rejected| {
        taken += samples.len();
        places.extend(samples.iter().map(|sample| sample.place));
        places.extend(rejected.iter().map(|rejected| rejected.place));
        Ok(())
    });
    if read.is_ok() { Ok((taken, places)) } else { Err(places.len()) }
}

/// For the fuzzer: how many queries a batch has.
pub(crate) fn batch_len(body: &[u8], now: Timestamp) -> Option<usize> {
    batch(body, now).ok().map(|batch| batch.queries.len())
}

#[cfg(test)]
mod tests;
