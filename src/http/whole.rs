//! The body of an answer: all of it in one piece, and what is owed for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::connection::Connection;
use crate::app::jobs::Receipt;

/// A body in one piece. A receipt goes to the connection with it, which accepts it once everything is out; if
/// the body is never taken, the receipt falls.
pub(super) struct Whole {
    bytes: Option<Bytes>,
    receipt: Option<(Receipt, Arc<Connection>)>,
}

impl Whole {
    /// These bytes.
    pub(super) fn new(bytes: Bytes, receipt: Option<(Receipt, Arc<Connection>)>) -> Whole {
        Whole { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), receipt }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some((receipt, connection)) = self.receipt.take() {
            connection.owe(receipt);
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
