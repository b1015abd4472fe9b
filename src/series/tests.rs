//! What the series promise.
