//! Medians, and figures beside the limits that they have to keep.

/// The value in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What a figure has to keep.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// So much or less.
    AtMost(f64),
    /// So much or more.
    AtLeast(f64),
}

/// Prints a figure, its limit, and whether it is kept.
pub(crate) fn target(name: &str, value: f64, limit: Limit) {
    let short = |limit: f64| (limit * 100.0).round() / 100.0;
    let (met, limit) = match limit {
        Limit::AtMost(limit) => (value <= limit, format!("at most {}", short(limit))),
        Limit::AtLeast(limit) => (limit <= value, format!("at least {}", short(limit))),
    };
    let verdict = if met { "ok" } else { "MISSED" };
    println!("{name:<54} {value:>9.2}   {limit:<15} {verdict}");
}
