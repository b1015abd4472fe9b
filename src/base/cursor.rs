//! Cursors: where a list goes on, opaque to those who carry it.
//!
//! A cursor is the key of the last item that was shown, with a mark of the list it belongs to and a
//! checksum, in hexadecimal. A cursor of another list, a cut one or an invented one is refused; none can
//! make us look at anything that the list would not have shown.

use super::codec::checksum;

/// The longest key of an item.
pub const CURSOR_KEY_BYTES_MAX: usize = 1024;

/// Why a text is not a cursor of the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cursor of this list; take the one of \"next\" as it is")]
pub struct BadCursor;

impl BadCursor {
    /// The stable code.
    pub const CODE: &'static str = "invalid_cursor";
}

/// The cursor behind the item with `key` in the list named `list`.
pub fn write(list: &str, key: &[u8]) -> String {
    assert!(key.len() <= CURSOR_KEY_BYTES_MAX, "BUG: the key of a list's item is bounded");
    let mut out = String::with_capacity(8 + key.len() * 2);
    for byte in seal(list, key).to_be_bytes().iter().chain(key) {
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
    out
}

/// The key in a cursor of the list named `list`.
pub fn read(list: &str, text: &str) -> Result<Vec<u8>, BadCursor> {
    let text = text.as_bytes();
    if 8 + CURSOR_KEY_BYTES_MAX * 2 < text.len() || !text.len().is_multiple_of(2) {
        return Err(BadCursor);
    }
    let digit = |byte: u8| HEX.iter().position(|&d| d == byte).ok_or(BadCursor);
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for pair in text.chunks_exact(2) {
        let byte = digit(pair[0])? << 4 | digit(pair[1])?;
        bytes.push(u8::try_from(byte).map_err(|_| BadCursor)?);
    }
    let (crc, key) = bytes.split_first_chunk::<4>().ok_or(BadCursor)?;
    if u32::from_be_bytes(*crc) != seal(list, key) {
        return Err(BadCursor);
    }
    Ok(key.to_vec())
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn seal(list: &str, key: &[u8]) -> u32 {
    let mut all = Vec::with_capacity(list.len() + 1 + key.len());
    all.extend_from_slice(list.as_bytes());
    all.push(0);
    all.extend_from_slice(key);
    checksum(&all)
}

#[cfg(test)]
mod tests {
    use super::{BadCursor, read, write};

    #[test]
    fn a_cursor_leads_back_to_its_key_in_its_list_alone() {
        for key in [&b""[..], b"a", &[0, 255, 7], &[9; 1024]] {
            let cursor = write("audit", key);
            assert_eq!(read("audit", &cursor).as_deref(), Ok(key));
            assert_eq!(read("tokens", &cursor), Err(BadCursor));
            assert_eq!(read("audit", &cursor[1..]), Err(BadCursor));
            assert_eq!(read("audit", &cursor.replace(&cursor[..2], "zz")), Err(BadCursor));
        }
        assert_eq!(read("audit", ""), Err(BadCursor));
        assert_eq!(read("audit", &"0".repeat(5000)), Err(BadCursor));
        assert_eq!(read("audit", "\u{e4}\u{e4}\u{e4}\u{e4}"), Err(BadCursor));
    }
}
