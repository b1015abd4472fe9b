//! What a token may do.
//!
//! A scope has one spelling, a stored set has one number per scope for ever ([`Scope::bit`]). `admin`
//! includes every other scope, `queue:admin` includes `queue:read`.

use std::fmt;

/// One thing that a token may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Scope {
    /// Read cache entries.
    CacheRead = 0,
    /// Every other call on the cache, and locks.
    CacheWrite = 1,
    /// Push jobs; look at and cancel a job by id.
    QueuePush = 2,
    /// Lease and finish jobs.
    QueueWork = 3,
    /// Look at queues, jobs, workers, failures and schedules.
    QueueRead = 4,
    /// Change them.
    QueueAdmin = 5,
    /// Query series, trends and figures.
    SeriesRead = 6,
    /// Write samples, report slow work.
    SeriesWrite = 7,
    /// Look at monitors, alerts and incidents.
    MonitorRead = 8,
    /// Change them.
    MonitorWrite = 9,
    /// Everything, for every tenant. Tokens of tenant `default` only.
    Admin = 10,
}

/// Why a text is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scope; there are: {list}", list = Scope::list())]
pub struct BadScope(pub String);

impl BadScope {
    /// The stable code.
    pub const CODE: &'static str = "invalid_scopes";
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 11] = [
        Scope::CacheRead,
        Scope::CacheWrite,
        Scope::QueuePush,
        Scope::QueueWork,
        Scope::QueueRead,
        Scope::QueueAdmin,
        Scope::SeriesRead,
        Scope::SeriesWrite,
        Scope::MonitorRead,
        Scope::MonitorWrite,
        Scope::Admin,
    ];

    /// How it is spelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::CacheRead => "cache:read",
            Scope::CacheWrite => "cache:write",
            Scope::QueuePush => "queue:push",
            Scope::QueueWork => "queue:work",
            Scope::QueueRead => "queue:read",
            Scope::QueueAdmin => "queue:admin",
            Scope::SeriesRead => "series:read",
            Scope::SeriesWrite => "series:write",
            Scope::MonitorRead => "monitor:read",
            Scope::MonitorWrite => "monitor:write",
            Scope::Admin => "admin",
        }
    }

    /// Reads what [`Scope::as_str`] writes, and nothing else.
    pub fn parse(text: &str) -> Result<Scope, BadScope> {
        let found = Scope::ALL.into_iter().find(|scope| scope.as_str() == text);
        // What is repeated to the caller has a bound.
        found.ok_or_else(|| BadScope(text.chars().take(40).collect()))
    }

    /// Every spelling, for messages.
    pub fn list() -> String {
        Scope::ALL.map(Scope::as_str).join(", ")
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Some scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u32);

impl Scopes {
    /// The set of these.
    pub fn of(scopes: &[Scope]) -> Scopes {
        Scopes(scopes.iter().fold(0, |bits, scope| bits | scope.bit()))
    }

    /// The set with these bits, as it is stored; `None` when a bit means nothing.
    pub fn from_bits(bits: u32) -> Option<Scopes> {
        let all = Scopes::of(&Scope::ALL).0;
        (bits & !all == 0).then_some(Scopes(bits))
    }

    /// The bits, to be stored.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether nothing is allowed.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `scope` is in the set as such.
    pub const fn names(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether whoever has these may do what needs `scope`.
    pub const fn allows(self, scope: Scope) -> bool {
        let included = match scope {
            Scope::QueueRead => Scope::QueueAdmin.bit(),
            _ => 0,
        };
        self.0 & (scope.bit() | Scope::Admin.bit() | included) != 0
    }

    /// The scopes in the set, in their order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.names(*scope))
    }
}

#[cfg(test)]
mod tests {
    use super::{Scope, Scopes};

    #[test]
    fn a_scope_has_one_spelling_and_one_bit() {
        for (index, scope) in Scope::ALL.into_iter().enumerate() {
            assert_eq!(Scope::parse(scope.as_str()), Ok(scope));
            assert_eq!(scope.bit(), 1 << index, "{scope} is stored under this bit for ever");
        }
        for text in ["", "Admin", "cache", "cache:*", " admin"] {
            assert!(Scope::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn admin_includes_everything_and_queue_admin_includes_reading() {
        let set = |scopes: &[Scope]| Scopes::of(scopes);
        assert!(Scope::ALL.into_iter().all(|scope| set(&[Scope::Admin]).allows(scope)));
        assert!(set(&[Scope::QueueAdmin]).allows(Scope::QueueRead));
        assert!(!set(&[Scope::QueueAdmin]).allows(Scope::QueueWork));
        assert!(!set(&[Scope::QueueRead]).allows(Scope::QueueAdmin));
        assert!(!set(&[Scope::CacheWrite]).allows(Scope::CacheRead));
        assert!(!Scopes::default().allows(Scope::CacheRead));
    }

    #[test]
    fn a_set_is_stored_by_bits_that_all_mean_something() {
        let set = Scopes::of(&[Scope::QueuePush, Scope::Admin]);
        assert_eq!(Scopes::from_bits(set.bits()), Some(set));
        assert_eq!(set.iter().collect::<Vec<_>>(), [Scope::QueuePush, Scope::Admin]);
        assert_eq!(Scopes::from_bits(1 << 11), None);
    }
}
