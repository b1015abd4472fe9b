//! Open buckets beside a map of every sample.

use std::collections::BTreeMap;

use super::{Open, SHIFT_MAX, Slice, Taken};
use crate::base::rng::Rng;
use crate::testing::seeds;

type Model = BTreeMap<(u16, i64), u64>;

/// Moments in some order, columns that not all of them have, values that repeat.
fn random(rng: &mut Rng) -> (Open, Model) {
    let (mut open, mut model) = (Open::default(), Model::new());
    let (ordered, whole) = (rng.one_in(2), rng.one_in(2));
    let columns = 1 + rng.below(6);
    for n in 0..rng.below(300) {
        let at = if ordered { n / columns * 10 } else { rng.below(80) * 10 };
        let column = if whole { n % columns } else { rng.below(columns) };
        let (at, column) = (i64::try_from(at).unwrap(), u16::try_from(column * 3).unwrap());
        let value = [0.0, -0.0, 1.5, f64::NAN][rng.index(4)];
        let taken = match model.insert((column, at), value.to_bits()) {
            None => Taken::New,
            Some(old) if old == value.to_bits() => Taken::Same,
            Some(_) => Taken::Replaced,
        };
        assert_eq!(open.set(at, column, value), taken);
    }
    (open, model)
}

fn model_of(slice: &Slice) -> Model {
    assert!(slice.times.is_sorted_by(|a, b| a < b));
    let mut model = Model::new();
    for (number, column) in &slice.columns {
        assert!(column.cells().is_sorted_by(|a, b| a.0 < b.0));
        assert!(column.cells().next().is_some());
        for (row, value) in column.cells() {
            model.insert((*number, slice.times[row as usize]), value.to_bits());
        }
    }
    let mut used: Vec<i64> = model.keys().map(|(_, at)| *at).collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used, slice.times, "each row is somebody's");
    model
}

#[test]
fn a_bucket_holds_what_was_put_whatever_the_order() {
    for seed in seeds(300) {
        let rng = &mut Rng::from_seed(seed);
        let (open, model) = random(rng);
        assert_eq!(open.samples(), model.len(), "seed {seed}");
        assert_eq!(model_of(&open.slice()), model, "seed {seed}");
        for column in 0..18 {
            let (from, to) =
                (i64::try_from(rng.below(800)).unwrap(), i64::try_from(rng.below(900)).unwrap());
            let mut out = vec![(-1, 0.5)];
            open.read(column, from, to, &mut out);
            let bits: Vec<_> = out[1..].iter().map(|(at, value)| (*at, value.to_bits())).collect();
            let range = (column, from)..(column, to.max(from));
            let expected: Vec<_> = model.range(range).map(|((_, at), bits)| (*at, *bits)).collect();
            assert_eq!(bits, expected, "seed {seed}, column {column}");
        }
    }
}

#[test]
fn a_column_that_is_removed_takes_its_rows_with_it() {
    for seed in seeds(200) {
        let (mut open, mut model) = random(&mut Rng::from_seed(seed));
        let before = model.len();
        model.retain(|(column, _), _| *column != 3);
        assert_eq!(open.remove(3), before - model.len(), "seed {seed}");
        assert_eq!(open.remove(3), 0, "seed {seed}");
        assert_eq!(open.samples(), model.len(), "seed {seed}");
        assert_eq!(model_of(&open.slice()), model, "seed {seed}");
    }
}

#[test]
fn slices_over_each_other_hold_both_and_the_upper_one_wins() {
    for seed in seeds(200) {
        let rng = &mut Rng::from_seed(seed);
        let ((below, mut model), (above, later)) = (random(rng), random(rng));
        let mut slice = below.slice();
        slice.overlay(above.slice());
        model.extend(later);
        assert_eq!(model_of(&slice), model, "seed {seed}");
    }
}

#[test]
fn a_slice_is_cut_into_others_that_follow_each_other() {
    for seed in seeds(200) {
        let rng = &mut Rng::from_seed(seed);
        let (open, model) = random(rng);
        let rows = 1 + rng.index(40);
        let (mut all, mut last) = (Model::new(), i64::MIN);
        for slice in open.slice().cut(rows) {
            assert!((1..=rows).contains(&slice.times.len()), "seed {seed}");
            assert!(last < slice.times[0], "seed {seed}");
            last = slice.times[slice.times.len() - 1];
            all.extend(model_of(&slice));
        }
        assert_eq!(all, model, "seed {seed}");
    }
}

#[test]
fn a_slice_keeps_only_the_columns_that_stay() {
    for seed in seeds(200) {
        let (open, mut model) = random(&mut Rng::from_seed(seed));
        let mut slice = open.slice();
        slice.retain(|column| column % 2 == 0);
        model.retain(|(column, _), _| column % 2 == 0);
        assert_eq!(model_of(&slice), model, "seed {seed}");
    }
}

#[test]
fn cells_before_many_others_are_put_in_as_well() {
    let mut open = Open::default();
    let many = 3 * SHIFT_MAX;
    let at = |n: usize| i64::try_from(n).unwrap();
    for n in 0..many {
        open.set(at(n), 0, 1.0);
    }
    // Rows are there already; the second column meets them from behind.
    for n in (0..many).rev() {
        assert_eq!(open.set(at(n), 1, 2.0), Taken::New);
    }
    assert_eq!(open.set(5, 1, 2.0), Taken::Same);
    let slice = open.slice();
    assert_eq!(slice.columns[&1].values, vec![2.0; many]);
    assert_eq!(model_of(&slice).len(), 2 * many);
}

#[test]
fn an_hour_of_a_scrape_takes_little_more_than_its_values() {
    let mut open = Open::default();
    for row in 0..360 {
        for column in 0..2048 {
            open.set(row * 10_000, column, 1.0);
        }
    }
    let values = open.columns.iter().map(|cells| match cells {
        super::Cells::Run(_, values) => values.capacity(),
        super::Cells::Some(..) | super::Cells::Any(_) => panic!("a whole column knows no rows"),
    });
    let bytes = 8 * values.sum::<usize>() + size_of::<super::Cells>() * open.columns.capacity();
    assert!(bytes < 9 * 360 * 2048, "{bytes} bytes");
}
