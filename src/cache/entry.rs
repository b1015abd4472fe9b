//! What is put into the cache and what comes out of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::slot::{NEVER, mix, seconds};
use crate::base::limits::{
    CACHE_KEY_BYTES_MAX, CACHE_TAG_BYTES_MAX, CACHE_TTL_MAX, CONTENT_TYPE_BYTES_MAX,
};

/// A key: 1 to 1,024 bytes of UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'k>(&'k str);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has 1 to {CACHE_KEY_BYTES_MAX} bytes; this one has {0}")]
pub struct BadKey(pub usize);

impl<'k> Key<'k> {
    /// Checks `text`.
    pub fn parse(text: &'k str) -> Result<Key<'k>, BadKey> {
        let allowed = (1..=CACHE_KEY_BYTES_MAX).contains(&text.len());
        if allowed { Ok(Key(text)) } else { Err(BadKey(text.len())) }
    }

    /// The text.
    pub fn as_str(self) -> &'k str {
        self.0
    }

    /// Its bytes.
    pub fn as_bytes(self) -> &'k [u8] {
        self.0.as_bytes()
    }
}

/// A tag: 1 to 128 bytes of UTF-8 without control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag<'t>(&'t str);

/// Why a text is no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tag has 1 to {CACHE_TAG_BYTES_MAX} bytes and no control characters")]
pub struct BadTag;

impl<'t> Tag<'t> {
    /// Checks `text`.
    pub fn parse(text: &'t str) -> Result<Tag<'t>, BadTag> {
        let length = (1..=CACHE_TAG_BYTES_MAX).contains(&text.len());
        if length && !text.chars().any(char::is_control) { Ok(Tag(text)) } else { Err(BadTag) }
    }

    /// The text.
    pub fn as_str(self) -> &'t str {
        self.0
    }
}

/// How long an entry is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Fresh for so long; for ever without.
    ttl: Option<Duration>,
    /// After that, served as stale for so long.
    stale: Duration,
}

/// Why there is no such life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLife {
    /// Nothing can be served for no time.
    #[error("a ttl is at least a millisecond; to remove a key, delete it")]
    Zero,
    /// Beyond the bound.
    #[error("a ttl is at most {}d", CACHE_TTL_MAX.as_secs() / 86_400)]
    TooLong,
    /// Beyond the bound.
    #[error("stale is at most {}d", CACHE_TTL_MAX.as_secs() / 86_400)]
    StaleTooLong,
    /// What never ends has no time after its end.
    #[error("stale counts after the ttl; without a ttl there is none")]
    StaleWithoutTtl,
}

impl Life {
    /// Fresh for ever.
    pub const FOR_EVER: Life = Life { ttl: None, stale: Duration::ZERO };

    /// Fresh for `ttl`, then stale for `stale`; parts of a millisecond are dropped.
    pub fn new(ttl: Option<Duration>, stale: Duration) -> Result<Life, BadLife> {
        let whole = |time: Duration| {
            Duration::from_secs(time.as_secs()) + Duration::from_millis(time.subsec_millis().into())
        };
        let (ttl, stale) = (ttl.map(whole), whole(stale));
        match ttl {
            Some(ttl) if ttl.is_zero() => Err(BadLife::Zero),
            None if !stale.is_zero() => Err(BadLife::StaleWithoutTtl),
            _ if CACHE_TTL_MAX < ttl.unwrap_or_default() => Err(BadLife::TooLong),
            _ if CACHE_TTL_MAX < stale => Err(BadLife::StaleTooLong),
            _ => Ok(Life { ttl, stale }),
        }
    }

    /// Fresh for so long; for ever without.
    pub fn ttl(self) -> Option<Duration> {
        self.ttl
    }

    /// Served as stale for so long after that.
    pub fn stale(self) -> Duration {
        self.stale
    }
}

/// Proof that its holder may compute the value of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken(u64);

impl LeaseToken {
    /// The token with these bits; nobody may be able to guess them.
    pub fn from_raw(raw: u64) -> LeaseToken {
        LeaseToken(raw)
    }

    /// Reads the 16 hexadecimal digits that `Display` writes, and nothing else.
    pub fn parse(text: &str) -> Option<LeaseToken> {
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let shaped = text.len() == 16 && text.bytes().all(digits);
        u64::from_str_radix(text, 16).ok().filter(|_| shaped).map(LeaseToken)
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Never shows the bits.
impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseToken(..)")
    }
}

/// Under which condition something is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    #[default]
    Always,
    /// Only when nothing is there.
    Absent,
    /// Only when something is there.
    Present,
}

/// The type of a value's bytes, as it came: visible ASCII and spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType<'c>(&'c str);

/// What has no type.
pub const OCTETS: &str = "application/octet-stream";

impl<'c> ContentType<'c> {
    /// The type of bytes about which nothing was said.
    pub const OCTETS: ContentType<'static> = ContentType(OCTETS);
    /// Text that we write.
    pub const TEXT: ContentType<'static> = ContentType("text/plain; charset=utf-8");

    /// Checks that `text` can be a header's value again.
    pub fn parse(text: &'c str) -> Option<ContentType<'c>> {
        let length = (1..=CONTENT_TYPE_BYTES_MAX).contains(&text.len());
        let visible = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        (length && visible).then_some(ContentType(text))
    }

    /// The text.
    pub fn as_str(self) -> &'c str {
        self.0
    }
}

/// What is to be put.
#[derive(Clone, Copy, Debug)]
pub struct Put<'p> {
    /// Under which key.
    pub key: Key<'p>,
    /// The bytes.
    pub value: &'p [u8],
    /// Their type.
    pub content_type: ContentType<'p>,
    /// How long they are served.
    pub life: Life,
    /// What they can be forgotten by; each once.
    pub tags: &'p [Tag<'p>],
    /// Under which condition.
    pub condition: Condition,
    /// With which lease.
    pub lease: Option<LeaseToken>,
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// There was nothing.
    New,
    /// There was something.
    Replaced,
}

/// Which value of a key it is: no two values of one key have the same, whatever happened between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

impl Version {
    /// What the outside may know of it: as unique, and nobody reads the traffic of a shop from it.
    pub fn etag(self) -> u64 {
        mix(self.0)
    }
}

/// The bytes of a value, shared with the cache: they stay as they are while somebody has them.
#[derive(Clone)]
pub struct Blob {
    pub(super) block: Arc<[u8]>,
    /// Where the content type begins: behind the key.
    pub(super) type_at: u32,
    /// Where the value begins.
    pub(super) value_at: u32,
}

impl Blob {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.block[self.value_at as usize..]
    }

    /// What they are; empty for [`OCTETS`].
    pub(super) fn type_bytes(&self) -> &[u8] {
        &self.block[self.type_at as usize..self.value_at as usize]
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.bytes().len())
    }
}

/// A value. Later there will be lists, sets and hashes beside the bytes.
#[derive(Clone, Debug)]
pub enum Value {
    /// Bytes of some type.
    Bytes(Blob),
}

/// What is served.
#[derive(Clone, Debug)]
pub struct Found {
    /// The value.
    pub value: Value,
    /// Which value it is.
    pub version: Version,
    /// Whether its ttl is over.
    pub stale: bool,
    /// When it was found, until when it is fresh ([`NEVER`]: for ever), and since when it is there, as the slot
    /// has it. Few who read want to know, and it is worked out for them.
    pub(super) now: u64,
    pub(super) fresh: u64,
    pub(super) stored_s: i32,
}

impl Found {
    /// For how long it is fresh; zero when it is stale, `None` for ever.
    pub fn ttl(&self) -> Option<Duration> {
        (self.fresh != NEVER).then(|| Duration::from_millis(self.fresh.saturating_sub(self.now)))
    }

    /// Since when it is there, to the second.
    pub fn age(&self) -> Duration {
        let seconds = seconds(self.now).saturating_sub(self.stored_s);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let Value::Bytes(blob) = &self.value;
        blob.bytes()
    }

    /// Their type.
    pub fn content_type(&self) -> ContentType<'_> {
        let Value::Bytes(blob) = &self.value;
        let text = std::str::from_utf8(blob.type_bytes()).unwrap_or("");
        if text.is_empty() { ContentType::OCTETS } else { ContentType(text) }
    }
}

/// What comes of asking for a key with a lease.
#[derive(Debug)]
pub enum Asked {
    /// It is there. In its stale window one asker also gets the lease.
    Hit(Found, Option<LeaseToken>),
    /// It is not there; the asker is the one to compute it.
    Leased(LeaseToken),
    /// It is not there, and somebody computes it. The waker, if one was given, is called when it is worth
    /// asking again.
    Busy {
        /// When the lease ends at the latest.
        retry_after: Duration,
    },
}

/// What is to be forgotten.
#[derive(Clone, Copy, Debug)]
pub enum Forget<'f> {
    /// These keys.
    Keys(&'f [Key<'f>]),
    /// What has any of these tags.
    Tags(&'f [Tag<'f>]),
    /// What begins with this.
    Prefix(&'f str),
    /// What matches this pattern.
    Pattern(&'f super::glob::Glob),
    /// Everything.
    All,
}

/// What a namespace has seen since the start, and holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries that are served.
    pub entries: u64,
    /// What they cost.
    pub bytes: u64,
    /// Values served: fresh, stale, or waited for.
    pub hits: u64,
    /// Keys that were asked for and not served.
    pub misses: u64,
    /// Hits that were stale.
    pub stale_served: u64,
    /// Hits that waited for somebody else's computing.
    pub coalesced: u64,
    /// Entries that gave way to others.
    pub evicted: u64,
    /// Entries that came to their end.
    pub expired: u64,
    /// Leases given.
    pub leases: u64,
}
