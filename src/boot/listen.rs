//! Sockets to listen on: our own, or those that systemd hands over.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use core::net::SocketAddr;
use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::http::accept::Listener;

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: u32 = 1024;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else listens there.
    #[error(
        "{address} is in use by another program; see: ss -ltnp; or choose another port with --listen"
    )]
    InUse {
        /// Where.
        address: String,
    },
    /// The system refused.
    #[error("cannot listen on {address}")]
    Refused {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The name has no address.
    #[error(
        "{host:?} has no address on this machine; give server.listen an address such as 127.0.0.1:7070"
    )]
    NoAddress {
        /// The name.
        host: String,
    },
    /// There is something at the socket's path that is no socket.
    #[error("{} exists and is not a socket; remove it, or choose another path with --socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another process serves on the socket's path.
    #[error("another process answers on {}; stop it, or choose another path with --socket", path.display())]
    SocketInUse {
        /// The path.
        path: PathBuf,
    },
}

/// What was opened.
#[derive(Default)]
pub(super) struct Opened {
    /// The sockets.
    pub(super) listeners: Vec<Listener>,
    /// The address of the first one of TCP.
    pub(super) address: Option<SocketAddr>,
    /// The path of the first Unix socket.
    pub(super) socket: Option<PathBuf>,
    /// A path that is ours to remove at the end.
    pub(super) ours: Option<PathBuf>,
}

/// Takes what systemd hands over; nothing, when it hands over nothing.
pub(super) fn handed_over() -> Result<Opened, Error> {
    let refused = |source| Error::Refused { address: "a socket of systemd's".to_owned(), source };
    let mut fds = ListenFd::from_env();
    let mut opened = Opened::default();
    for index in 0..fds.len() {
        if let Ok(Some(tcp)) = fds.take_tcp_listener(index) {
            tcp.set_nonblocking(true).map_err(refused)?;
            let tcp = TcpListener::from_std(tcp).map_err(refused)?;
            let address = tcp.local_addr().map_err(refused)?;
            opened.address.get_or_insert(address);
            opened.listeners.push(Listener::Tcp(tcp));
        } else if let Ok(Some(unix)) = fds.take_unix_listener(index) {
            unix.set_nonblocking(true).map_err(refused)?;
            if let Some(path) =
                unix.local_addr().ok().and_then(|at| at.as_pathname().map(Path::to_owned))
            {
                opened.socket.get_or_insert(path);
            }
            opened.listeners.push(Listener::Unix(UnixListener::from_std(unix).map_err(refused)?));
        }
    }
    Ok(opened)
}

/// Opens a TCP socket.
pub(super) async fn tcp(host: &str, port: u16) -> Result<(Listener, SocketAddr), Error> {
    let found = tokio::net::lookup_host((host, port)).await;
    let address = found.ok().and_then(|mut all| all.next());
    let address = address.ok_or_else(|| Error::NoAddress { host: host.to_owned() })?;
    let listening = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let listener = listening().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::InUse { address: address.to_string() },
        _ => Error::Refused { address: address.to_string(), source },
    })?;
    let bound = listener.local_addr();
    let bound = bound.map_err(|source| Error::Refused { address: address.to_string(), source })?;
    Ok((Listener::Tcp(listener), bound))
}

/// Opens a Unix socket that the owner and the group may use. One that a killed process left is replaced.
pub(super) fn unix(path: &Path) -> Result<Listener, Error> {
    let refused = |source| Error::Refused { address: path.display().to_string(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(Error::SocketInUse { path: path.to_owned() });
            }
            std::fs::remove_file(path).map_err(refused)?;
        }
        Err(_) => {}
    }
    // Whoever connects needs a token as well, so the moment between the two lines is harmless.
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(refused)?;
    let group = std::fs::Permissions::from_mode(0o660);
    std::fs::set_permissions(path, group).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    UnixListener::from_std(listener).map(Listener::Unix).map_err(refused)
}
