//! For whom a request is: the defence against a web page that has its name point at our address.
//!
//! A browser tells in `Host` which name it believes to talk to. Names that nobody gave us are refused, so
//! that a page of `evil.example`, resolved to 127.0.0.1, cannot use somebody's browser to reach us. On the
//! Unix socket there are no browsers, and any name is fine.

use core::net::IpAddr;

/// The names that are ours beside the loopback ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Box<str>>);

impl Hosts {
    /// These names and addresses, without ports.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Hosts {
        Hosts(names.into_iter().map(|name| plain(name).to_ascii_lowercase().into()).collect())
    }

    /// Whether the value of a `Host` header, or the authority of a request's target, is one of ours.
    pub fn allow(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        let name = plain(name);
        name.eq_ignore_ascii_case("localhost")
            || self.0.iter().any(|ours| ours.eq_ignore_ascii_case(name))
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// Without brackets, and without the dot at the end that a full name may have.
fn plain(name: &str) -> &str {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or_else(|| name.strip_suffix('.').unwrap_or(name))
}

/// The host of `host` or `host:port`; `None` when it is neither.
fn without_port(host: &str) -> Option<&str> {
    let name_end = if host.starts_with('[') { host.find(']')? + 1 } else { 0 };
    let (name, port) = match host[name_end..].split_once(':') {
        Some((rest, port)) => (&host[..name_end + rest.len()], port),
        None => (host, ""),
    };
    let is_port = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let whole = name_end == 0 || name_end == name.len();
    (is_port && whole && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::Hosts;

    #[test]
    fn loopback_and_our_own_names_are_allowed_with_any_port() {
        let hosts = Hosts::new(["shop.example", "192.0.2.7", "[2001:db8::1]"]);
        for host in [
            "localhost",
            "LOCALHOST:7070",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:7070",
            "shop.example",
            "Shop.Example.:443",
            "192.0.2.7:7070",
            "[2001:db8::1]:1",
            "localhost:",
        ] {
            assert!(hosts.allow(host), "{host}");
        }
    }

    #[test]
    fn everybody_elses_names_are_not() {
        let hosts = Hosts::new(["shop.example"]);
        for host in [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "shop.example.evil",
            "127.0.0.1.nip",
            "shop.example:80:80",
            "shop.example:http",
            "[::1",
            "[::1]x",
            "[::1]x:1",
            "0.0.0.0",
            "xshop.example",
            "localhost@evil.example",
            "user@localhost",
            "localhost:999999",
        ] {
            assert!(!hosts.allow(host), "{host}");
        }
    }
}
