//! Moments in a few bits: nearly regular ones cost next to nothing.
//!
//! Strictly ascending milliseconds, 1 to [`crate::base::limits::SLICE_ROWS_MAX`] of them. What they differ from a schedule,
//! or their gaps from one length; exact schedules as one number. The format is part of what is on disk, and starts with its
//! own version byte.
//!
//! ```text
//! [version u8][how u8][count][first, zigzag][step][what differs, zigzag]*       numbers in bytes of seven bits
//! how: 0  nothing differs                          1  each from first + row * step: a schedule that is kept with jitter
//!      2  each gap from the step: a sleep between, which drifts
//! ```

use super::block::Spoilt;
use super::column::{put_number, put_signed, take_byte, take_number, take_signed};
use crate::base::limits::SLICE_ROWS_MAX;

const VERSION: u8 = 1;
const EXACT: u8 = 0;
const SCHEDULE: u8 = 1;
const GAPS: u8 = 2;

/// Appends `times`.
pub fn encode(times: &[i64], out: &mut Vec<u8>) {
    assert!((1..=SLICE_ROWS_MAX).contains(&times.len()), "BUG: a slice has 1 row or a few");
    assert!(times.is_sorted_by(|a, b| a < b), "BUG: moments ascend");
    let mut gaps: Vec<i64> = times.array_windows().map(|[a, b]| b.wrapping_sub(*a)).collect();
    gaps.sort_unstable();
    let median = gaps.get(gaps.len() / 2).copied().unwrap_or(1);
    // The moments of a schedule differ from it at both ends, by less than half a step in all.
    let rows = i64::try_from(times.len() - 1).expect("BUG: a slice has few rows").max(1);
    let whole = times[times.len() - 1].wrapping_sub(times[0]);
    let mean = whole.wrapping_add(rows / 2) / rows;
    let plans = [(SCHEDULE, mean), (SCHEDULE, median), (GAPS, median)];
    let best = plans.iter().map(|&(how, step)| spelled(times, how, step)).min_by_key(Vec::len);
    out.append(&mut best.expect("BUG: there are three plans"));
}

/// The whole, with this step.
fn spelled(times: &[i64], how: u8, step: i64) -> Vec<u8> {
    let mut differences = Vec::with_capacity(times.len());
    let mut expected = times[0];
    for &time in &times[1..] {
        expected = expected.wrapping_add(step);
        differences.push(time.wrapping_sub(expected));
        if how == GAPS {
            expected = time;
        }
    }
    let exact = differences.iter().all(|&difference| difference == 0);
    let mut out = vec![VERSION, if exact { EXACT } else { how }];
    put_number(times.len() as u64, &mut out);
    put_signed(times[0], &mut out);
    put_signed(step, &mut out);
    if !exact {
        for difference in differences {
            put_signed(difference, &mut out);
        }
    }
    out
}

/// Reads what [`encode`] wrote, all of `bytes`. Total: any bytes give moments that ascend, or an error; what is
/// allocated is bounded.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<i64>, Spoilt> {
    let bytes = &mut bytes;
    if take_byte(bytes)? != VERSION {
        return Err(Spoilt("times of another version"));
    }
    let how = take_byte(bytes)?;
    let count = usize::try_from(take_number(bytes)?).unwrap_or(usize::MAX);
    if !(1..=SLICE_ROWS_MAX).contains(&count) || GAPS < how {
        return Err(Spoilt("times that nobody writes"));
    }
    let first = take_signed(bytes)?;
    let step = take_signed(bytes)?;
    let mut times = Vec::with_capacity(count);
    times.push(first);
    let mut expected = first;
    for _ in 1..count {
        expected = expected.wrapping_add(step);
        let differs = if how == EXACT { 0 } else { take_signed(bytes)? };
        let time = expected.wrapping_add(differs);
        if time <= times[times.len() - 1] {
            return Err(Spoilt("times that do not ascend"));
        }
        times.push(time);
        if how == GAPS {
            expected = time;
        }
    }
    if bytes.is_empty() { Ok(times) } else { Err(Spoilt("more than times")) }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use crate::base::limits::SLICE_ROWS_MAX;
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    fn encoded(times: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(times, &mut out);
        out
    }

    #[test]
    fn moments_come_back_as_they_were() {
        for seed in seeds(300) {
            let mut rng = Rng::from_seed(seed);
            let mut at = 1_763_640_000_000 + i64::try_from(rng.below(3_600_000)).unwrap();
            let gap_max = [1, 2, 50, 20_000, 1 << 40][rng.index(5)];
            let regular = rng.one_in(3);
            let times: Vec<i64> = (0..=rng.index(SLICE_ROWS_MAX))
                .map(|_| {
                    let gap = if regular { gap_max } else { 1 + rng.below(gap_max) };
                    at += i64::try_from(gap).unwrap();
                    at
                })
                .collect();
            let bytes = encoded(&times);
            assert_eq!(decode(&bytes).as_ref(), Ok(&times), "seed {seed}");
            assert!(!regular || bytes.len() < 20, "seed {seed}: {} bytes", bytes.len());
        }
    }

    #[test]
    fn the_first_and_the_last_moments_there_are_can_be_written() {
        for times in [vec![i64::MIN], vec![i64::MAX], vec![i64::MAX - 3, i64::MAX - 2, i64::MAX]] {
            assert_eq!(decode(&encoded(&times)), Ok(times));
        }
    }

    #[test]
    fn a_schedule_that_is_kept_with_jitter_takes_a_byte_for_a_row() {
        let mut rng = Rng::from_seed(1);
        let mut jitter = || i64::try_from(rng.below(60)).unwrap();
        let kept: Vec<i64> = (0..360).map(|row| row * 10_000 + jitter()).collect();
        assert!(encoded(&kept).len() < 360 + 12);
        let mut at = 0;
        let drifting: Vec<i64> = (0..360)
            .map(|_| {
                at += 10_000 + jitter();
                at
            })
            .collect();
        assert!(encoded(&drifting).len() < 360 + 12);
    }

    #[test]
    fn damaged_times_are_refused() {
        let good = encoded(&[1_000, 2_000, 3_100]);
        assert_eq!(decode(&good), Ok(vec![1_000, 2_000, 3_100]));
        for end in 0..good.len() {
            assert!(decode(&good[..end]).is_err(), "cut at {end}");
        }
        assert!(decode(&[&good[..], &[0]].concat()).is_err(), "more than there is");
        assert_eq!(decode(&[1, 0, 2, 0, 2]), Ok(vec![0, 1]));
        assert!(decode(&[1, 0, 2, 0, 0]).is_err(), "the same moment twice");
        assert!(decode(&[1, 0, 0, 0, 2]).is_err(), "no moment");
        for seed in seeds(2_000) {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = good.clone();
            let at = rng.index(bytes.len());
            bytes[at] = rng.bytes(1)[0];
            if let Ok(times) = decode(&bytes) {
                assert!(times.is_sorted_by(|a, b| a < b), "seed {seed}: {times:?}");
            }
        }
    }
}
