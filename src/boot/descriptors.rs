//! How the descriptors that the process may have are shared out.

use crate::base::limits::{DESCRIPTORS_RESERVED, WATCHES_MAX};

/// What each may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Connections.
    pub(super) connections: usize,
    /// Processes that are watched.
    pub(super) watches: usize,
}

/// There are always so many places for connections.
const CONNECTIONS_LEAST: u64 = 16;

/// Raises the limit as far as it is of use and allowed, and shares it out; told in the log when it is less than
/// the settings ask for.
pub(super) fn share(connections: usize) -> Shares {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = connections as u64 + DESCRIPTORS_RESERVED + WATCHES_MAX as u64;
    let most = limit.maximum.unwrap_or(u64::MAX);
    let raised = rustix::process::Rlimit { current: Some(wanted.min(most)), ..limit };
    let current = limit.current.unwrap_or(u64::MAX);
    let there_are = if wanted <= current {
        current
    } else if rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_ok() {
        wanted.min(most)
    } else {
        current
    };
    let shares = shares(there_are, connections);
    if shares.connections < connections {
        tracing::warn!(
            places = shares.connections,
            setting = connections,
            "fewer connections than set: raise the limit of descriptors (LimitNOFILE, ulimit -n)"
        );
    }
    shares
}

/// Connections come first; what is reserved has room for some watches besides logs and files.
fn shares(there_are: u64, setting: usize) -> Shares {
    let narrow = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let left = there_are.saturating_sub(DESCRIPTORS_RESERVED);
    let connections = narrow(left.max(CONNECTIONS_LEAST)).min(setting);
    let beside = left.saturating_sub(connections as u64).max(DESCRIPTORS_RESERVED / 4);
    Shares { connections, watches: narrow(beside).min(WATCHES_MAX) }
}

#[cfg(test)]
mod tests {
    use super::{Shares, shares};
    use crate::base::limits::WATCHES_MAX;

    #[test]
    fn connections_come_first_and_nothing_is_given_twice() {
        assert_eq!(shares(128, 4096), Shares { connections: 64, watches: 16 });
        assert_eq!(shares(1024, 100), Shares { connections: 100, watches: 860 });
        assert_eq!(shares(u64::MAX, 4096), Shares { connections: 4096, watches: WATCHES_MAX });
        assert_eq!(shares(10, 4096), Shares { connections: 16, watches: 16 });
    }
}
