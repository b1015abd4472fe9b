//! Keys that sort like the things they are made of.
//!
//! ```text
//! u8 u16 u32 u64   big-endian, fixed width
//! name             its bytes, then 00            a name never holds 00
//! bytes            00 -> 00 ff, then 00 00       for text in the middle of a key
//! tail             its bytes as they are         for text at the end of a key
//! ```
//!
//! Invariant: for two keys built from the same kinds of parts, comparing the encodings gives what
//! comparing the parts gives. Reading is total: bytes that no writer produced are [`BadKey`].

/// Bytes that are not a key of the expected parts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored key is damaged: expected {expected} at byte {at}")]
pub struct BadKey {
    /// What should have stood there.
    pub expected: &'static str,
    /// Where reading stopped.
    pub at: usize,
}

/// Builds a key, part by part.
#[derive(Clone, Debug, Default)]
pub struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// An empty key.
    pub fn new() -> KeyWriter {
        KeyWriter(Vec::with_capacity(48))
    }

    /// Appends one byte.
    #[must_use]
    pub fn u8(mut self, part: u8) -> KeyWriter {
        self.0.push(part);
        self
    }

    /// Appends two bytes.
    #[must_use]
    pub fn u16(mut self, part: u16) -> KeyWriter {
        self.0.extend_from_slice(&part.to_be_bytes());
        self
    }

    /// Appends four bytes.
    #[must_use]
    pub fn u32(mut self, part: u32) -> KeyWriter {
        self.0.extend_from_slice(&part.to_be_bytes());
        self
    }

    /// Appends eight bytes.
    #[must_use]
    pub fn u64(mut self, part: u64) -> KeyWriter {
        self.0.extend_from_slice(&part.to_be_bytes());
        self
    }

    /// Appends a name and its end. Names hold no zero byte: they are checked where they enter.
    #[must_use]
    pub fn name(mut self, part: &str) -> KeyWriter {
        assert!(!part.as_bytes().contains(&0), "BUG: a name holds a zero byte");
        self.0.extend_from_slice(part.as_bytes());
        self.0.push(0);
        self
    }

    /// Appends bytes of any kind, escaped, and their end.
    #[must_use]
    pub fn bytes(mut self, part: &[u8]) -> KeyWriter {
        for &byte in part {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xff);
            }
        }
        self.0.extend_from_slice(&[0, 0]);
        self
    }

    /// Appends bytes of any kind as the last part.
    #[must_use]
    pub fn tail(mut self, part: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(part);
        self.0
    }

    /// The key.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes a key apart, in the order in which it was built.
#[derive(Clone, Debug)]
pub struct KeyReader<'a> {
    key: &'a [u8],
    at: usize,
}

impl<'a> KeyReader<'a> {
    /// Begins at the first byte.
    pub fn new(key: &'a [u8]) -> KeyReader<'a> {
        KeyReader { key, at: 0 }
    }

    fn bad(&self, expected: &'static str) -> BadKey {
        BadKey { expected, at: self.at }
    }

    fn take<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], BadKey> {
        let part = self.key.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let part = *part.ok_or_else(|| self.bad(expected))?;
        self.at += N;
        Ok(part)
    }

    /// Reads one byte.
    pub fn u8(&mut self) -> Result<u8, BadKey> {
        self.take::<1>("one byte").map(|[byte]| byte)
    }

    /// Reads two bytes.
    pub fn u16(&mut self) -> Result<u16, BadKey> {
        self.take("two bytes").map(u16::from_be_bytes)
    }

    /// Reads four bytes.
    pub fn u32(&mut self) -> Result<u32, BadKey> {
        self.take("four bytes").map(u32::from_be_bytes)
    }

    /// Reads eight bytes.
    pub fn u64(&mut self) -> Result<u64, BadKey> {
        self.take("eight bytes").map(u64::from_be_bytes)
    }

    /// Reads a name, without its end.
    pub fn name(&mut self) -> Result<&'a str, BadKey> {
        let rest = &self.key[self.at..];
        let end = rest.iter().position(|&b| b == 0).ok_or_else(|| self.bad("a name"))?;
        let name = std::str::from_utf8(&rest[..end]).map_err(|_| self.bad("a name in UTF-8"))?;
        self.at += end + 1;
        Ok(name)
    }

    /// Reads escaped bytes, without their end.
    pub fn bytes(&mut self) -> Result<Vec<u8>, BadKey> {
        let mut out = Vec::new();
        loop {
            match (self.u8()?, self.key.get(self.at)) {
                (0, Some(0)) => {
                    self.at += 1;
                    return Ok(out);
                }
                (0, Some(0xff)) => {
                    self.at += 1;
                    out.push(0);
                }
                (0, _) => return Err(self.bad("an escaped zero or the end of the bytes")),
                (byte, _) => out.push(byte),
            }
        }
    }

    /// Reads all that is left.
    pub fn tail(self) -> &'a [u8] {
        &self.key[self.at..]
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<(), BadKey> {
        if self.at == self.key.len() { Ok(()) } else { Err(self.bad("the end of the key")) }
    }
}

/// The smallest key that is larger than every key with this prefix; `None` when there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::{BadKey, KeyReader, KeyWriter, prefix_end};
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    /// Bytes that crowd around the edges: 0x00, 0x01, 0xfe, 0xff.
    fn edgy(rng: &mut Rng) -> Vec<u8> {
        let len = rng.index(5);
        (0..len).map(|_| [0, 0, 1, 0xfe, 0xff, 0xff][rng.index(6)]).collect()
    }

    fn edgy_name(rng: &mut Rng) -> String {
        let len = rng.index(4);
        (0..len).map(|_| ['-', 'a', 'z'][rng.index(3)]).collect()
    }

    type Parts = (u16, String, Vec<u8>, u64, Vec<u8>);

    fn encode(parts: &Parts) -> Vec<u8> {
        let (a, name, bytes, b, tail) = parts;
        KeyWriter::new().u16(*a).name(name).bytes(bytes).u64(*b).tail(tail)
    }

    fn parts(rng: &mut Rng) -> Parts {
        let a = u16::try_from(rng.below(2)).unwrap() * 0xff00;
        (a, edgy_name(rng), edgy(rng), rng.below(2) << 63, edgy(rng))
    }

    #[test]
    fn encoded_keys_sort_like_their_parts() {
        for seed in seeds(20_000) {
            let mut rng = Rng::from_seed(seed);
            let (a, b) = (parts(&mut rng), parts(&mut rng));
            assert_eq!(a.cmp(&b), encode(&a).cmp(&encode(&b)), "seed={seed} a={a:?} b={b:?}");
        }
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        for seed in seeds(2_000) {
            let mut rng = Rng::from_seed(seed);
            let (a, name, bytes, b, tail) = parts(&mut rng);
            let key = encode(&(a, name.clone(), bytes.clone(), b, tail.clone()));
            let mut read = KeyReader::new(&key);
            assert_eq!(read.u16(), Ok(a), "seed={seed}");
            assert_eq!(read.name(), Ok(name.as_str()), "seed={seed}");
            assert_eq!(read.bytes(), Ok(bytes), "seed={seed}");
            assert_eq!(read.u64(), Ok(b), "seed={seed}");
            assert_eq!(read.tail(), tail, "seed={seed}");
        }
    }

    #[test]
    fn a_damaged_key_is_an_error() {
        let bad = |expected, at| BadKey { expected, at };
        assert_eq!(KeyReader::new(&[1, 2, 3]).u32(), Err(bad("four bytes", 0)));
        assert_eq!(KeyReader::new(b"abc").name(), Err(bad("a name", 0)));
        assert_eq!(KeyReader::new(b"\xff\0").name(), Err(bad("a name in UTF-8", 0)));
        assert_eq!(KeyReader::new(b"ab").bytes(), Err(bad("one byte", 2)));
        let open = bad("an escaped zero or the end of the bytes", 2);
        assert_eq!(KeyReader::new(b"a\0").bytes(), Err(open.clone()));
        assert_eq!(KeyReader::new(b"a\0\x07").bytes(), Err(open));
        assert_eq!(KeyReader::new(b"a").finish(), Err(bad("the end of the key", 0)));
    }

    #[test]
    fn the_end_of_a_prefix_is_above_everything_that_begins_with_it() {
        assert_eq!(prefix_end(b""), None);
        assert_eq!(prefix_end(b"\xff\xff"), None);
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        for seed in seeds(5_000) {
            let mut rng = Rng::from_seed(seed);
            let (prefix, other) = (edgy(&mut rng), edgy(&mut rng));
            let above = prefix_end(&prefix).is_none_or(|end| other < end);
            let inside = prefix <= other && above;
            assert_eq!(inside, other.starts_with(&prefix), "seed={seed} {prefix:?} {other:?}");
        }
    }
}
