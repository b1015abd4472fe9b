//! How the C library is told to give memory.
//!
//! Left to itself, glibc learns from large blocks that are freed: from then on it takes blocks of that size from
//! its heaps too, where the holes they leave behind fit nothing else. A cache that is full of values of mixed
//! sizes then takes up to half as much again as it was given. With a fixed size from which blocks are mapped one
//! by one, and with few heaps, it stays within a twentieth (`cargo bench --bench cache -- fill`).
//!
//! It reads its settings when a program starts, so the server starts itself once more with them; the unit of
//! the package brings them along and saves that. Other C libraries take no notice.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Variables of glibc: blocks from 128 KiB on are mapped one by one; threads share two heaps.
pub const SETTINGS: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_ARENA_MAX", "2")];
/// Somebody has settings of their own.
const OWN: &str = "GLIBC_TUNABLES";

/// Starts this program once more in its place, with the settings, unless it has them. When that is not
/// possible it goes on as it is: it is a matter of memory, not of safety.
#[expect(clippy::disallowed_methods, reason = "these are the C library's settings, not ours")]
pub(super) fn start_again_with_settings() {
    let mut names = SETTINGS.iter().map(|(name, _)| *name).chain([OWN]);
    if names.any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = std::env::args_os();
    let (Some(called), Ok(program)) = (arguments.next(), std::env::current_exe()) else {
        return;
    };
    // Returns only if it fails.
    drop(Command::new(program).arg0(called).args(arguments).envs(SETTINGS).exec());
}
