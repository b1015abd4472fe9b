//! Where the server listens, and the names by which it is called.
//!
//! Names are never looked up: what is written is what is bound and compared.

use core::net::{IpAddr, Ipv6Addr}; // the types alone: `core` has addresses and no sockets
use std::fmt;

/// A host and a port to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    host: String,
    port: u16,
}

/// Why a text is not a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadListen {
    /// There is no `:PORT` at its end.
    #[error("a port is missing")]
    NoPort,
    /// Not a number from 0 to 65535.
    #[error("the port is a number from 0 to 65535, where 0 takes a free one")]
    Port,
    /// Neither an address nor `localhost`.
    #[error("the host is an IP address of this machine, 0.0.0.0 for all of them, or localhost")]
    Host,
    /// An IPv6 address without brackets cannot be told from its port.
    #[error("an IPv6 address stands in brackets: [::1]:7070")]
    Brackets,
}

impl BadListen {
    /// The stable code.
    pub const CODE: &'static str = "invalid_listen";
}

impl Listen {
    /// Reads `127.0.0.1:7070`, `[::1]:7070` or `localhost:7070`.
    pub fn parse(text: &str) -> Result<Listen, BadListen> {
        let (host, port) = text.rsplit_once(':').ok_or(BadListen::NoPort)?;
        if port.is_empty() {
            return Err(BadListen::NoPort);
        }
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| BadListen::Host)?.to_string(),
            None if host.contains(':') => return Err(BadListen::Brackets),
            None if host.eq_ignore_ascii_case("localhost") => "localhost".to_owned(),
            None => host.parse::<IpAddr>().map_err(|_| BadListen::Host)?.to_string(),
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadListen::Port);
        }
        let port = port.parse().map_err(|_| BadListen::Port)?;
        Ok(Listen { host, port })
    }

    /// The address, without brackets, or `localhost`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 takes a free one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether nobody outside this machine can connect.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A name or address by which clients call the server: as it is compared, or what is wrong with it.
pub(super) fn parse_host(text: &str) -> Result<String, &'static str> {
    if text.contains("://") {
        return Err("a host is written without http:// or https://");
    }
    if text.contains('/') {
        return Err("a host is written without a path");
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        return match (bare, address) {
            (Some(_), IpAddr::V4(_)) => Err("only an IPv6 address stands in brackets"),
            _ => Ok(address.to_string()),
        };
    }
    if text.contains(':') {
        return Err("a host is written without a port");
    }
    if text.contains('*') {
        return Err("there are no wildcards; list each name");
    }
    let label = |label: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(good)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if 253 < text.len() || !text.split('.').all(label) {
        return Err("a host is a name of letters, digits, hyphens and dots, or an IP address");
    }
    // No top level is a number: this is an address with a mistake in it.
    if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("this is neither a name nor a valid IP address");
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::{BadListen, Listen, parse_host};

    #[test]
    fn a_listen_address_is_an_address_or_localhost_with_a_port() {
        for (text, shown, loopback) in [
            ("127.0.0.1:7070", "127.0.0.1:7070", true),
            ("127.8.9.1:0", "127.8.9.1:0", true),
            ("LocalHost:65535", "localhost:65535", true),
            ("[::1]:7070", "[::1]:7070", true),
            ("[0:0::1]:7070", "[::1]:7070", true),
            ("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:7070", "0.0.0.0:7070", false),
            ("[::]:7070", "[::]:7070", false),
            ("192.0.2.7:80", "192.0.2.7:80", false),
        ] {
            let listen = Listen::parse(text).unwrap();
            assert_eq!((listen.to_string().as_str(), listen.is_loopback()), (shown, loopback));
        }
    }

    #[test]
    fn a_bad_listen_address_says_what_is_wrong() {
        for (text, why) in [
            ("", BadListen::NoPort),
            ("7070", BadListen::NoPort),
            ("127.0.0.1:", BadListen::NoPort),
            (":7070", BadListen::Host),
            ("*:7070", BadListen::Host),
            ("example.com:7070", BadListen::Host),
            ("127.0.0.256:7070", BadListen::Host),
            ("[127.0.0.1]:7070", BadListen::Host),
            ("[fe80::1%eth0]:7070", BadListen::Host),
            ("::1:7070", BadListen::Brackets),
            ("http://127.0.0.1:7070", BadListen::Brackets),
            ("127.0.0.1:65536", BadListen::Port),
            ("127.0.0.1:+80", BadListen::Port),
            ("127.0.0.1:http", BadListen::Port),
        ] {
            assert_eq!(Listen::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_else() {
        for (text, kept) in [
            ("Example.com", "example.com"),
            ("my_box-1", "my_box-1"),
            ("192.0.2.7", "192.0.2.7"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("2001:db8:0::1", "2001:db8::1"),
            ("1and1.de", "1and1.de"),
        ] {
            assert_eq!(parse_host(text).as_deref(), Ok(kept), "{text}");
        }
        for text in [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a b",
            "http://a",
            "a/b",
            "a:80",
            "*.a",
            "1.2.3",
            "7",
            "\u{e4}.de",
            "[192.0.2.7]",
            "[a]",
            "256.1.1.1",
        ] {
            assert!(parse_host(text).is_err(), "{text}");
        }
        assert!(parse_host(&"a.".repeat(127)).is_err());
        assert!(parse_host(&"a".repeat(64)).is_err());
    }
}
