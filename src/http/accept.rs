//! Taking connections in, and letting them go at the end.
//!
//! One loop per listener. A loop never waits for a client: TLS and everything after it is the task of the
//! connection. When the system has no descriptors left, a connection is let go and the loop comes back a
//! moment later.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::Edge;
use super::connection::{Order, Place};
use super::problem::Problem;
use super::service::{Link, Service};
use super::wire::Wire;
use crate::app::throttle::Peer;
use crate::base::limits::{CONNECTION_BUFFER_BYTES, DRAIN_MAX, HEAD_BYTES_MAX};
use crate::base::time::Clock;

/// After an error of accepting, the loop comes back after this time.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// How often deadlines are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// And while the process drains.
const DRAIN_SWEEP_EVERY: Duration = Duration::from_millis(50);

/// A socket that connections come from.
pub enum Listener {
    /// TCP, with TLS when there is a certificate.
    Tcp(TcpListener),
    /// A Unix socket; never with TLS.
    Unix(UnixListener),
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
struct Origin {
    peer: Peer,
    /// The process that connected, as the kernel says.
    pid: Option<u32>,
}

impl Origin {
    /// Of a Unix socket. A process that we cannot see, in a container of its own, has the number 0.
    fn local(stream: &UnixStream) -> Origin {
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let pid = pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        Origin { peer: Peer::Local, pid }
    }
}

impl From<Peer> for Origin {
    fn from(peer: Peer) -> Origin {
        Origin { peer, pid: None }
    }
}

/// The certificate in use, if any; it can be replaced while connections are open.
pub type Tls = Arc<RwLock<Option<TlsAcceptor>>>;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// No new connections; what runs is finished.
    Draining,
    /// Over.
    Ended,
}

/// The server: listeners, connections and the way to its end.
pub struct Server {
    edge: Arc<Edge>,
    clock: Arc<dyn Clock>,
    tls: Tls,
    phase: watch::Sender<Phase>,
}

impl Server {
    /// A server without listeners.
    pub fn new(edge: Arc<Edge>, clock: Arc<dyn Clock>, tls: Tls) -> Arc<Server> {
        Arc::new(Server { edge, clock, tls, phase: watch::Sender::new(Phase::Running) })
    }

    /// The interface that it serves.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// Takes connections from `listener` until the end begins. Also keeps the deadlines.
    pub fn listen(self: &Arc<Self>, listener: Listener) {
        let its = Arc::clone(self);
        spawn(async move {
            let mut phase = its.phase.subscribe();
            tokio::select! {
                () = its.accept(listener) => {}
                _ = phase.wait_for(|phase| *phase != Phase::Running) => {}
            }
        });
    }

    /// Keeps the deadlines of all connections, for as long as the server lives.
    pub fn keep_deadlines(self: &Arc<Self>) {
        let its = Arc::clone(self);
        spawn(async move {
            let mut phase = its.phase.subscribe();
            loop {
                let draining = match *phase.borrow_and_update() {
                    Phase::Running => false,
                    Phase::Draining => true,
                    Phase::Ended => return,
                };
                its.edge.connections.sweep(its.clock.mono(), draining);
                let pause = if draining { DRAIN_SWEEP_EVERY } else { SWEEP_EVERY };
                let _ = tokio::time::timeout(pause, phase.changed()).await;
            }
        });
    }

    async fn accept(self: &Arc<Self>, listener: Listener) {
        loop {
            let accepted = match &listener {
                Listener::Tcp(tcp) => match tcp.accept().await {
                    Ok((stream, address)) => {
                        let peer = Peer::from_ip(address.ip());
                        self.admit_tcp(stream, peer).await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Listener::Unix(unix) => match unix.accept().await {
                    Ok((stream, _)) => {
                        let from = Origin::local(&stream);
                        self.admit(stream, Peer::Local, move |server, stream, place| {
                            server.serve(stream, from, place)
                        })
                        .await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = accepted {
                self.accept_failed(&error).await;
            }
        }
    }

    async fn accept_failed(&self, error: &std::io::Error) {
        self.edge.connections.accept_failed();
        tracing::debug!(%error, "a connection could not be accepted");
        // Most often there are no descriptors left; the one who has shown least has one.
        self.edge.connections.evict(self.clock.mono());
        let _ = tokio::time::timeout(AFTER_ERROR, std::future::pending::<()>()).await;
    }

    async fn admit_tcp(self: &Arc<Self>, stream: TcpStream, peer: Peer) {
        // Answers are small and wait for nothing.
        drop(stream.set_nodelay(true));
        let acceptor = self.tls.read().clone();
        match acceptor {
            None => {
                self.admit(stream, peer, move |server, stream, place| {
                    server.serve(stream, peer.into(), place)
                })
                .await;
            }
            Some(acceptor) => {
                self.admit(stream, peer, move |server, stream, place| async move {
                    // The place's deadline ends a handshake that does not come to an end.
                    let closing = Arc::clone(&place.connection);
                    let stream = tokio::select! {
                        stream = acceptor.accept(stream) => stream,
                        _ = closing.told() => return,
                    };
                    if let Ok(stream) = stream {
                        server.serve(stream, peer.into(), place).await;
                    }
                })
                .await;
            }
        }
    }

    /// Gives a newcomer a place, and its task; turns it away when everybody is at work.
    async fn admit<S, F, W>(self: &Arc<Self>, mut stream: S, peer: Peer, serve: F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: FnOnce(Arc<Self>, S, Place) -> W,
        W: Future<Output = ()> + Send + 'static,
    {
        let now = self.clock.mono();
        match self.edge.connections.enter(peer == Peer::Local, now).await {
            Some(place) => spawn(serve(Arc::clone(self), stream, place)),
            None => spawn(async move {
                let text = turned_away();
                let writing = async {
                    stream.write_all(&text).await?;
                    stream.shutdown().await
                };
                // Whoever does not take even that has gone.
                drop(tokio::time::timeout(Duration::from_secs(1), writing).await);
            }),
        }
    }

    /// Serves one connection that did not come from a listener, to its end.
    pub async fn serve_stream<S>(self: Arc<Self>, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let now = self.clock.mono();
        if let Some(place) = self.edge.connections.enter(peer == Peer::Local, now).await {
            self.serve(stream, peer.into(), place).await;
        }
    }

    /// The life of a connection.
    async fn serve<S>(self: Arc<Self>, stream: S, from: Origin, place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Arc::clone(&place.connection);
        let wire = Wire::new(stream, Arc::clone(&connection), Arc::clone(&self.clock));
        let edge = Arc::clone(&self.edge);
        let Origin { peer, pid: peer_pid } = from;
        let link = Link { edge, connection: Arc::clone(&connection), peer, peer_pid };
        let service = Service(Arc::new(link));
        let serving = builder().serve_connection(TokioIo::new(wire), service);
        let mut serving = std::pin::pin!(serving);
        loop {
            tokio::select! {
                result = serving.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    return;
                }
                order = connection.told() => match order {
                    Order::Close => return,
                    Order::Drain => serving.as_mut().graceful_shutdown(),
                },
            }
        }
    }

    /// Takes no new connections and waits until what runs is finished, at most [`DRAIN_MAX`], or until
    /// `now` is ready. Whether everything could be finished.
    pub async fn drain(&self, now: impl Future<Output = ()>) -> bool {
        self.edge.begin_to_stop();
        self.phase.send_replace(Phase::Draining);
        self.edge.connections.drain_all();
        let connections = &self.edge.connections;
        let emptied = async {
            while 0 < connections.open() {
                let _ = tokio::time::timeout(AFTER_ERROR, std::future::pending::<()>()).await;
            }
        };
        let finished = tokio::select! {
            ended = tokio::time::timeout(DRAIN_MAX, emptied) => ended.is_ok(),
            () = now => false,
        };
        connections.close_all();
        self.phase.send_replace(Phase::Ended);
        finished
    }
}

/// hyper itself takes up to 100 headers: asked for another number it clears and copies its tables for each
/// request. The service counts what is above our own bound.
fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .header_read_timeout(None)
        .half_close(false)
        .writev(false)
        .auto_date_header(true);
    builder
}

/// What is said to somebody for whom there is no place.
fn turned_away() -> Vec<u8> {
    let detail = "every connection is in use; try again soon";
    let body = Problem::new("overloaded", detail).document("-");
    let mut text = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {}\r\ncontent-length: {}\r\n\
         connection: close\r\nretry-after: 1\r\nx-request-id: -\r\nx-response-time: 0.00ms\r\n\r\n",
        super::problem::MEDIA_TYPE,
        body.len()
    )
    .into_bytes();
    text.extend_from_slice(&body);
    text
}

/// Starts a task of the runtime.
#[expect(clippy::disallowed_methods, reason = "tasks of connections belong here")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}
