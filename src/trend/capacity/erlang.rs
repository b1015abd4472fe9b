//! Erlang's formulas: how likely it is that all are busy, and how long one waits then.
//!
//! The recursion only multiplies and divides positive numbers and damps its own errors; it neither overflows nor loses
//! digits, however many workers there are. What is too small for a number becomes 0, which is what it means.

/// So many workers are reckoned with; nobody has more.
pub(super) const SERVERS_MAX: u32 = 100_000;

/// Erlang's B of one server more: that all `servers` are busy, if those who find them so go away, from the same of one
/// server less. That of none is 1.
pub(super) fn busy_of_one_more(busy: f64, servers: u32, load: f64) -> f64 {
    let met = load * busy;
    met / (f64::from(servers) + met)
}

/// Erlang's B: the part of those who come that find all servers busy, and go away.
pub(super) fn busy(servers: u32, load: f64) -> f64 {
    (1..=servers.min(SERVERS_MAX)).fold(1.0, |busy, more| busy_of_one_more(busy, more, load))
}

/// Erlang's C, from B of as many: the part of those who come that wait. 1 if there is more work than servers.
pub(super) fn waits(busy: f64, servers: u32, load: f64) -> f64 {
    let servers = f64::from(servers);
    if servers <= load {
        return 1.0;
    }
    // servers - load (1 - busy), in the order that loses nothing when servers and load are nearly the same.
    servers * busy / ((servers - load) + load * busy)
}

/// How many servers it takes that at most `part` of those who come wait longer than `target`, when each of them takes
/// `service` on average. None if it takes more than [`SERVERS_MAX`].
pub(super) fn servers_for(load: f64, part: f64, target: f64, service: f64) -> Option<u32> {
    if f64::from(SERVERS_MAX) <= load {
        return None;
    }
    let mut busy = 1.0;
    for servers in 1..=SERVERS_MAX {
        busy = busy_of_one_more(busy, servers, load);
        let spare = f64::from(servers) - load;
        if 0.0 < spare && waits(busy, servers, load) * (-spare * target / service).exp() <= part {
            return Some(servers);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{SERVERS_MAX, busy, servers_for, waits};

    /// Servers, load, B, C.
    fn references() -> Vec<(u32, f64, f64, Option<f64>)> {
        let lines = include_str!("../fixtures/erlang.txt").lines();
        lines
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let parts: Vec<&str> = line.split_whitespace().collect();
                let number = |at: usize| parts[at].parse::<f64>();
                (parts[0].parse().unwrap(), number(1).unwrap(), number(2).unwrap(), number(3).ok())
            })
            .collect()
    }

    fn far(value: f64, exact: f64) -> f64 {
        ((value - exact) / exact).abs()
    }

    #[test]
    fn erlangs_b_and_c_have_twelve_digits_of_the_exact_ones() {
        let references = references();
        assert!(20 < references.len());
        for (servers, load, b, c) in references {
            let all = busy(servers, load);
            assert!(far(all, b) < 1e-12, "B of {servers}, {load}: {all} is not {b}");
            let wait = waits(all, servers, load);
            match c {
                Some(c) => assert!(far(wait, c) < 1e-12, "C of {servers}, {load}: {wait}, not {c}"),
                None => assert_eq!(wait.to_bits(), 1.0_f64.to_bits(), "C of {servers}, {load}"),
            }
        }
    }

    #[test]
    fn the_number_of_servers_is_the_smallest_that_does() {
        for load in [0.0, 0.01, 0.5, 0.99, 3.95, 40.0, 500.0] {
            for (target, service) in [(0.0, 1.0), (60.0, 2.0), (60.0, 600.0), (1.0, 0.001)] {
                let late = |servers: u32| {
                    let spare = f64::from(servers) - load;
                    if spare <= 0.0 {
                        return 1.0;
                    }
                    waits(busy(servers, load), servers, load) * (-spare * target / service).exp()
                };
                let servers = servers_for(load, 0.05, target, service).unwrap();
                assert!(late(servers) <= 0.05, "{load} {target} {service}: {servers}");
                assert!(
                    servers == 1 || 0.05 < late(servers - 1),
                    "{load} {target} {service}: {servers}"
                );
            }
        }
    }

    #[test]
    fn nobody_has_more_servers_than_are_reckoned_with() {
        assert_eq!(servers_for(f64::from(SERVERS_MAX), 0.05, 60.0, 1.0), None);
        assert_eq!(servers_for(f64::MAX, 0.05, 60.0, 1.0), None);
        assert_eq!(servers_for(99_999.0, 0.05, 60.0, 1.0), Some(SERVERS_MAX));
        assert!(busy(u32::MAX, 99_999.0) < 0.01);
    }
}
