//! Wrong tokens cost patience, right ones never do.
//!
//! Each peer has a bucket of attempts. A wrong token takes one; an empty bucket means that wrong tokens are
//! answered "come back later" without a look at what they are. A right token is let in before the bucket is
//! asked, so nobody who belongs here is hurt by somebody who does not, also behind one proxy or one NAT.
//!
//! **Bounds**: [`PEERS_MAX`] buckets. When all are in use, further peers share one: that is stricter for
//! strangers and no different for anybody else. A bucket that is full again is forgotten.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::time::Mono;

/// Wrong tokens that a peer may show at once.
pub const ATTEMPTS_MAX: u64 = 60;
/// It gets one back after this time.
pub const ATTEMPT_EVERY: Duration = Duration::from_secs(1);
/// Peers that are told apart.
pub const PEERS_MAX: usize = 4096;

/// Where somebody comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The Unix socket.
    Local,
    /// An IPv4 address.
    V4([u8; 4]),
    /// The part of an IPv6 address that a provider gives to one customer.
    V6([u8; 8]),
    /// All those for whom there is no bucket left.
    Others,
}

impl Peer {
    /// The peer with this address.
    pub fn from_ip(address: IpAddr) -> Peer {
        match address.to_canonical() {
            IpAddr::V4(address) => Peer::V4(address.octets()),
            IpAddr::V6(address) => {
                let mut network = [0; 8];
                network.copy_from_slice(&address.octets()[..8]);
                Peer::V6(network)
            }
        }
    }
}

/// What was refused so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Wrong tokens that were looked at.
    pub refused: u64,
    /// Wrong tokens that came too often.
    pub throttled: u64,
}

/// The buckets: for each peer, the moment at which its bucket is full again.
#[derive(Default)]
pub(super) struct Throttle {
    full_at: Mutex<BTreeMap<Peer, Mono>>,
    refused: AtomicU64,
    throttled: AtomicU64,
}

impl Throttle {
    /// Notes a wrong token. How long to stay away, if there were too many.
    pub(super) fn refused(&self, peer: Peer, now: Mono) -> Option<Duration> {
        let wait = self.take(peer, now);
        let counter = if wait.is_some() { &self.throttled } else { &self.refused };
        counter.fetch_add(1, Relaxed);
        wait
    }

    fn take(&self, peer: Peer, now: Mono) -> Option<Duration> {
        let mut buckets = self.full_at.lock();
        if PEERS_MAX <= buckets.len() && !buckets.contains_key(&peer) {
            buckets.retain(|_, full_at| now < *full_at);
        }
        let crowded = PEERS_MAX <= buckets.len() && !buckets.contains_key(&peer);
        let full_at = buckets.entry(if crowded { Peer::Others } else { peer }).or_insert(now);
        let after = (*full_at).max(now).plus(ATTEMPT_EVERY);
        let whole = ATTEMPT_EVERY * u32::try_from(ATTEMPTS_MAX).unwrap_or(u32::MAX);
        let missing = after.since(now).saturating_sub(whole);
        if missing.is_zero() {
            *full_at = after;
            None
        } else {
            Some(missing)
        }
    }

    pub(super) fn figures(&self) -> Figures {
        Figures { refused: self.refused.load(Relaxed), throttled: self.throttled.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS_MAX, PEERS_MAX, Peer, Throttle};
    use crate::base::time::Mono;
    use std::time::Duration;

    fn at(seconds: u64) -> Mono {
        Mono::from_ns(seconds * 1_000_000_000)
    }

    #[test]
    fn a_peer_that_guesses_on_and_on_is_told_to_come_back_later() {
        let throttle = Throttle::default();
        let peer = Peer::from_ip("203.0.113.9".parse().unwrap());
        for _ in 0..ATTEMPTS_MAX {
            assert_eq!(throttle.refused(peer, at(10)), None);
        }
        assert_eq!(throttle.refused(peer, at(10)), Some(Duration::from_secs(1)));
        assert_eq!(throttle.refused(peer, at(11)), None, "one came back");
        assert!(throttle.refused(peer, at(11)).is_some());
        let other = Peer::from_ip("203.0.113.10".parse().unwrap());
        assert_eq!(throttle.refused(other, at(11)), None, "others have a bucket of their own");
        assert_eq!(throttle.figures().throttled, 2);
    }

    #[test]
    fn one_customer_of_a_provider_is_one_peer() {
        let peer = |text: &str| Peer::from_ip(text.parse().unwrap());
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::9"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
    }

    #[test]
    fn the_buckets_are_bounded_and_strangers_beyond_share_one() {
        let throttle = Throttle::default();
        let peer = |n: usize| Peer::V4(u32::try_from(n).unwrap().to_be_bytes());
        for n in 0..PEERS_MAX * 2 {
            throttle.refused(peer(n), at(1));
        }
        assert!(throttle.full_at.lock().len() <= PEERS_MAX + 1);
        assert!(throttle.refused(peer(PEERS_MAX * 3), at(1)).is_some(), "the shared one is empty");
        assert_eq!(throttle.refused(peer(PEERS_MAX * 3), at(100)), None, "old ones are forgotten");
    }
}
