//! Ordinary entries as a file: written at an end in order, read at the next start.
//!
//! ```text
//! [magic 8][version u8][saved_at, unix ms u64][checksum of these u32]
//! [length u32][record of a frame]...        entries of one namespace of one tenant
//! [length u32][record of the end]           how many frames and entries, checksum of all frames
//! ```
//!
//! Numbers are little-endian; a record has a checksum of its own, see [`codec`].
//!
//! **Invariants**
//! - A file counts as a whole or not at all: [`verify`] goes through everything before anything is used.
//!   One that was cut, damaged, written by a later version or not finished is an [`Error`].
//! - Times are what was left at `saved_at`. What passed since is taken off, and what ended is left out. When
//!   the clock went back, nobody knows what passed: nothing is used.
//! - Reading takes memory for one frame, whatever lengths the file claims.
//!
//! Kept entries are not in it: they have a store of their own.

use std::io::{self, Read, Write};
use std::time::Duration;

use super::entry::{BadLife, ContentType, Found, Key, Life, Put, Tag};
use super::space::{Cache, Space};
use super::{Error as CacheError, entry};
use crate::base::codec::{self, Head, Record, SchemaRead, SchemaWrite};
use crate::base::id::TenantId;
use crate::base::limits::{
    CACHE_STEP_ENTRIES, CACHE_TAGS_MAX, CACHE_TTL_MAX, CACHE_VALUE_BYTES_MAX, RECORD_BYTES_MAX,
    SNAPSHOT_FRAME_BYTES, SNAPSHOT_FRAME_ENTRIES,
};
use crate::base::name::Namespace;
use crate::base::time::{Now, Timestamp, WALL_STEP_REPORTED};

const MAGIC: [u8; 8] = *b"HFCACHE\n";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 1 + 8;
const LENGTH_BYTES: usize = 4;

/// Why a snapshot was not written, or is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("the snapshot cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// Something else stands in the file.
    #[error("this is not a snapshot of the cache")]
    NotOurs,
    /// Written by a later version.
    #[error("the snapshot has version {found}, this server knows up to {VERSION}")]
    Newer {
        /// Its version.
        found: u8,
    },
    /// It ends before its end.
    #[error("the snapshot is cut off after {at} bytes")]
    Cut {
        /// Where.
        at: u64,
    },
    /// It is not what was written.
    #[error("the snapshot is damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// It was written later than now.
    #[error("the snapshot is of {saved_at}, which is still to come: the clock went back")]
    FromTheFuture {
        /// When it says that it was written.
        saved_at: Timestamp,
    },
}

/// What a file holds, and what was made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames in the file.
    pub frames: u64,
    /// Entries in them.
    pub entries: u64,
    /// Entries that are in the cache now.
    pub loaded: u64,
    /// Entries that ended meanwhile.
    pub ended: u64,
    /// Entries of tenants that are gone, and such as the cache does not take any more.
    pub refused: u64,
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
struct EntryV1 {
    key: String,
    content_type: String,
    tags: Vec<String>,
    /// Nothing for one that never ends; 0 for a stale one.
    ttl_ms: Option<u64>,
    /// The window behind the ttl; what is left of it, for a stale one.
    stale_ms: u64,
    age_ms: u64,
    value: Vec<u8>,
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
struct FrameV1 {
    tenant: u64,
    namespace: String,
    entries: Vec<EntryV1>,
}

impl Record for FrameV1 {
    const HEAD: Head = Head { kind: 0x46, version: 1 };
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
struct EndV1 {
    frames: u64,
    entries: u64,
    /// Of the header and of all frames, in their order.
    checksum: u32,
}

impl Record for EndV1 {
    const HEAD: Head = Head { kind: 0x45, version: 1 };
}

/// An entry in a snapshot: checked, with the times that were left when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its key.
    pub key: String,
    /// The type of its bytes.
    pub content_type: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// For how long it is fresh: nothing for one that never ends, zero for a stale one.
    pub ttl: Option<Duration>,
    /// For how long it is served as stale after that.
    pub stale: Duration,
    /// How long it was there.
    pub age: Duration,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// Entries of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whose.
    pub tenant: TenantId,
    /// The namespace.
    pub namespace: Namespace,
    /// Its entries, or some of them.
    pub entries: Vec<Saved>,
}

impl Saved {
    /// The entry when so much time has passed; nothing if it ended.
    pub fn after(mut self, passed: Duration) -> Option<Saved> {
        self.age = self.age.saturating_add(passed);
        let Some(ttl) = self.ttl else {
            return Some(self);
        };
        let left = ttl.saturating_sub(passed);
        if left.is_zero() {
            self.stale = self.stale.saturating_sub(passed.saturating_sub(ttl));
            if self.stale.is_zero() {
                return None;
            }
        }
        self.ttl = Some(left);
        Some(self)
    }

    /// How long it is served from now on. The cache knows no entry that begins as a stale one: it gets the
    /// least ttl there is, off its window, which is over before anybody is let in.
    fn life(&self) -> Result<Life, BadLife> {
        if self.ttl == Some(Duration::ZERO) {
            let least = Duration::from_millis(1);
            return Life::new(Some(least), self.stale.saturating_sub(least));
        }
        Life::new(self.ttl, self.stale)
    }

    fn to_record(&self) -> EntryV1 {
        EntryV1 {
            key: self.key.clone(),
            content_type: self.content_type.clone(),
            tags: self.tags.clone(),
            ttl_ms: self.ttl.map(millis),
            stale_ms: millis(self.stale),
            age_ms: millis(self.age),
            value: self.value.clone(),
        }
    }

    /// Checks what the file says of an entry; the rule that it breaks, if it does.
    fn of_record(record: EntryV1) -> Result<Saved, &'static str> {
        let known = |ms: u64| Some(Duration::from_millis(ms)).filter(|time| *time <= CACHE_TTL_MAX);
        Key::parse(&record.key).map_err(|_| "a key is none")?;
        ContentType::parse(&record.content_type).ok_or("a content type is none")?;
        if CACHE_TAGS_MAX < record.tags.len() {
            return Err("an entry has too many tags");
        }
        let tags = record.tags.iter().all(|tag| Tag::parse(tag).is_ok());
        let stale = known(record.stale_ms).ok_or("a time is too long")?;
        let ttl = record.ttl_ms.map(|ms| known(ms).ok_or("a time is too long")).transpose()?;
        match ttl {
            _ if !tags => Err("a tag is none"),
            _ if CACHE_VALUE_BYTES_MAX < record.value.len() => Err("a value is too large"),
            None if !stale.is_zero() => Err("what never ends has a stale window"),
            Some(ttl) if ttl.is_zero() && stale.is_zero() => Err("an entry ended before"),
            Some(_) | None => Ok(Saved {
                key: record.key,
                content_type: record.content_type,
                tags: record.tags,
                ttl,
                stale,
                age: Duration::from_millis(record.age_ms),
                value: record.value,
            }),
        }
    }

    /// About what it takes in a frame.
    fn bytes(&self) -> usize {
        let tags: usize = self.tags.iter().map(|tag| 8 + tag.len()).sum();
        64 + self.key.len() + self.content_type.len() + tags + self.value.len()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Goes on with a checksum: by that at the end of `bytes`. A checksum over bytes and their own checksum is
/// the same for all.
fn chained(before: u32, bytes: &[u8]) -> u32 {
    let own = bytes.last_chunk::<4>().expect("BUG: header and records end with a checksum");
    codec::checksum(&[before.to_le_bytes(), *own].concat())
}

fn header(saved_at: Timestamp) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    let ms = saved_at.unix_ms().cast_unsigned();
    bytes.extend_from_slice(&ms.to_le_bytes());
    let checksum = codec::checksum(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Writes a snapshot. Without [`Writer::finish`] it is none.
pub struct Writer<'w> {
    out: &'w mut dyn Write,
    frame: FrameV1,
    frame_bytes: usize,
    frames: u64,
    entries: u64,
    checksum: u32,
}

impl<'w> Writer<'w> {
    /// Begins one with the times that are left at `saved_at`.
    pub fn begin(out: &'w mut dyn Write, saved_at: Timestamp) -> Result<Writer<'w>, Error> {
        let header = header(saved_at);
        out.write_all(&header)?;
        let frame = FrameV1 { tenant: 0, namespace: String::new(), entries: Vec::new() };
        let checksum = chained(0, &header);
        Ok(Writer { out, frame, frame_bytes: 0, frames: 0, entries: 0, checksum })
    }

    /// Adds an entry of this namespace.
    pub fn add(
        &mut self,
        tenant: TenantId,
        namespace: &Namespace,
        entry: &Saved,
    ) -> Result<(), Error> {
        let same = self.frame.tenant == tenant.raw() && self.frame.namespace == namespace.as_str();
        let full = SNAPSHOT_FRAME_ENTRIES <= self.frame.entries.len()
            || SNAPSHOT_FRAME_BYTES <= self.frame_bytes;
        if !same || full {
            self.end_frame()?;
            self.frame.tenant = tenant.raw();
            namespace.as_str().clone_into(&mut self.frame.namespace);
        }
        self.frame_bytes += entry.bytes();
        self.frame.entries.push(entry.to_record());
        Ok(())
    }

    fn end_frame(&mut self) -> Result<(), Error> {
        if self.frame.entries.is_empty() {
            return Ok(());
        }
        let bytes = codec::encode(&self.frame);
        let bytes = bytes.map_err(|error| Error::Io(io::Error::other(error.to_string())))?;
        self.write(&bytes)?;
        self.checksum = chained(self.checksum, &bytes);
        self.frames += 1;
        self.entries += self.frame.entries.len() as u64;
        self.frame.entries.clear();
        self.frame_bytes = 0;
        Ok(())
    }

    fn write(&mut self, record: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(record.len()).expect("BUG: a record is shorter");
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(record)?;
        Ok(())
    }

    /// Writes the end. What is in the file now is a snapshot.
    pub fn finish(mut self) -> Result<Counts, Error> {
        self.end_frame()?;
        let end = EndV1 { frames: self.frames, entries: self.entries, checksum: self.checksum };
        let bytes = codec::encode(&end).expect("BUG: the end is small");
        self.write(&bytes)?;
        self.out.flush()?;
        Ok(Counts { frames: self.frames, entries: self.entries, ..Counts::default() })
    }
}

/// Reads a snapshot, frame by frame.
pub struct Reader<'r> {
    input: &'r mut dyn Read,
    at: u64,
    saved_at: Timestamp,
    counts: Counts,
    checksum: u32,
}

impl<'r> Reader<'r> {
    /// Reads what stands at the beginning.
    pub fn open(input: &'r mut dyn Read) -> Result<Reader<'r>, Error> {
        let saved_at = Timestamp::MIN;
        let mut reader = Reader { input, at: 0, saved_at, counts: Counts::default(), checksum: 0 };
        let bytes = reader.take(HEADER_BYTES + LENGTH_BYTES)?;
        let magic = bytes.len().min(MAGIC.len());
        if bytes[..magic] != MAGIC[..magic] {
            return Err(Error::NotOurs);
        }
        // A later version may have anything behind its number.
        if let Some(&found) = bytes.get(MAGIC.len()).filter(|found| VERSION < **found) {
            return Err(Error::Newer { found });
        }
        let cut = Error::Cut { at: reader.at };
        let Some((head, checksum)) = bytes.split_last_chunk::<4>() else { return Err(cut) };
        let Some((_, ms)) = head.split_last_chunk::<8>() else { return Err(cut) };
        if head.len() < HEADER_BYTES {
            return Err(cut);
        }
        let ms = i64::try_from(u64::from_le_bytes(*ms)).ok().and_then(Timestamp::from_unix_ms);
        let right = codec::checksum(head) == u32::from_le_bytes(*checksum);
        reader.saved_at =
            ms.filter(|_| right).ok_or_else(|| reader.damaged("its beginning is not right"))?;
        reader.checksum = chained(0, &bytes);
        Ok(reader)
    }

    /// When it was written.
    pub fn saved_at(&self) -> Timestamp {
        self.saved_at
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The next entries; nothing at the end of a file that is whole.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        let length = self.take(LENGTH_BYTES)?;
        let length: [u8; LENGTH_BYTES] =
            length.try_into().map_err(|_| Error::Cut { at: self.at })?;
        let length = u32::from_le_bytes(length) as usize;
        if RECORD_BYTES_MAX < length {
            return Err(self.damaged("a frame is too long"));
        }
        let bytes = self.take(length)?;
        if bytes.len() < length {
            return Err(Error::Cut { at: self.at });
        }
        let head = codec::head(&bytes).map_err(|error| self.damaged(&error.to_string()))?;
        if head == EndV1::HEAD {
            return self.end(&bytes).map(|()| None);
        }
        let frame = codec::decode(&bytes).map_err(|error| self.damaged(&error.to_string()))?;
        let frame = self.check(frame)?;
        self.checksum = chained(self.checksum, &bytes);
        self.counts.frames += 1;
        self.counts.entries += frame.entries.len() as u64;
        Ok(Some(frame))
    }

    fn check(&self, frame: FrameV1) -> Result<Frame, Error> {
        let namespace = Namespace::parse(&frame.namespace);
        let namespace = namespace.map_err(|bad| self.damaged(&bad.to_string()))?;
        if !(1..=SNAPSHOT_FRAME_ENTRIES).contains(&frame.entries.len()) {
            return Err(self.damaged("a frame has no entries, or too many"));
        }
        let entries = frame.entries.into_iter().map(Saved::of_record);
        let entries = entries.collect::<Result<Vec<Saved>, _>>();
        let entries = entries.map_err(|broken| self.damaged(broken))?;
        Ok(Frame { tenant: TenantId::from_raw(frame.tenant), namespace, entries })
    }

    fn end(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end: EndV1 = codec::decode(bytes).map_err(|error| self.damaged(&error.to_string()))?;
        let (frames, entries) = (self.counts.frames, self.counts.entries);
        if end != (EndV1 { frames, entries, checksum: self.checksum }) {
            return Err(self.damaged("frames are missing, or not those that were written"));
        }
        if !self.take(1)?.is_empty() {
            return Err(self.damaged("something stands behind its end"));
        }
        Ok(())
    }

    /// So many bytes, or what there is.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read = (&mut *self.input).take(length as u64).read_to_end(&mut bytes)?;
        self.at += read as u64;
        Ok(bytes)
    }

    fn damaged(&self, what: &str) -> Error {
        Error::Damaged { at: self.at, what: what.to_owned() }
    }
}

/// Goes through a whole snapshot: whether it is one, from its beginning to its end.
pub fn verify(input: &mut dyn Read) -> Result<Counts, Error> {
    let mut reader = Reader::open(input)?;
    while reader.next_frame()?.is_some() {}
    Ok(reader.counts())
}

/// Writes every ordinary entry that is served at `now`.
pub fn save(cache: &Cache, now: Now, out: &mut dyn Write) -> Result<Counts, Error> {
    let mut writer = Writer::begin(out, now.wall)?;
    for space in cache.all_spaces().iter().filter(|space| !space.kept()) {
        let mut from = Some(0);
        while let Some(at) = from {
            // Taken under the lock of a shard, written outside of it; values are shared, not copied.
            let mut taken = Vec::new();
            from = space.visit(now.mono, at, CACHE_STEP_ENTRIES, &mut |key, found, tags, stale| {
                let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
                taken.push((key.as_str().to_owned(), found.clone(), tags, stale));
            });
            for (key, found, tags, stale) in taken {
                writer.add(space.tenant(), space.name(), &saved(key, &found, tags, stale))?;
            }
        }
    }
    writer.finish()
}

fn saved(key: String, found: &Found, tags: Vec<String>, stale: Duration) -> Saved {
    Saved {
        key,
        content_type: found.content_type().as_str().to_owned(),
        tags,
        ttl: found.ttl(),
        // What never ends has no window behind its end.
        stale: if found.ttl().is_none() { Duration::ZERO } else { stale },
        age: found.age(),
        value: found.bytes().to_vec(),
    }
}

/// What a tenant may hold; nothing for a tenant that is gone.
pub type Tenants<'t> = &'t dyn Fn(TenantId) -> Option<Option<u64>>;

/// Puts what a snapshot holds into the cache. To be called with one that [`verify`] liked, before anybody
/// is let in.
pub fn load(
    cache: &Cache,
    now: Now,
    input: &mut dyn Read,
    tenants: Tenants<'_>,
) -> Result<Counts, Error> {
    let mut reader = Reader::open(input)?;
    let saved_at = reader.saved_at();
    if now.wall.plus(WALL_STEP_REPORTED) < saved_at {
        return Err(Error::FromTheFuture { saved_at });
    }
    let passed = now.wall.since(saved_at);
    let mut counts = Counts::default();
    while let Some(frame) = reader.next_frame()? {
        let space = tenants(frame.tenant)
            .and_then(|max| cache.space_or_new(frame.tenant, &frame.namespace, max).ok())
            .filter(|space| !space.kept());
        for entry in frame.entries {
            match (entry.after(passed), &space) {
                (None, _) => counts.ended += 1,
                (Some(entry), Some(space)) if put(space, now, &entry).is_ok() => {
                    counts.loaded += 1;
                }
                (Some(_), _) => counts.refused += 1,
            }
        }
    }
    let Counts { frames, entries, .. } = reader.counts();
    Ok(Counts { frames, entries, ..counts })
}

fn put(space: &Space, now: Now, entry: &Saved) -> Result<(), CacheError> {
    let checked = "BUG: an entry of a snapshot is checked";
    let tags: Vec<Tag<'_>> = entry.tags.iter().map(|tag| Tag::parse(tag).expect(checked)).collect();
    let put = Put {
        key: Key::parse(&entry.key).expect(checked),
        value: &entry.value,
        content_type: ContentType::parse(&entry.content_type).expect(checked),
        life: entry.life().expect(checked),
        tags: &tags,
        condition: entry::Condition::Always,
        lease: None,
    };
    space.put(now.mono, &put).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{
        Counts, Error, Frame, HEADER_BYTES, MAGIC, Reader, Saved, Writer, header, load, put, save,
        verify,
    };
    use crate::base::codec;
    use crate::base::id::TenantId;
    use crate::base::limits::{CACHE_VALUE_BYTES_MAX, RECORD_BYTES_MAX, SNAPSHOT_FRAME_ENTRIES};
    use crate::base::name::Namespace;
    use crate::base::rng::Rng;
    use crate::base::time::{Mono, Now, Timestamp};
    use crate::cache::entry::{Forget, Key, Tag};
    use crate::cache::space::{Cache, Settings};
    use crate::testing::seeds;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn moment() -> Timestamp {
        Timestamp::from_unix_ms(1_763_640_000_123).unwrap()
    }

    fn entry(key: &str) -> Saved {
        Saved {
            key: key.to_owned(),
            content_type: "text/plain".to_owned(),
            tags: vec!["a".to_owned()],
            ttl: Some(10 * SECOND),
            stale: 5 * SECOND,
            age: SECOND,
            value: b"value".to_vec(),
        }
    }

    fn random(rng: &mut Rng, n: usize) -> Saved {
        let ttl = match rng.below(4) {
            0 => None,
            1 => Some(Duration::ZERO),
            _ => Some(Duration::from_millis(1 + rng.below(1 << 30))),
        };
        let window = Duration::from_millis(1 + rng.below(1 << 20));
        let bytes = rng.index(2000);
        Saved {
            key: format!("key \u{e4} {n}"),
            content_type: "application/json".to_owned(),
            tags: (0..rng.below(17)).map(|n| format!("tag:{n}")).collect(),
            ttl,
            stale: if ttl.is_none() { Duration::ZERO } else { window },
            age: Duration::from_millis(rng.below(1 << 40)),
            value: rng.bytes(bytes),
        }
    }

    /// The same entries, frame by frame or not.
    fn flat(frames: Vec<Frame>) -> Vec<(TenantId, Namespace, Saved)> {
        let mut all = Vec::new();
        for frame in frames {
            let Frame { tenant, namespace, entries } = frame;
            all.extend(entries.into_iter().map(|entry| (tenant, namespace.clone(), entry)));
        }
        all
    }

    fn written(entries: &[(TenantId, Namespace, Saved)]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::begin(&mut out, moment()).unwrap();
        for (tenant, namespace, entry) in entries {
            writer.add(*tenant, namespace, entry).unwrap();
        }
        assert_eq!(writer.finish().unwrap().entries, entries.len() as u64);
        out
    }

    fn read(mut bytes: &[u8]) -> Result<Vec<Frame>, Error> {
        let mut reader = Reader::open(&mut bytes)?;
        assert_eq!(reader.saved_at(), moment());
        let mut frames = Vec::new();
        while let Some(frame) = reader.next_frame()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn place(tenant: u64, namespace: &str) -> (TenantId, Namespace) {
        (TenantId::from_raw(tenant), Namespace::parse(namespace).unwrap())
    }

    /// A few entries in two namespaces.
    fn small() -> Vec<u8> {
        let (tenant, namespace) = place(1, "a");
        let (other, sessions) = place(2, "sessions");
        let stale = Saved { ttl: Some(Duration::ZERO), ..entry("stale") };
        let ever = Saved { ttl: None, stale: Duration::ZERO, tags: Vec::new(), ..entry("ever") };
        written(&[
            (tenant, namespace.clone(), entry("one")),
            (tenant, namespace, stale),
            (other, sessions, ever),
        ])
    }

    #[test]
    fn what_is_written_is_read() {
        for seed in seeds(10) {
            let mut rng = Rng::from_seed(seed);
            let places = [place(1, "a"), place(1, "b"), place(u64::MAX, "a")];
            let count = rng.index(3 * SNAPSHOT_FRAME_ENTRIES);
            let entries: Vec<_> = (0..count)
                .map(|n| {
                    let (tenant, namespace) = places[n * places.len() / count].clone();
                    (tenant, namespace, random(&mut rng, n))
                })
                .collect();
            let bytes = written(&entries);
            let frames = read(&bytes).unwrap_or_else(|error| panic!("seed={seed}: {error}"));
            let counts =
                Counts { frames: frames.len() as u64, entries: count as u64, ..Counts::default() };
            assert_eq!(verify(&mut &bytes[..]).unwrap(), counts, "seed={seed}");
            assert!(flat(frames) == entries, "seed={seed}");
        }
    }

    #[test]
    fn an_empty_cache_and_the_largest_values_have_snapshots() {
        assert_eq!(read(&written(&[])).unwrap(), []);
        let (tenant, namespace) = place(1, "a");
        let large = Saved { value: vec![7; CACHE_VALUE_BYTES_MAX], ..entry("large") };
        let entries: Vec<_> = [entry("first"), large.clone(), large]
            .into_iter()
            .map(|entry| (tenant, namespace.clone(), entry))
            .collect();
        let frames = read(&written(&entries)).unwrap();
        assert_eq!(frames.len(), 2, "one is never split");
        assert!(flat(frames) == entries);
    }

    #[test]
    fn a_snapshot_that_was_cut_anywhere_is_refused() {
        let whole = small();
        assert!(verify(&mut &whole[..]).is_ok());
        for end in 0..whole.len() {
            let cut = verify(&mut &whole[..end]);
            assert!(matches!(cut, Err(Error::Cut { .. })), "{end}: {cut:?}");
        }
    }

    #[test]
    fn a_snapshot_with_one_wrong_bit_is_refused() {
        let whole = small();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let told = verify(&mut &bytes[..]).expect_err("a bit is wrong");
                let right = match told {
                    Error::NotOurs => at < MAGIC.len(),
                    Error::Newer { .. } => at == MAGIC.len(),
                    Error::Damaged { .. } | Error::Cut { .. } => MAGIC.len() <= at,
                    Error::Io(_) | Error::FromTheFuture { .. } => false,
                };
                assert!(right, "byte {at}, bit {bit}: {told}");
            }
        }
    }

    #[test]
    fn frames_that_are_missing_doubled_or_moved_are_noticed() {
        let whole = small();
        let head = HEADER_BYTES + 4;
        let mut frames = Vec::new();
        let mut at = head;
        while at < whole.len() {
            let length = u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
            frames.push(&whole[at..at + 4 + length]);
            at += 4 + length;
        }
        assert_eq!(frames.len(), 3, "two namespaces and the end");
        let (a, b, end) = (frames[0], frames[1], frames[2]);
        let later = header(Timestamp::from_unix_ms(1_763_640_000_124).unwrap());
        let file = |parts: &[&[u8]]| verify(&mut &parts.concat()[..]);
        let start = &whole[..head];
        assert!(file(&[start, a, b, end]).is_ok());
        for parts in [
            &[start, a, end][..],
            &[start, b, end],
            &[start, end],
            &[start, b, a, end],
            &[start, a, a, end],
            &[start, a, b, b, end],
            &[start, a, b, end, end],
            &[start, a, b, end, b"\0"],
            &[&later, a, b, end],
        ] {
            let told = file(parts);
            assert!(matches!(told, Err(Error::Damaged { .. })), "{told:?}");
        }
        // Nobody finished it.
        assert!(matches!(file(&[start, a, b]), Err(Error::Cut { .. })));
    }

    #[test]
    fn what_is_no_snapshot_is_told_from_one_of_a_later_version() {
        let told = |bytes: &[u8]| verify(&mut &*bytes).unwrap_err().to_string();
        assert_eq!(told(b"#!/bin/sh\nexit 0\n"), "this is not a snapshot of the cache");
        let mut newer = MAGIC.to_vec();
        newer.extend_from_slice(b"\x02 anything at all");
        assert_eq!(told(&newer), "the snapshot has version 2, this server knows up to 1");
        assert_eq!(told(b""), "the snapshot is cut off after 0 bytes");
        // A length that nobody has takes no memory.
        let mut long = header(moment());
        let at = long.len() + 4;
        let length = u32::try_from(RECORD_BYTES_MAX).unwrap() + 1;
        long.extend_from_slice(&length.to_le_bytes());
        let expected = format!("the snapshot is damaged at byte {at}: a frame is too long");
        assert_eq!(told(&long), expected);
    }

    #[test]
    fn an_entry_that_breaks_a_rule_is_damage_though_its_checksum_is_right() {
        let broken = [
            Saved { key: String::new(), ..entry("") },
            Saved { key: "k".repeat(1025), ..entry("") },
            Saved { content_type: "a\r\nb".to_owned(), ..entry("k") },
            Saved { tags: vec![String::new()], ..entry("k") },
            Saved { tags: vec!["t".to_owned(); 17], ..entry("k") },
            Saved { ttl: None, ..entry("k") },
            Saved { ttl: Some(Duration::ZERO), stale: Duration::ZERO, ..entry("k") },
            Saved { ttl: Some(Duration::MAX), ..entry("k") },
            Saved { stale: Duration::from_hours(3651 * 24), ..entry("k") },
            Saved { value: vec![0; CACHE_VALUE_BYTES_MAX + 1], ..entry("k") },
        ];
        let (tenant, namespace) = place(1, "a");
        for entry in broken {
            let bytes = written(&[(tenant, namespace.clone(), entry.clone())]);
            let told = verify(&mut &bytes[..]);
            assert!(matches!(told, Err(Error::Damaged { .. })), "{:?}: {told:?}", entry.key);
        }
        let bad = super::FrameV1 { tenant: 1, namespace: "a b".to_owned(), entries: Vec::new() };
        let record = codec::encode(&bad).unwrap();
        let mut bytes = header(moment());
        bytes.extend_from_slice(&u32::try_from(record.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&record);
        assert!(matches!(verify(&mut &bytes[..]), Err(Error::Damaged { .. })));
    }

    /// Made by another program: whoever changes the format changes its version.
    #[test]
    fn a_snapshot_of_version_1_stays_readable() {
        let bytes = include_bytes!("../../fuzz/corpus/snapshots/two_places");
        let entries = flat(read(bytes).unwrap());
        let ((tenant, namespace), (other, sessions)) = (place(1, "a"), place(2, "sessions"));
        let plain = Saved {
            tags: Vec::new(),
            ttl: Some(SECOND),
            stale: Duration::ZERO,
            age: Duration::from_millis(5),
            value: b"v".to_vec(),
            ..entry("k")
        };
        let ever = Saved { key: "l".to_owned(), ttl: None, ..plain.clone() };
        let nine = Duration::from_millis(9);
        let stale =
            Saved { key: "s".to_owned(), ttl: Some(Duration::ZERO), stale: nine, ..plain.clone() };
        let expected = [
            (tenant, namespace.clone(), plain),
            (tenant, namespace, ever),
            (other, sessions, stale),
        ];
        assert_eq!(entries, expected);
        assert_eq!(written(&expected), bytes);
    }

    #[test]
    fn the_time_that_passed_is_taken_off() {
        let after = |seconds| {
            let left = entry("k").after(seconds * SECOND)?;
            Some((left.ttl.unwrap().as_secs(), left.stale.as_secs(), left.age.as_secs()))
        };
        assert_eq!(after(0), Some((10, 5, 1)));
        assert_eq!(after(9), Some((1, 5, 10)));
        assert_eq!(after(10), Some((0, 5, 11)), "stale from its end on");
        assert_eq!(after(14), Some((0, 1, 15)));
        assert_eq!(after(15), None);
        assert_eq!(after(u32::MAX), None);
        let ever = Saved { ttl: None, stale: Duration::ZERO, ..entry("k") };
        let left = ever.clone().after(Duration::MAX).unwrap();
        assert_eq!((left.ttl, left.stale), (None, Duration::ZERO));
        let stale = Saved { ttl: Some(Duration::ZERO), ..entry("k") };
        assert_eq!(stale.clone().after(4 * SECOND).unwrap().stale, SECOND);
        assert_eq!(stale.after(5 * SECOND), None);
        let short = Saved { stale: Duration::ZERO, ..entry("k") };
        assert_eq!(short.after(10 * SECOND), None);
    }

    /// A cache of 64 MiB in which the namespace `sessions` is kept.
    fn cache(seed: u64) -> Cache {
        let settings = Settings {
            enabled: true,
            budget: 64 << 20,
            kept_budget: 1 << 20,
            caps: BTreeMap::new(),
        };
        let kept = BTreeSet::from([Namespace::parse("sessions").unwrap()]);
        Cache::new(seed, Mono::from_ns(0), settings, kept)
    }

    fn at(wall_ms: i64, mono_ms: u64) -> Now {
        let wall = Timestamp::from_unix_ms(1_763_640_000_000 + wall_ms).unwrap();
        Now { wall, mono: Mono::from_ns(mono_ms * 1_000_000) }
    }

    /// Fills a cache with random entries in ordinary namespaces of two tenants.
    fn fill(cache: &Cache, rng: &mut Rng, now: Now) -> Vec<(TenantId, Namespace, Saved)> {
        let places = [place(1, "a"), place(1, "b"), place(2, "a"), place(3, "gone")];
        let mut entries = Vec::new();
        for n in 0..rng.index(600) {
            let (tenant, namespace) = places[rng.index(places.len())].clone();
            let ttl = rng.one_in(4).then(|| Duration::from_millis(2 + rng.below(100_000)));
            let stale = Duration::from_millis(if ttl.is_none() { 0 } else { rng.below(20_000) });
            let entry = Saved { ttl, stale, age: Duration::ZERO, ..random(rng, n) };
            let space = cache.space_or_new(tenant, &namespace, None).unwrap();
            put(&space, now, &entry).unwrap();
            entries.push((tenant, namespace, entry));
        }
        entries
    }

    #[test]
    fn after_a_restart_everything_is_there_with_the_time_that_is_left() {
        for seed in seeds(20) {
            let mut rng = Rng::from_seed(seed);
            let old = cache(seed);
            let entries = fill(&old, &mut rng, at(0, 5_000));
            let mut bytes = Vec::new();
            save(&old, at(30_000, 35_000), &mut bytes).unwrap();

            // The clock of the new process counts from elsewhere. Tenant 3 is gone.
            let new = cache(seed + 1);
            let pause = rng.below(60_000);
            let now = at(30_000 + pause.cast_signed(), 100);
            let tenants = |tenant: TenantId| (tenant.raw() != 3).then_some(None);
            let counts = load(&new, now, &mut &bytes[..], &tenants).unwrap();
            // What begins as a stale one has a ttl of a millisecond.
            let later = Now { mono: now.mono.plus(Duration::from_millis(1)), ..now };
            let passed = Duration::from_millis(30_000 + pause);
            let mut loaded = 0;
            for (tenant, namespace, entry) in entries {
                let space = new.space(tenant, namespace.as_str());
                let found =
                    space.and_then(|space| space.peek(later.mono, Key::parse(&entry.key).unwrap()));
                let told = format!("seed={seed} pause={pause} {} {:?}", entry.key, entry.ttl);
                let over = passed + Duration::from_millis(1);
                let Some(left) = entry.clone().after(over).filter(|_| tenant.raw() != 3) else {
                    // It may have ended in this very millisecond.
                    assert!(found.is_none(), "{told}");
                    continue;
                };
                let found = found.unwrap_or_else(|| panic!("{told}"));
                loaded += 1;
                assert_eq!(found.bytes(), entry.value, "{told}");
                assert_eq!(found.content_type().as_str(), entry.content_type, "{told}");
                assert_eq!(
                    (found.ttl(), found.stale),
                    (left.ttl, left.ttl == Some(Duration::ZERO)),
                    "{told}"
                );
            }
            assert!(loaded <= counts.loaded, "seed={seed} {counts:?}");
            let all = counts.loaded + counts.ended + counts.refused;
            assert_eq!(all, counts.entries, "seed={seed} {counts:?}");
            assert!(new.all_spaces().iter().all(|space| space.tenant().raw() != 3), "seed={seed}");
        }
    }

    #[test]
    fn a_stale_entry_stays_stale_and_ends_when_it_should() {
        let (tenant, namespace) = place(1, "a");
        let stale = Saved { ttl: Some(Duration::ZERO), ..entry("k") };
        let bytes = written(&[(tenant, namespace, stale)]);
        let cache = cache(1);
        let now = Now { wall: moment(), mono: Mono::from_ns(0) };
        load(&cache, now, &mut &bytes[..], &|_| Some(None)).unwrap();
        let space = cache.space(tenant, "a").unwrap();
        let found = |ms| {
            let found = space.peek(at(0, ms).mono, Key::parse("k").unwrap())?;
            Some(found.stale)
        };
        assert_eq!(found(1), Some(true));
        assert_eq!(found(4_999), Some(true));
        assert_eq!(found(5_000), None);
    }

    #[test]
    fn kept_namespaces_are_not_part_of_it() {
        let old = cache(1);
        let (tenant, sessions) = place(1, "sessions");
        let (_, pages) = place(1, "pages");
        let bytes = written(&[(tenant, sessions, entry("s")), (tenant, pages.clone(), entry("p"))]);
        // Kept now, though it was not when it was written.
        let now = Now { wall: moment(), mono: Mono::from_ns(0) };
        let counts = load(&old, now, &mut &bytes[..], &|_| Some(None)).unwrap();
        assert_eq!((counts.loaded, counts.refused), (1, 1));
        let mut again = Vec::new();
        assert_eq!(save(&old, now, &mut again).unwrap().entries, 1);
        assert_eq!(read(&again).unwrap()[0].namespace, pages);
    }

    #[test]
    fn tags_are_there_again() {
        let (tenant, namespace) = place(1, "a");
        let bytes = written(&[(tenant, namespace, entry("k"))]);
        let cache = cache(1);
        let now = Now { wall: moment(), mono: Mono::from_ns(0) };
        load(&cache, now, &mut &bytes[..], &|_| Some(None)).unwrap();
        let space = cache.space(tenant, "a").unwrap();
        let tag = [Tag::parse("a").unwrap()];
        let forgotten = space.forget(now.mono, &Forget::Tags(&tag), false);
        assert_eq!(forgotten, 1);
    }

    #[test]
    fn when_the_clock_went_back_nothing_is_used() {
        let (tenant, namespace) = place(1, "a");
        let bytes = written(&[(tenant, namespace, entry("k"))]);
        let told = |ago| {
            let now = Now { wall: moment().minus(ago), mono: Mono::from_ns(0) };
            load(&cache(1), now, &mut &bytes[..], &|_| Some(None))
        };
        assert!(matches!(told(6 * SECOND), Err(Error::FromTheFuture { .. })));
        // A clock that is being corrected goes back a little.
        assert_eq!(told(SECOND).unwrap().loaded, 1);
    }
}
