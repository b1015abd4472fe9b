//! Telling systemd how it stands; nothing happens where systemd does not listen.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who started us and wants to know.
#[derive(Clone, Debug)]
pub(super) struct Notifier(Option<Box<str>>);

impl Notifier {
    /// Talks to the socket that `$NOTIFY_SOCKET` names, if it names one.
    pub(super) fn new(socket: Option<&str>) -> Notifier {
        Notifier(socket.filter(|path| !path.is_empty()).map(Into::into))
    }

    /// Serving.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// About to end.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing what runs");
    }

    fn tell(&self, text: &str) {
        let Some(path) = &self.0 else {
            return;
        };
        // A name that begins with @ is not a file.
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&**path),
        };
        let told = address
            .and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
        if let Err(error) = told {
            tracing::warn!(%error, "systemd could not be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Notifier;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn systemd_hears_when_we_are_ready() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        Notifier::new(path.to_str()).ready("serving");
        let mut heard = [0; 100];
        let n = systemd.recv(&mut heard).unwrap();
        assert_eq!(&heard[..n], b"READY=1\nSTATUS=serving");
        Notifier::new(None).stopping();
        Notifier::new(Some("/nowhere/at/all")).stopping();
    }
}
