//! Row 2: what people edit, in SQLite. In the making.
