//! The division into stretches that costs least, exactly: each stretch costs what its line leaves, and each change a price.
//!
//! PELT (Killick, Fearnhead and Eckley 2012): the best division up to each sample, made of the best up to an earlier one
//! and a stretch. A beginning that does not pay up to a sample never will: its stretch could always be parted there, which
//! costs less. As a stretch has a least length it may be parted there only so many samples later, and until then the
//! beginning stays.

use super::sums::{Beginning, Sums};

/// Where stretches of so many samples at least begin, but the first one, ascending.
pub(super) fn division(sums: &Sums, price: f64, stretch_min: usize) -> Vec<usize> {
    let count = sums.count();
    let mut cost = vec![f64::INFINITY; count + 1];
    let mut begins = vec![0; count + 1];
    cost[0] = -price;
    // Beginnings, and from which end on each of them needs no look.
    let mut open: Vec<(Beginning, usize)> = Vec::new();
    let mut through: Vec<f64> = Vec::new();
    for end in stretch_min..=count {
        let begin = end - stretch_min;
        if cost[begin].is_finite() {
            open.push((sums.from(begin, cost[begin]), usize::MAX));
        }
        open.retain(|&(_, until)| end < until);
        through.clear();
        through.extend(open.iter().map(|(from, _)| sums.through(from, end)));
        let (mut least, mut best) = (f64::INFINITY, 0);
        for (&total, (from, _)) in through.iter().zip(&open) {
            if total < least {
                (least, best) = (total, from.begin);
            }
        }
        (cost[end], begins[end]) = (least + price, best);
        for ((_, until), &total) in open.iter_mut().zip(&through) {
            if cost[end] <= total {
                *until = (*until).min(end + stretch_min);
            }
        }
    }
    let mut changes = Vec::new();
    let mut end = count;
    while 0 < begins[end] {
        end = begins[end];
        changes.push(end);
    }
    changes.reverse();
    changes
}
