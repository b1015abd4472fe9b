//! The codec against its reference, bincode 1.3.3, and against damage.

use super::{Error, Head, Record, SchemaRead, SchemaWrite, decode, encode, head};
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::rng::Rng;
use crate::testing::seeds;
use expect_test::expect;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
enum Shape {
    Point,
    Line(u32, i64),
    Blob { name: String, bytes: Vec<u8> },
}

/// One field of every kind that records may hold.
#[derive(Clone, Debug, PartialEq, SchemaRead, SchemaWrite, Serialize, Deserialize)]
struct Everything {
    small: (u8, i8, u16, i16),
    numbers: (u32, i32, u64, i64),
    wide: (u128, i128),
    real: (f32, f64),
    flag: bool,
    letter: char,
    text: String,
    bytes: Vec<u8>,
    some: Option<Box<[u16]>>,
    shapes: Vec<Shape>,
    fixed: [u8; 16],
    nested: Vec<Option<Vec<u64>>>,
}

impl Record for Everything {
    const HEAD: Head = Head { kind: 0xee, version: 3 };
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
struct Bytes(Vec<u8>);

impl Record for Bytes {
    const HEAD: Head = Head { kind: 1, version: 1 };
}

fn text(rng: &mut Rng) -> String {
    let len = rng.index(12);
    (0..len).map(|_| ['a', 'Z', '\0', '\u{e9}', '\u{1f600}'][rng.index(5)]).collect()
}

fn random_bytes(rng: &mut Rng) -> Vec<u8> {
    let len = [0, 1, 7, 300, 2_000, 70_000][rng.index(6)];
    rng.bytes(len)
}

fn shape(rng: &mut Rng) -> Shape {
    match rng.below(3) {
        0 => Shape::Point,
        1 => Shape::Line(u32::try_from(rng.below(1 << 32)).unwrap(), rng.next_u64().cast_signed()),
        _ => Shape::Blob { name: text(rng), bytes: random_bytes(rng) },
    }
}

#[expect(clippy::cast_possible_truncation, reason = "random bits, any of them will do")]
fn everything(rng: &mut Rng) -> Everything {
    let bits = rng.next_u64();
    let (a, b) = (bits as u32, rng.next_u64());
    Everything {
        small: (bits as u8, (bits >> 8) as i8, (bits >> 16) as u16, (bits >> 32) as i16),
        numbers: (a, a.cast_signed(), b, b.cast_signed()),
        wide: (u128::from(b) << 64 | u128::from(bits), -i128::from(b)),
        real: (f32::from_bits(a & 0x7f00_0000), f64::from_bits(b & !(0x7ff << 52))),
        flag: rng.one_in(2),
        letter: ['x', '\u{e9}', '\u{1f600}'][rng.index(3)],
        text: text(rng),
        bytes: random_bytes(rng),
        some: rng.one_in(2).then(|| vec![7; 3].into()),
        shapes: (0..rng.index(4)).map(|_| shape(rng)).collect(),
        fixed: rng.bytes(16).try_into().unwrap(),
        nested: (0..rng.index(3)).map(|_| rng.one_in(2).then(|| vec![b; 3])).collect(),
    }
}

/// Head and checksum around bytes that somebody else wrote.
fn frame(kind: u8, version: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, version];
    out.extend_from_slice(value);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

#[test]
fn records_are_byte_for_byte_what_bincode_writes() {
    for seed in seeds(500) {
        let value = everything(&mut Rng::from_seed(seed));
        let reference = bincode::serialize(&value).unwrap();
        let ours = encode(&value).unwrap();
        assert_eq!(ours, frame(0xee, 3, &reference), "seed={seed}");
        assert_eq!(decode::<Everything>(&ours).as_ref(), Ok(&value), "seed={seed}");
        let theirs: Everything = bincode::deserialize(&ours[2..ours.len() - 4]).unwrap();
        assert_eq!(theirs, value, "seed={seed}");
    }
}

#[test]
fn the_bytes_of_a_record_are_frozen() {
    let value = Shape::Blob { name: "q".to_owned(), bytes: vec![1, 2] };
    let bytes = bincode::serialize(&value).unwrap();
    expect![["[2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 113, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2]"]]
        .assert_eq(&format!("{bytes:?}"));
    let record = encode(&Bytes(vec![7, 8, 9])).unwrap();
    expect!["[1, 1, 3, 0, 0, 0, 0, 0, 0, 0, 7, 8, 9, 30, 91, 208, 144]"]
        .assert_eq(&format!("{record:?}"));
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let value = everything(&mut Rng::from_seed(3));
    let value = Everything { bytes: vec![5; 40], shapes: Vec::new(), ..value };
    let good = encode(&value).unwrap();
    for len in 0..good.len() {
        assert!(decode::<Everything>(&good[..len]).is_err(), "cut to {len}");
    }
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(decode::<Everything>(&bad).is_err(), "bit {bit}");
    }
    assert_eq!(decode::<Everything>(&[good.as_slice(), &[0]].concat()), Err(Error::Checksum));
}

#[test]
fn a_value_that_does_not_fill_its_record_is_refused() {
    let padded = frame(1, 1, &[3, 0, 0, 0, 0, 0, 0, 0, 7, 8, 9, 0]);
    assert!(matches!(decode::<Bytes>(&padded), Err(Error::Malformed(_))));
}

#[test]
fn a_claimed_length_allocates_no_more_than_the_record_could_fill() {
    // 2^60 and 2^40 bytes claimed by a record of 14: refused before anything is allocated, or this
    // test would be killed.
    for claimed in [1_u64 << 60, 1 << 40, 1 << 30, 1 << 20, 4] {
        let lying = frame(1, 1, &claimed.to_le_bytes());
        let refused = decode::<Bytes>(&lying);
        assert!(matches!(refused, Err(Error::Malformed(_))), "{claimed}: {refused:?}");
    }
    let lying = frame(1, 1, &(65_u64 << 10).to_le_bytes());
    let text = decode::<Bytes>(&lying).unwrap_err().to_string();
    assert!(text.contains("preallocation limit of 65536 bytes"), "{text}");
}

/// Elements whose stored size is not fixed are the ones for which room is made before they are read.
#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
struct Dynamic {
    padding: Vec<u8>,
    elements: Vec<Option<u64>>,
}

impl Record for Dynamic {
    const HEAD: Head = Head { kind: 2, version: 1 };
}

#[test]
fn what_a_record_may_allocate_is_in_proportion_to_its_length() {
    for (len, limit) in [
        (100, 64 << 10),
        (2_000, 256 << 10),
        (20_000, 1 << 20),
        (100_000, 8 << 20),
        (2 << 20, 32 << 20),
    ] {
        let good =
            encode(&Dynamic { padding: vec![7; len], elements: vec![Some(1), None] }).unwrap();
        assert!(decode::<Dynamic>(&good).is_ok(), "{len}");
        assert!(limit <= (64 << 10).max(256 * len), "{len}");
        // One element more than may be made room for, sixteen bytes each.
        let mut value = bincode::serialize(&(vec![7_u8; len], limit as u64 / 16 + 1)).unwrap();
        value.push(0);
        let text = decode::<Dynamic>(&frame(2, 1, &value)).unwrap_err().to_string();
        assert!(text.contains(&format!("preallocation limit of {limit} bytes")), "{len}: {text}");
    }
}

#[test]
fn kind_and_version_must_be_those_asked_for() {
    let found = Head { kind: 0xee, version: 4 };
    let other = frame(found.kind, found.version, &[]);
    assert_eq!(head(&other), Ok(found));
    assert_eq!(
        decode::<Everything>(&other),
        Err(Error::Unexpected { expected: Everything::HEAD, found })
    );
}

#[test]
fn a_record_has_a_largest_size() {
    let largest = RECORD_BYTES_MAX - 2 - 8 - 4;
    let bytes = encode(&Bytes(vec![1; largest])).unwrap();
    assert_eq!(bytes.len(), RECORD_BYTES_MAX);
    assert_eq!(decode::<Bytes>(&bytes), Ok(Bytes(vec![1; largest])));
    let over = RECORD_BYTES_MAX + 1;
    assert_eq!(encode(&Bytes(vec![1; largest + 1])), Err(Error::TooLarge(over)));
    assert_eq!(decode::<Bytes>(&vec![0; over]), Err(Error::TooLarge(over)));
    assert_eq!(decode::<Bytes>(&[1, 1, 0, 0, 0]), Err(Error::Short(5)));
}
