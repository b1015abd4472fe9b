//! The socket under hyper: it knows when a request begins and when an answer is taken, and it turns the
//! bare refusals that hyper writes by itself into problem documents.
//!
//! When hyper cannot read a head, it writes an empty answer (400, 414 or 431) and closes; no service is
//! asked. What is written while no answer of ours is under way ([`Stage::Head`], [`Stage::Idle`]) is hyper's
//! own, and is replaced whole. Bytes of ours are never looked at, whatever they look like: a body may hold
//! anything. Where a refusal comes right behind an answer that its client has not taken yet, it goes out as
//! hyper wrote it.
//!
//! **Invariant**: an answer is written and flushed in one piece before the next head is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Connection, Stage};
use super::problem::Problem;
use crate::base::time::Clock;

/// A socket that keeps the connection's stage.
pub struct Wire<S> {
    socket: S,
    connection: Arc<Connection>,
    clock: Arc<dyn Clock>,
    /// What is written instead of a refusal of hyper's, and how much of it is out.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Wire<S> {
    /// Watches over `socket`.
    pub fn new(socket: S, connection: Arc<Connection>, clock: Arc<dyn Clock>) -> Wire<S> {
        Wire { socket, connection, clock, instead: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        if before < buffer.filled().len() && self.connection.stage() == Stage::Idle {
            self.connection.set_stage(Stage::Head, self.clock.mono());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_none() {
            let ours = !matches!(self.connection.stage(), Stage::Head | Stage::Idle);
            if ours || !is_refusal(bytes) {
                return self.write(cx, bytes);
            }
            self.instead = Some((refusal(bytes), 0));
        }
        while let Some((text, written)) = self.instead.take() {
            let wrote = self.write(cx, &text[written..]);
            let Poll::Ready(Ok(n)) = wrote else {
                self.instead = Some((text, written));
                return wrote;
            };
            if written + n < text.len() {
                self.instead = Some((text, written + n));
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.connection.accept_receipts();
        if self.connection.stage() == Stage::Answer {
            self.connection.let_go();
            self.connection.set_stage(Stage::Idle, self.clock.mono());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        if n < bytes.len() {
            // The client takes it in parts: each of them is a sign of life.
            self.connection.touch(self.clock.mono());
        }
        Poll::Ready(Ok(n))
    }
}

/// Whether this is an answer that hyper wrote by itself, whole.
fn is_refusal(bytes: &[u8]) -> bool {
    let status = bytes.get(9..12);
    bytes.starts_with(b"HTTP/1.")
        && bytes.ends_with(b"\r\n\r\n")
        && matches!(status, Some(b"400" | b"414" | b"431"))
}

/// The whole answer that stands in for a refusal of hyper's.
fn refusal(bare: &[u8]) -> Vec<u8> {
    let problem = match bare.get(9..12) {
        Some(b"431") => Problem::head_too_large(),
        Some(b"414") => Problem::new("head_too_large", "the target of the request is too long"),
        _ => Problem::malformed("this is not a request of HTTP/1.1"),
    };
    let body = problem.document("-");
    let reason = if problem.kind.status == 431 {
        "431 Request Header Fields Too Large"
    } else {
        "400 Bad Request"
    };
    let mut text = format!(
        "HTTP/1.1 {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\
         x-request-id: -\r\nx-response-time: 0.00ms\r\n\r\n",
        super::problem::MEDIA_TYPE,
        body.len()
    )
    .into_bytes();
    text.extend_from_slice(&body);
    text
}

#[cfg(test)]
mod tests {
    use super::{is_refusal, refusal};

    #[test]
    fn only_whole_refusals_are_replaced() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n";
        assert!(is_refusal(bare));
        assert!(!is_refusal(b"HTTP/1.1 100 Continue\r\n\r\n"));
        assert!(!is_refusal(&bare[..30]));
        assert!(!is_refusal(b"\r\n\r\n"));
        let text = String::from_utf8(refusal(bare)).unwrap();
        assert!(text.contains("\"code\":\"head_too_large\""), "{text}");
    }
}
