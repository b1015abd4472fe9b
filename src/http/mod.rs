//! Row 6: bytes to domain calls. In the making.
