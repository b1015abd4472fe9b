//! What to do about the number of workers, minute by minute, so that it does not flap.
//!
//! ```text
//!   up    what was needed in each of the last three minutes is more than there are       to the most of those three
//!   down  the most that was needed in the last ten minutes, and something to spare,      to that most, with something
//!         is less than there are                                                         to spare
//!   keep  everything between
//! ```
//!
//! What is needed is measured, so that it goes up and down by itself, about as much as its square root; that much is to
//! spare, at least one. A need that is now three and now four gives the same advice all the time. Those who did what was
//! advised are not told the opposite within ten minutes: after an "up", the larger need is still remembered; after a
//! "down" there is something to spare, and only if much more comes it is "up" again.

/// So many minutes have to agree that more are needed.
const UP_MINUTES: usize = 3;
/// So many that fewer are.
const DOWN_MINUTES: usize = 10;
/// So many are remembered: those of an "up" for ten minutes after it.
const MINUTES: usize = UP_MINUTES + DOWN_MINUTES;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Not watched for long enough, or nothing was measured.
    Unknown,
    /// Nothing.
    Keep,
    /// Have more: so many.
    Up(u32),
    /// Have fewer: so many.
    Down(u32),
}

/// What was needed lately, minute by minute, so that advice does not flap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advisor {
    /// The last minutes, newest first; none where it could not be said.
    needed: [Option<u32>; MINUTES],
    /// Those there were in the last minute.
    workers: u32,
}

impl Advisor {
    /// Notes what is needed now (none: cannot be said), with so many workers there; called once a minute.
    pub fn note(&mut self, needed: Option<u32>, workers: u32) {
        self.needed.rotate_right(1);
        self.needed[0] = needed;
        self.workers = workers;
    }

    /// What to do.
    pub fn advice(&self) -> Advice {
        let Some((least, most)) = range(&self.needed[..UP_MINUTES]) else {
            return Advice::Unknown;
        };
        if self.workers < least {
            return Advice::Up(most);
        }
        if self.needed[..DOWN_MINUTES].iter().any(Option::is_none) {
            return Advice::Keep;
        }
        let most = self.needed.iter().copied().flatten().max().unwrap_or(most);
        let enough = with_spare(most);
        if enough < self.workers { Advice::Down(enough) } else { Advice::Keep }
    }
}

/// The least and the most of minutes, if all are known.
fn range(minutes: &[Option<u32>]) -> Option<(u32, u32)> {
    let known: Option<Vec<u32>> = minutes.iter().copied().collect();
    let known = known?;
    Some((*known.iter().min()?, *known.iter().max()?))
}

/// So many workers, and something to spare.
pub(super) fn with_spare(needed: u32) -> u32 {
    needed.saturating_add(needed.saturating_sub(1).isqrt().saturating_add(1))
}
