//! How much a tenant may have.
//!
//! A tier of the configuration sets some quotas, a tenant may override some of them, and what neither
//! sets is unlimited. On the wire and in files an allowance is a whole number, and -1 is unlimited.

use std::fmt;

/// One thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quota {
    /// Bytes in the cache.
    CacheBytes = 0,
    /// Queues.
    Queues = 1,
    /// Jobs that wait.
    JobsWaiting = 2,
    /// Jobs pushed in a day of UTC.
    JobsPerDay = 3,
    /// Series.
    Series = 4,
    /// Monitors.
    Monitors = 5,
    /// Tokens.
    Tokens = 6,
}

impl Quota {
    /// Every quota.
    pub const ALL: [Quota; 7] = [
        Quota::CacheBytes,
        Quota::Queues,
        Quota::JobsWaiting,
        Quota::JobsPerDay,
        Quota::Series,
        Quota::Monitors,
        Quota::Tokens,
    ];

    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Quota::CacheBytes => "cache_bytes",
            Quota::Queues => "queues",
            Quota::JobsWaiting => "jobs_waiting",
            Quota::JobsPerDay => "jobs_per_day",
            Quota::Series => "series",
            Quota::Monitors => "monitors",
            Quota::Tokens => "tokens",
        }
    }

    /// Reads what [`Quota::as_str`] writes.
    pub fn parse(text: &str) -> Option<Quota> {
        Quota::ALL.into_iter().find(|quota| quota.as_str() == text)
    }

    /// Every spelling, for messages.
    pub fn list() -> String {
        Quota::ALL.map(Quota::as_str).join(", ")
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// As much as there is.
    Unlimited,
    /// So much, and no more.
    AtMost(u64),
}

/// The largest allowance that is a number: what JSON carries without loss.
pub const ALLOWANCE_MAX: i64 = (1 << 53) - 1;

/// Why a number is no allowance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a quota is a whole number from 0 to {ALLOWANCE_MAX}, or -1 for unlimited; not {0}")]
pub struct BadAllowance(pub i64);

impl BadAllowance {
    /// The stable code.
    pub const CODE: &'static str = "invalid_quotas";
}

impl Allowance {
    /// Reads the number on the wire.
    pub fn from_number(number: i64) -> Result<Allowance, BadAllowance> {
        match number {
            -1 => Ok(Allowance::Unlimited),
            0..=ALLOWANCE_MAX => Ok(Allowance::AtMost(number.cast_unsigned())),
            _ => Err(BadAllowance(number)),
        }
    }

    /// The number on the wire.
    pub fn number(self) -> i64 {
        match self {
            Allowance::Unlimited => -1,
            Allowance::AtMost(number) => number.cast_signed(),
        }
    }

    /// Whether there may be one more when there are `used`.
    pub fn has_room(self, used: u64) -> bool {
        match self {
            Allowance::Unlimited => true,
            Allowance::AtMost(most) => used < most,
        }
    }
}

/// Some quotas, set or left open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas([Option<Allowance>; Quota::ALL.len()]);

impl Quotas {
    /// What is set for `quota`.
    pub fn get(&self, quota: Quota) -> Option<Allowance> {
        self.0[quota as usize]
    }

    /// Sets `quota`, or leaves it open.
    pub fn set(&mut self, quota: Quota, allowance: Option<Allowance>) {
        self.0[quota as usize] = allowance;
    }

    /// Those that are set, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Quota, Allowance)> {
        Quota::ALL.into_iter().filter_map(|quota| Some((quota, self.get(quota)?)))
    }

    /// What counts: these, and below them those of the tier.
    pub fn effective(&self, quota: Quota, tier: &Quotas) -> Allowance {
        self.get(quota).or_else(|| tier.get(quota)).unwrap_or(Allowance::Unlimited)
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowance, BadAllowance, Quota, Quotas};

    #[test]
    fn a_tenants_own_quota_goes_before_that_of_its_tier() {
        let (mut own, mut tier) = (Quotas::default(), Quotas::default());
        assert_eq!(own.effective(Quota::Tokens, &tier), Allowance::Unlimited);
        tier.set(Quota::Tokens, Some(Allowance::AtMost(5)));
        assert_eq!(own.effective(Quota::Tokens, &tier), Allowance::AtMost(5));
        own.set(Quota::Tokens, Some(Allowance::Unlimited));
        assert_eq!(own.effective(Quota::Tokens, &tier), Allowance::Unlimited);
        assert_eq!(own.iter().collect::<Vec<_>>(), [(Quota::Tokens, Allowance::Unlimited)]);
    }

    #[test]
    fn an_allowance_is_a_number_and_minus_one_is_unlimited() {
        assert_eq!(Allowance::from_number(-1), Ok(Allowance::Unlimited));
        assert_eq!(Allowance::from_number(0), Ok(Allowance::AtMost(0)));
        assert_eq!(Allowance::from_number(-2), Err(BadAllowance(-2)));
        assert_eq!(Allowance::from_number(1 << 53), Err(BadAllowance(1 << 53)));
        assert!(Allowance::AtMost(1).has_room(0) && !Allowance::AtMost(1).has_room(1));
        assert_eq!(Quota::ALL.map(|q| Quota::parse(q.as_str())), Quota::ALL.map(Some));
        assert!(Quota::ALL.iter().enumerate().all(|(n, q)| *q as usize == n));
    }
}
