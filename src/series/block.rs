//! Parts: many columns, or the points of many series, compressed and cut to the sizes that the store keeps without waste.
//!
//! ```text
//! [version u8][0 u8][payload][crc32c of all before, u32]                            stored
//! [version u8][1 u8][length of the payload u32][zstd][crc32c of all before, u32]
//! payload   [columns][column - the one before - 1]*[length]*, then the columns; numbers in bytes of seven bits
//! ```
//!
//! zstd packs as well as deflate here and unpacks in less than half of the time, which is most of what a query costs.
//!
//! A part is at most [`crate::base::limits::PART_BYTES_MAX`] long: just under one, two or four pages; only a column that is
//! longer by itself makes a longer one. Columns of a part ascend. The same container holds raw columns ([`super::column`]),
//! rows of points ([`super::point`]) and times.

use std::ops::Range;

use zstd::bulk::{Compressor, Decompressor};

use super::column::{put_number, take, take_byte, take_number};
use crate::base::codec;
use crate::base::limits::{PART_BYTES_MAX, PART_PAYLOAD_AIM, PART_PAYLOAD_MAX};

const VERSION: u8 = 1;
const STORED: u8 = 0;
const PACKED: u8 = 1;
/// Of the compressor: higher ones take more time than they save bytes.
const LEVEL: i32 = 7;
/// One byte stands for so many, except in short parts.
const RATIO_MAX: usize = 1024;
/// See [`RATIO_MAX`].
const SHORT_PAYLOAD: usize = 64 << 10;
/// How often a part is compressed until it is full enough.
const TRIES_MAX: u32 = 6;
/// What the store keeps in two pages.
const TWO_PAGES_MAX: usize = 8_150;
/// The store has no three pages: what is as long as this becomes two and one.
const THREE_PAGES: Range<usize> = TWO_PAGES_MAX + 1..TWO_PAGES_MAX + 3_600;

/// Bytes are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block of series is damaged: {0}")]
pub struct Spoilt(pub &'static str);

/// A part on its way to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The smallest column in it.
    pub first: u16,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Cuts columns (ascending, each already encoded) into parts, as few as possible.
pub fn parts(columns: &[(u16, Vec<u8>)]) -> Vec<Part> {
    assert!(columns.is_sorted_by(|a, b| a.0 < b.0), "BUG: columns ascend");
    let mut cutter = Cutter { compressor: compressor(), ratio: 400 };
    let mut parts = Vec::new();
    let mut rest = columns;
    while let Some((first, _)) = rest.first() {
        let (mut count, mut bytes) = cutter.fullest(rest, PART_BYTES_MAX);
        if count == rest.len() && THREE_PAGES.contains(&bytes.len()) {
            (count, bytes) = cutter.fullest(rest, TWO_PAGES_MAX);
        }
        parts.push(Part { first: *first, bytes });
        rest = &rest[count..];
    }
    parts
}

struct Cutter {
    compressor: Compressor<'static>,
    /// How many bytes came out of a thousand.
    ratio: usize,
}

impl Cutter {
    /// As many columns as fit into so many bytes, nearly, and the part.
    fn fullest(&mut self, columns: &[(u16, Vec<u8>)], bytes_max: usize) -> (usize, Vec<u8>) {
        // As many fit, and these do not, as far as is known.
        let (mut fits, mut beyond) = (0, within(columns, PART_PAYLOAD_AIM) + 1);
        let mut best = Vec::new();
        for tried in 1.. {
            // Later guesses aim a little lower, so that they fit.
            let aim = if tried == 1 { bytes_max } else { bytes_max - bytes_max / 64 };
            let guess = within(columns, aim * 1000 / self.ratio).clamp(fits + 1, beyond - 1);
            let payload = payload_of(&columns[..guess]);
            let bytes = seal_with(&mut self.compressor, &payload);
            self.ratio = (bytes.len() * 1000 / payload.len()).max(1);
            if bytes.len() <= bytes_max || guess == 1 {
                (fits, best) = (guess, bytes);
            } else {
                beyond = guess;
            }
            let full = bytes_max - bytes_max / 32 <= best.len();
            if fits + 1 == beyond || 0 < fits && (full || TRIES_MAX <= tried) {
                break;
            }
        }
        (fits, best)
    }
}

/// How many columns, one at least, have together no more than so many bytes.
fn within(columns: &[(u16, Vec<u8>)], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fit = columns.iter().take_while(|(_, column)| {
        bytes += column.len() + 3;
        bytes <= bytes_max
    });
    fit.count().max(1)
}

fn payload_of(columns: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(columns.iter().map(|(_, column)| column.len() + 4).sum());
    put_number(columns.len() as u64, &mut out);
    let mut next = 0;
    for (column, _) in columns {
        put_number(u64::from(*column) - next, &mut out);
        next = u64::from(*column) + 1;
    }
    for (_, bytes) in columns {
        put_number(bytes.len() as u64, &mut out);
    }
    for (_, bytes) in columns {
        out.extend_from_slice(bytes);
    }
    out
}

/// A part that was read.
#[derive(Clone, Debug)]
pub struct Opened {
    payload: Vec<u8>,
    /// Ascending: column, and where its bytes begin and end.
    directory: Vec<(u16, u32, u32)>,
}

impl Opened {
    /// Checks and decompresses it. Total; what is allocated is bounded.
    pub fn open(bytes: &[u8]) -> Result<Opened, Spoilt> {
        let payload = unseal(bytes)?;
        let mut rest = &payload[..];
        let count = usize::try_from(take_number(&mut rest)?).unwrap_or(usize::MAX);
        if rest.len() / 2 < count {
            return Err(Spoilt("a directory longer than the part"));
        }
        let mut directory = Vec::with_capacity(count);
        let mut next: u64 = 0;
        for _ in 0..count {
            let column = next.checked_add(take_number(&mut rest)?);
            let column = column.and_then(|column| u16::try_from(column).ok());
            let column = column.ok_or(Spoilt("a column beyond all columns"))?;
            directory.push((column, 0, 0));
            next = u64::from(column) + 1;
        }
        let mut end: u64 = 0;
        for entry in &mut directory {
            let begin = end;
            end = end.saturating_add(take_number(&mut rest)?);
            let wrong = |_| Spoilt("a column longer than the part");
            entry.1 = u32::try_from(begin).map_err(wrong)?;
            entry.2 = u32::try_from(end).map_err(wrong)?;
        }
        if end != rest.len() as u64 {
            return Err(Spoilt("columns that are not as long as the part"));
        }
        let head = payload.len() - rest.len();
        let mut payload = payload;
        payload.drain(..head);
        Ok(Opened { payload, directory })
    }

    /// The encoded bytes of a column, if this part has it.
    pub fn column(&self, column: u16) -> Option<&[u8]> {
        let at = self.directory.binary_search_by_key(&column, |(column, ..)| *column).ok()?;
        Some(self.bytes_at(self.directory[at]))
    }

    /// All of them.
    pub fn columns(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.directory.iter().map(|entry| (entry.0, self.bytes_at(*entry)))
    }

    fn bytes_at(&self, (_, begin, end): (u16, u32, u32)) -> &[u8] {
        &self.payload[begin as usize..end as usize]
    }
}

/// One thing alone (times) in the same container: checked, compressed if that helps.
pub fn seal(bytes: &[u8]) -> Vec<u8> {
    seal_with(&mut compressor(), bytes)
}

fn compressor() -> Compressor<'static> {
    Compressor::new(LEVEL).expect("BUG: it is a level that there is")
}

fn seal_with(compressor: &mut Compressor<'_>, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() <= PART_PAYLOAD_MAX, "BUG: a part is short");
    let packed = compressor.compress(bytes).unwrap_or_default();
    let mut out = vec![VERSION];
    // What was read would be refused if it were shorter.
    if packed.len() + 4 < bytes.len() && bytes.len() <= payload_max(packed.len()) {
        out.push(PACKED);
        out.extend_from_slice(&u32::try_from(bytes.len()).expect("BUG: short").to_le_bytes());
        out.extend_from_slice(&packed);
    } else {
        out.push(STORED);
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(&codec::checksum(&out).to_le_bytes());
    out
}

/// What so many bytes may become: nobody makes us allocate much with little.
fn payload_max(packed: usize) -> usize {
    packed.saturating_mul(RATIO_MAX).clamp(SHORT_PAYLOAD, PART_PAYLOAD_MAX)
}

/// Reads what [`seal`] wrote.
pub fn unseal(bytes: &[u8]) -> Result<Vec<u8>, Spoilt> {
    let (rest, sum) = bytes.split_last_chunk::<4>().ok_or(Spoilt("it ends too early"))?;
    if codec::checksum(rest).to_le_bytes() != *sum {
        return Err(Spoilt("its checksum is wrong"));
    }
    let rest = &mut &*rest;
    if take_byte(rest)? != VERSION {
        return Err(Spoilt("a part of another version"));
    }
    match take_byte(rest)? {
        STORED if rest.len() <= PART_PAYLOAD_MAX => Ok(rest.to_vec()),
        PACKED => unpacked(rest),
        _ => Err(Spoilt("a part that nobody writes")),
    }
}

fn unpacked(rest: &mut &[u8]) -> Result<Vec<u8>, Spoilt> {
    let length = take(rest, 4)?.try_into().map_err(|_| Spoilt("it ends too early"))?;
    let length = u32::from_le_bytes(length) as usize;
    if payload_max(rest.len()) < length {
        return Err(Spoilt("a part that claims too much"));
    }
    let wrong = Spoilt("it cannot be decompressed");
    let mut decompressor = Decompressor::new().map_err(|_| wrong)?;
    let payload = decompressor.decompress(rest, length).map_err(|_| wrong)?;
    if payload.len() == length { Ok(payload) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::{Opened, Spoilt, parts, seal, unseal};
    use crate::base::codec;
    use crate::base::limits::{PART_BYTES_MAX, PART_PAYLOAD_MAX};
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    /// Columns, from some that are all alike to some that cannot be compressed.
    fn columns(rng: &mut Rng) -> Vec<(u16, Vec<u8>)> {
        let (count, length) = (1 + rng.below(600), 1 + rng.below(800));
        let chance = rng.below(101);
        let mut column = u16::try_from(rng.below(9)).unwrap();
        let mut all = Vec::new();
        for _ in 0..count {
            let length = rng.index(usize::try_from(length).unwrap());
            let random = rng.below(100) < chance;
            let bytes = if random { rng.bytes(length) } else { vec![7; length] };
            all.push((column, bytes));
            column += 1 + u16::try_from(rng.below(3)).unwrap();
        }
        all
    }

    #[test]
    fn columns_come_back_from_parts() {
        for seed in seeds(60) {
            let columns = columns(&mut Rng::from_seed(seed));
            let parts = parts(&columns);
            let mut read = Vec::new();
            for part in &parts {
                assert!(part.bytes.len() <= PART_BYTES_MAX, "seed {seed}: {}", part.bytes.len());
                let opened = Opened::open(&part.bytes).unwrap();
                assert_eq!(opened.columns().next().unwrap().0, part.first, "seed {seed}");
                for (column, bytes) in opened.columns() {
                    assert_eq!(opened.column(column), Some(bytes), "seed {seed}");
                    read.push((column, bytes.to_vec()));
                }
                assert_eq!(opened.column(u16::MAX), None, "seed {seed}");
            }
            assert_eq!(read, columns, "seed {seed}");
        }
    }

    #[test]
    fn parts_are_full() {
        for seed in seeds(20) {
            let mut rng = Rng::from_seed(seed);
            // Some of them become a third of what they are, others stay as long.
            let columns: Vec<(u16, Vec<u8>)> = (0..1_000_u16)
                .map(|column| {
                    let mut bytes = rng.bytes(100 + rng.clone().index(100));
                    if column / 60 % 2 == 0 {
                        bytes = bytes.iter().map(|byte| byte & 0x12).collect();
                    }
                    (column, bytes)
                })
                .collect();
            let parts = parts(&columns);
            for part in &parts[..parts.len() - 1] {
                let length = part.bytes.len();
                assert!(PART_BYTES_MAX * 9 / 10 < length, "seed {seed}: {length}");
            }
        }
    }

    #[test]
    fn what_would_take_three_pages_becomes_two_and_one() {
        let mut rng = Rng::from_seed(1);
        for (count, lengths) in [(40, 1), (80, 1), (90, 2), (105, 2), (125, 1), (160, 1)] {
            let columns: Vec<_> = (0..count).map(|column| (column, rng.bytes(97))).collect();
            let parts = parts(&columns);
            assert_eq!(parts.len(), lengths, "{count} columns");
            assert!(lengths == 1 || parts[0].bytes.len() <= 8_150 && parts[1].bytes.len() <= 4_060);
        }
    }

    #[test]
    fn a_column_that_is_longer_than_a_part_has_one_of_its_own() {
        let mut rng = Rng::from_seed(1);
        let columns = [(3, rng.bytes(20)), (4, rng.bytes(60_000)), (9, rng.bytes(20))];
        let parts = parts(&columns);
        let firsts: Vec<u16> = parts.iter().map(|part| part.first).collect();
        assert_eq!(firsts, [3, 4, 9]);
        let opened = Opened::open(&parts[1].bytes).unwrap();
        assert_eq!(opened.column(4), Some(&columns[1].1[..]));
    }

    #[test]
    fn a_part_is_the_same_each_time() {
        for seed in seeds(5) {
            let columns = columns(&mut Rng::from_seed(seed));
            assert_eq!(parts(&columns), parts(&columns), "seed {seed}");
        }
    }

    #[test]
    fn nothing_makes_no_part() {
        assert_eq!(parts(&[]), []);
        assert_eq!(unseal(&seal(&[])), Ok(Vec::new()));
    }

    #[test]
    fn one_thing_alone_comes_back_and_takes_little_more_than_itself() {
        for seed in seeds(50) {
            let mut rng = Rng::from_seed(seed);
            let length = rng.index(5_000);
            let bytes = if rng.one_in(2) { rng.bytes(length) } else { vec![0; length] };
            let sealed = seal(&bytes);
            assert!(sealed.len() <= length + 6, "seed {seed}: {length} -> {}", sealed.len());
            assert_eq!(unseal(&sealed), Ok(bytes), "seed {seed}");
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let sealed = seal(&[b"ab".repeat(400), vec![1; 50]].concat());
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone();
            bytes[at] ^= 0x10;
            assert!(unseal(&bytes).is_err(), "at {at}");
            assert!(unseal(&sealed[..at]).is_err(), "cut at {at}");
        }
    }

    /// A part whose checksum is right, whatever it says.
    fn framed(inside: &[u8]) -> Vec<u8> {
        let mut bytes = inside.to_vec();
        bytes.extend_from_slice(&codec::checksum(inside).to_le_bytes());
        bytes
    }

    #[test]
    fn a_part_that_claims_too_much_is_refused_before_anything_is_allocated() {
        let claim = u32::try_from(PART_PAYLOAD_MAX).unwrap().to_le_bytes();
        let bytes = framed(&[&[1, 1][..], &claim, &[3, 0]].concat());
        assert_eq!(unseal(&bytes), Err(Spoilt("a part that claims too much")));
        let bytes = framed(&[&[1, 0][..], &[0xff; 9], &[1, 0]].concat());
        assert!(Opened::open(&bytes).is_err());
    }

    #[test]
    fn any_bytes_behind_a_right_checksum_are_a_part_or_an_error() {
        for seed in seeds(3_000) {
            let mut rng = Rng::from_seed(seed);
            let count = 1 + rng.index(4);
            let mut inside = vec![1, 0, u8::try_from(count).unwrap()];
            let length = rng.index(20);
            inside.extend(rng.bytes(length).iter().map(|byte| byte & 0x8f));
            if let Ok(opened) = Opened::open(&framed(&inside)) {
                let columns: Vec<u16> = opened.columns().map(|(column, _)| column).collect();
                assert!(columns.is_sorted_by(|a, b| a < b), "seed {seed}: {columns:?}");
                assert_eq!(columns.len(), count, "seed {seed}");
            }
        }
    }
}
