//! Whether bytes that are no frame are an end that was never finished, or damage.
//!
//! An end that was never finished is shorter than its frame says, or a hole of zeros. A frame that is all there and has other
//! bytes than were written is damage, as is anything with a whole frame behind it: that one was written later. (After a
//! power cut the last frame may be all there and have a hole. Nobody can tell that from damage; it is taken for it, which
//! costs a copy of the file.)
//!
//! A frame may begin anywhere, because the length of a damaged one may be wrong. Sums up to every few bytes are kept, so that
//! the sum of any stretch is found without reading it; and places are tried up to a bound, after which it is damage.

use super::{DELETE, HEAD_BYTES, head, is_row};
use crate::base::limits::FRAME_BYTES_MAX;

/// So many bytes there are from one sum that is kept to the next.
const STEP: usize = 256;
/// So many places are tried: more than a frame that was cut has by chance.
const TRIES_MAX: usize = 1 << 20;

/// Checksums of all beginnings of some bytes.
struct Sums<'b> {
    bytes: &'b [u8],
    kept: Vec<u32>,
}

impl<'b> Sums<'b> {
    fn new(bytes: &'b [u8]) -> Sums<'b> {
        let mut kept = vec![0];
        let mut sum = 0;
        for some in bytes.chunks(STEP) {
            sum = crc32c::crc32c_append(sum, some);
            kept.push(sum);
        }
        Sums { bytes, kept }
    }

    /// Of the bytes before `at`.
    fn before(&self, at: usize) -> u32 {
        let step = at / STEP;
        crc32c::crc32c_append(self.kept[step], &self.bytes[step * STEP..at])
    }

    fn is(&self, start: usize, length: usize, crc: u32) -> bool {
        crc32c::crc32c_combine(self.before(start), crc, length) == self.before(start + length)
    }
}

/// Whether the bytes behind the last whole frame are damaged. None are not.
pub(super) fn is_damaged(bytes: &[u8]) -> bool {
    // No shorter beginning of a frame, with holes or without, says that it is longer than any can be.
    if head(bytes).is_some_and(|(length, _, rest)| {
        FRAME_BYTES_MAX < length || (1..=rest.len()).contains(&length)
    }) {
        return true;
    }
    let sums = Sums::new(bytes);
    let mut tries = 0;
    for at in 1..bytes.len() {
        let Some((length, crc, rest)) = head(&bytes[at..]) else { break };
        let is_entry = rest.first().is_some_and(|tag| *tag <= DELETE || is_row(*tag));
        if !is_entry || length == 0 || FRAME_BYTES_MAX.min(rest.len()) < length {
            continue;
        }
        if tries == TRIES_MAX || sums.is(at + HEAD_BYTES, length, crc) {
            return true;
        }
        tries += 1;
    }
    false
}
