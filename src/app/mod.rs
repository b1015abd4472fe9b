//! Row 5: one door. In the making.

pub mod catalog;
