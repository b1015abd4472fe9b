//! Names, valid by construction.
//!
//! A name is 1 to 128 bytes of `A-Z a-z 0-9 . _ : -` and not `.` or `..`. It is checked once, where it
//! enters; a name in hand needs no further check, can be part of a path or a URL, and can be part of a
//! key because it never holds the byte 0x00.

use super::limits::{NAME_BYTES_MAX, TIMEZONE_BYTES_MAX};
use std::fmt;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} name {problem}")]
pub struct BadName {
    /// What was to be named: `queue`, `namespace` and so on.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: NameProblem,
}

/// The rule of names that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// Empty or too long.
    #[error("has {0} bytes; 1 to {NAME_BYTES_MAX} are allowed")]
    Length(usize),
    /// A byte outside the alphabet.
    #[error("has a character at byte {at} that is not one of A-Z a-z 0-9 . _ : -")]
    Byte {
        /// Position of the first such byte.
        at: usize,
    },
    /// What is no character of a line.
    #[error("has a control character at byte {at}")]
    Control {
        /// Position of the first such byte.
        at: usize,
    },
    /// `.` or `..`, which clients and proxies rewrite.
    #[error("must not be \".\" or \"..\"")]
    Dots,
}

fn check(text: &str) -> Result<(), NameProblem> {
    if text.is_empty() || NAME_BYTES_MAX < text.len() {
        return Err(NameProblem::Length(text.len()));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    if let Some(at) = text.bytes().position(|b| !allowed(b)) {
        return Err(NameProblem::Byte { at });
    }
    if text == "." || text == ".." {
        return Err(NameProblem::Dots);
    }
    Ok(())
}

/// Whether `text` can be the name of a time zone, as IANA calls them. Whether there is such a zone is for
/// those to say who have the calendar.
pub fn is_zone_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'/');
    let named = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    named && text.len() <= TIMEZONE_BYTES_MAX && text.bytes().all(allowed)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $code:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The stable code of a refused name.
            pub const CODE: &'static str = $code;

            /// Checks `text` and keeps it.
            pub fn parse(text: &str) -> Result<$name, BadName> {
                match check(text) {
                    Ok(()) => Ok($name(text.into())),
                    Err(problem) => Err(BadName { what: $what, problem }),
                }
            }

            /// The name as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a tenant.
    TenantName, "tenant", "invalid_tenant"
}
name! {
    /// The name of a cache namespace.
    Namespace, "namespace", "invalid_namespace"
}
name! {
    /// The name of a queue.
    QueueName, "queue", "invalid_queue"
}
name! {
    /// The name of a lock.
    LockName, "lock", "invalid_lock"
}
name! {
    /// The name of a schedule.
    ScheduleName, "schedule", "invalid_schedule"
}
name! {
    /// The name of a channel that alerts are sent through.
    ChannelName, "channel", "invalid_channel"
}

#[cfg(test)]
mod tests {
    use super::{BadName, NameProblem, QueueName};

    #[test]
    fn a_good_name_is_kept_as_it_is() {
        let longest = "n".repeat(128);
        for text in ["a", "emails.high", "Mail_1:eu-west", "...", "-", longest.as_str()] {
            assert_eq!(QueueName::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_bad_name_says_what_is_wrong() {
        let refused = |text: &str| QueueName::parse(text).unwrap_err();
        let bad = |problem| BadName { what: "queue", problem };
        assert_eq!(refused(""), bad(NameProblem::Length(0)));
        assert_eq!(refused(&"n".repeat(129)), bad(NameProblem::Length(129)));
        assert_eq!(refused("a/b"), bad(NameProblem::Byte { at: 1 }));
        assert_eq!(refused("a\0"), bad(NameProblem::Byte { at: 1 }));
        assert_eq!(refused("\u{e4}"), bad(NameProblem::Byte { at: 0 }));
        assert_eq!(refused(".."), bad(NameProblem::Dots));
        assert_eq!(
            refused("a b").to_string(),
            "queue name has a character at byte 1 that is not one of A-Z a-z 0-9 . _ : -"
        );
        assert_eq!(QueueName::CODE, "invalid_queue");
    }
}
