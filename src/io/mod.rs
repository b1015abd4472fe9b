//! Row 6: the outside world. In the making.
