//! An entry in memory, and what it costs.
//!
//! Key, content type and value stand in one block of memory, in this order, so that an entry is one
//! allocation and whoever reads it shares it. What few entries have (a stale window, tags, a version that
//! was given by the disk) stands beside it, in [`super::tags`].

use std::sync::Arc;

use super::entry::{Blob, ContentType, Key, Value};
use super::policy::Heat;
use super::wheel::Link;

/// No extra.
pub(super) const NONE: u32 = u32::MAX;
/// The end of what has none.
pub(super) const NEVER: u64 = u64::MAX;

/// The flag of what is new to the policy.
const WINDOW: u8 = 1;

/// What an entry holds. Later there will be more cases, as in [`Value`].
pub(super) enum Held {
    /// Key, content type and bytes.
    Bytes(Arc<[u8]>),
}

/// An entry.
pub(super) struct Slot {
    pub(super) held: Held,
    /// Fresh before that, in milliseconds since the base of the cache.
    pub(super) fresh: u64,
    pub(super) link: Link,
    /// The lower half of the key's hash; the upper half chose the shard.
    pub(super) hash: u32,
    /// Its extra, or `NONE`.
    pub(super) extra: u32,
    /// Which one of the shard's writes it was.
    pub(super) version: u32,
    /// Since when it is there, in seconds since the base; before it for what was kept on disk.
    pub(super) stored_s: i32,
    pub(super) key_bytes: u16,
    pub(super) type_bytes: u8,
    /// The policy's.
    pub(super) heat: u8,
    /// The policy's.
    pub(super) epoch: u8,
    /// The policy's.
    pub(super) flags: u8,
}

// A table of a million entries should not grow by an oversight.
const _: () = assert!(size_of::<Slot>() <= 56);

impl Slot {
    fn block(&self) -> &Arc<[u8]> {
        let Held::Bytes(block) = &self.held;
        block
    }

    /// Always. Asks for the head of the block, which whoever serves it writes to, while its key, which may
    /// stand in the next line of memory, is compared: both are waited for at once.
    #[inline]
    pub(super) fn reached(&self) -> bool {
        std::hint::black_box(Arc::strong_count(self.block())) != 0
    }

    /// Its key.
    pub(super) fn key(&self) -> &[u8] {
        &self.block()[..usize::from(self.key_bytes)]
    }

    /// Its key as text.
    pub(super) fn key_text(&self) -> &str {
        std::str::from_utf8(self.key()).expect("BUG: a key was a text when it came")
    }

    /// Its bytes, without key and content type.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.block()[usize::from(self.key_bytes) + usize::from(self.type_bytes)..]
    }

    /// Its content type, as it stands in the block.
    pub(super) fn type_text(&self) -> &[u8] {
        let from = usize::from(self.key_bytes);
        &self.block()[from..from + usize::from(self.type_bytes)]
    }

    /// The value, shared.
    pub(super) fn value(&self) -> Value {
        let type_at = u32::from(self.key_bytes);
        let value_at = type_at + u32::from(self.type_bytes);
        Value::Bytes(Blob { block: Arc::clone(self.block()), type_at, value_at })
    }

    /// How warm it is.
    pub(super) fn heat(&self) -> Heat {
        Heat { hits: self.heat, epoch: self.epoch, window: self.flags & WINDOW != 0 }
    }

    /// It is so warm now.
    pub(super) fn set_heat(&mut self, heat: Heat) {
        (self.heat, self.epoch) = (heat.hits, heat.epoch);
        self.flags = if heat.window { WINDOW } else { 0 };
    }

    /// What it costs without its extra.
    pub(super) fn cost(&self) -> u64 {
        SLOT_COST + block_cost(self.block().len())
    }
}

/// A block with these parts, in one allocation. The type of plain bytes takes no room.
pub(super) fn block(key: Key<'_>, content_type: &[u8], value: &[u8]) -> Arc<[u8]> {
    let (key, length) = (key.as_bytes(), key.as_bytes().len() + content_type.len() + value.len());
    let mut block: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
    let bytes = Arc::get_mut(&mut block).expect("BUG: nobody else has what was just made");
    let (first, rest) = bytes.split_at_mut(key.len());
    let (second, third) = rest.split_at_mut(content_type.len());
    first.copy_from_slice(key);
    second.copy_from_slice(content_type);
    third.copy_from_slice(value);
    block
}

/// How a content type stands in a block.
pub(super) fn stored_type(content_type: ContentType<'_>) -> &[u8] {
    if content_type == ContentType::OCTETS { b"" } else { content_type.as_str().as_bytes() }
}

/// The slot itself, the room that its vector grows ahead, its place in the table, and the policy's notes.
pub(super) const SLOT_COST: u64 = 56 + 4 + 9 + 6;
/// An extra.
pub(super) const EXTRA_COST: u64 = 34;
/// A tag of an entry.
pub(super) const MEMBER_COST: u64 = 26;

/// A block of so many bytes: counts of the Arc and head of the allocator before it, rounded as that rounds.
pub(super) const fn block_cost(bytes: usize) -> u64 {
    allocated(bytes + 16)
}

/// The record and the list of a tag with a name of so many bytes.
pub(super) const fn list_cost(name_bytes: usize) -> u64 {
    40 + 28 + 9 + allocated(name_bytes)
}

const fn allocated(bytes: usize) -> u64 {
    let whole = (bytes as u64 + 8).next_multiple_of(16);
    // What is large is mapped in pages.
    if whole < 128 << 10 {
        if whole < 32 { 32 } else { whole }
    } else {
        whole.next_multiple_of(4096)
    }
}

/// Whole seconds, as slots keep them.
pub(super) fn seconds(ms: u64) -> i32 {
    i32::try_from(ms / 1000).unwrap_or(i32::MAX)
}

/// All bits of a table's hash from those that a slot keeps.
pub(super) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The lower half of a hash.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
pub(super) fn lower_half(hash: u64) -> u32 {
    hash as u32
}

/// A one-to-one mixing of 64 bits.
pub(super) fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
