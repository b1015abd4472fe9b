//! Row 6: settings. In the making.
