//! An open bucket: the samples of one group in one hour that are not sealed yet.
//!
//! Rows are in the order in which they came; a row is one moment, found by a map once they do not ascend any more. Memory
//! is in proportion to the samples: a column knows its rows only if it does not have all of them.

use std::collections::BTreeMap;

use super::column::{Column, Rows};

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is new.
    New,
    /// It was there already, with this value.
    Same,
    /// It was there with another value, which is gone.
    Replaced,
}

/// A cell that comes before so many others of its column is not put between them, but into a map.
const SHIFT_MAX: usize = 1024;

/// The values of a column, by row.
#[derive(Clone, Debug)]
enum Cells {
    /// All rows from this one on, as many as there are values.
    Run(u32, Vec<f64>),
    /// These rows, ascending.
    Some(Vec<u32>, Vec<f64>),
    /// The same, where rows come in any order: no call moves all that is there.
    Any(BTreeMap<u32, f64>),
}

/// Makes room for one more. Doubling would waste a third of all memory on average.
fn grow<T>(values: &mut Vec<T>) {
    if values.len() == values.capacity() {
        let len = values.len();
        values.reserve_exact(if len < 64 { len.max(4) } else { (len / 8).max(64) });
    }
}

fn number(row: usize) -> u32 {
    u32::try_from(row).expect("BUG: a bucket has fewer rows than an hour has milliseconds")
}

impl Cells {
    fn of(row: u32, value: f64) -> Cells {
        let mut values = Vec::with_capacity(4);
        values.push(value);
        Cells::Run(row, values)
    }

    fn len(&self) -> usize {
        match self {
            Cells::Run(_, values) | Cells::Some(_, values) => values.len(),
            Cells::Any(cells) => cells.len(),
        }
    }

    /// Sets a cell; what was there before.
    fn set(&mut self, row: u32, value: f64) -> Option<f64> {
        match self {
            Cells::Run(from, values) => {
                if let Some(at) = row.checked_sub(*from) {
                    let at = at as usize;
                    if at == values.len() {
                        grow(values);
                        values.push(value);
                        return None;
                    }
                    if let Some(old) = values.get_mut(at) {
                        return Some(std::mem::replace(old, value));
                    }
                }
                let rows = (*from..).take(values.len()).collect();
                *self = Cells::Some(rows, std::mem::take(values));
                self.set(row, value)
            }
            Cells::Some(rows, values) => {
                let at = match rows.last() {
                    Some(last) if row <= *last => match rows.binary_search(&row) {
                        Ok(at) => return Some(std::mem::replace(&mut values[at], value)),
                        Err(at) => at,
                    },
                    Some(_) | None => rows.len(),
                };
                if SHIFT_MAX < rows.len() - at {
                    let cells = rows.iter().copied().zip(values.iter().copied());
                    *self = Cells::Any(cells.chain([(row, value)]).collect());
                    return None;
                }
                grow(rows);
                grow(values);
                rows.insert(at, row);
                values.insert(at, value);
                None
            }
            Cells::Any(cells) => cells.insert(row, value),
        }
    }

    /// Hands over every cell, ascending by row.
    fn each(&self, mut visit: impl FnMut(u32, f64)) {
        match self {
            Cells::Run(from, values) => {
                (*from..).zip(values).for_each(|(row, value)| visit(row, *value));
            }
            Cells::Some(rows, values) => {
                rows.iter().zip(values).for_each(|(row, value)| visit(*row, *value));
            }
            Cells::Any(cells) => cells.iter().for_each(|(row, value)| visit(*row, *value)),
        }
    }
}

/// The samples.
#[derive(Clone, Debug, Default)]
pub struct Open {
    /// The moments of the rows.
    times: Vec<i64>,
    /// The row of each moment, once they do not ascend.
    order: Option<BTreeMap<i64, u32>>,
    /// The row that was meant last: the next sample is often of the same one.
    last: Option<(i64, u32)>,
    /// Columns that have cells, ascending, and their cells.
    numbers: Vec<u16>,
    columns: Vec<Cells>,
    samples: usize,
    /// Whether there may be rows that no column has.
    holes: bool,
}

impl Open {
    /// The row of a moment, made if it is not there.
    fn row(&mut self, at_ms: i64) -> u32 {
        if let Some((at, row)) = self.last
            && at == at_ms
        {
            return row;
        }
        let next = number(self.times.len());
        let row = match (&mut self.order, self.times.last()) {
            (Some(order), _) => *order.entry(at_ms).or_insert(next),
            (None, Some(last)) if at_ms <= *last => {
                if let Ok(row) = self.times.binary_search(&at_ms) {
                    number(row)
                } else {
                    let known = self.times.iter().copied().zip(0..);
                    self.order = Some(known.chain([(at_ms, next)]).collect());
                    next
                }
            }
            (None, _) => next,
        };
        if row == next {
            grow(&mut self.times);
            self.times.push(at_ms);
        }
        self.last = Some((at_ms, row));
        row
    }

    /// Where a column stands, or would stand.
    fn place(&self, column: u16) -> Result<usize, usize> {
        // A group whose columns all have cells is the usual case.
        let guess = usize::from(column);
        if self.numbers.get(guess) == Some(&column) {
            return Ok(guess);
        }
        self.numbers.binary_search(&column)
    }

    fn cells(&self, column: u16) -> Option<&Cells> {
        self.place(column).ok().map(|at| &self.columns[at])
    }

    /// Takes a sample.
    pub fn set(&mut self, at_ms: i64, column: u16, value: f64) -> Taken {
        let row = self.row(at_ms);
        let old = match self.place(column) {
            Ok(at) => self.columns[at].set(row, value),
            Err(at) => {
                self.numbers.insert(at, column);
                self.columns.insert(at, Cells::of(row, value));
                None
            }
        };
        match old {
            Some(old) if old.to_bits() == value.to_bits() => Taken::Same,
            Some(_) => Taken::Replaced,
            None => {
                self.samples += 1;
                Taken::New
            }
        }
    }

    /// How many samples it has.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Removes a column; how many samples it had.
    pub(super) fn remove(&mut self, column: u16) -> usize {
        let Ok(at) = self.place(column) else {
            return 0;
        };
        self.numbers.remove(at);
        let gone = self.columns.remove(at).len();
        self.samples -= gone;
        self.holes |= 0 < gone;
        gone
    }

    /// The samples of a column from `from_ms` on and before `to_ms`, ascending, behind what is in `out`.
    pub fn read(&self, column: u16, from_ms: i64, to_ms: i64, out: &mut Vec<(i64, f64)>) {
        let Some(cells) = self.cells(column) else {
            return;
        };
        let began = out.len();
        match cells {
            Cells::Run(from, values) if self.order.is_none() => {
                let times = &self.times[*from as usize..][..values.len()];
                let start = times.partition_point(|at| *at < from_ms);
                let end = times.partition_point(|at| *at < to_ms).max(start);
                out.extend(
                    times[start..end].iter().copied().zip(values[start..end].iter().copied()),
                );
            }
            _ => cells.each(|row, value| {
                let at = self.times[row as usize];
                if (from_ms..to_ms).contains(&at) {
                    out.push((at, value));
                }
            }),
        }
        if self.order.is_some() {
            out[began..].sort_unstable_by_key(|(at, _)| *at);
        }
    }

    /// Everything, as a slice of time has it: ascending moments, and columns with rows numbered by them.
    pub fn slice(&self) -> Slice {
        let mut slice = match &self.order {
            None => Slice { times: self.times.clone(), columns: self.in_order() },
            Some(order) => {
                let mut ranks = vec![0; self.times.len()];
                for (rank, row) in (0_u32..).zip(order.values()) {
                    ranks[*row as usize] = rank;
                }
                let columns = self.numbers.iter().zip(&self.columns).map(|(number, cells)| {
                    let mut ranked = Vec::with_capacity(cells.len());
                    cells.each(|row, value| ranked.push((ranks[row as usize], value)));
                    ranked.sort_unstable_by_key(|(rank, _)| *rank);
                    (*number, column_of(ranked))
                });
                Slice { times: order.keys().copied().collect(), columns: columns.collect() }
            }
        };
        if self.holes {
            slice.leave_out_empty();
        }
        slice
    }

    /// The columns, where rows are in the order of time.
    fn in_order(&self) -> BTreeMap<u16, Column> {
        let columns = self.numbers.iter().zip(&self.columns).map(|(number, cells)| {
            let column = match cells {
                Cells::Run(from, values) => {
                    Column { rows: Rows::From(*from), values: values.clone() }
                }
                Cells::Some(rows, values) => {
                    Column { rows: Rows::Some(rows.clone()), values: values.clone() }
                }
                Cells::Any(cells) => column_of(cells.iter().map(|(row, value)| (*row, *value))),
            };
            (*number, column)
        });
        columns.collect()
    }
}

/// A column of cells whose rows ascend.
fn column_of(cells: impl IntoIterator<Item = (u32, f64)>) -> Column {
    let mut column = Column::new();
    for (row, value) in cells {
        column.push(row, value);
    }
    column
}

/// A stretch of a group's samples: moments that ascend, and columns whose rows are their numbers.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// The moments.
    pub times: Vec<i64>,
    /// The columns that have any.
    pub columns: BTreeMap<u16, Column>,
}

impl Slice {
    /// Puts `above` over this: where both have a value, its stays.
    pub fn overlay(&mut self, above: Slice) {
        if self.times == above.times {
            self.put_over(above.columns);
            return;
        }
        let (times, mine, its) = joined(&self.times, &above.times);
        self.times = times;
        for column in self.columns.values_mut() {
            *column = moved(column, &mine);
        }
        let above = above.columns.into_iter();
        self.put_over(above.map(|(number, column)| (number, moved(&column, &its))).collect());
    }

    /// The same, where rows mean the same.
    fn put_over(&mut self, above: BTreeMap<u16, Column>) {
        for (number, column) in above {
            match self.columns.get_mut(&number) {
                Some(below) => *below = over(below, &column),
                None => drop(self.columns.insert(number, column)),
            }
        }
    }

    /// Cuts it into slices of at most `rows_max` rows, in order.
    pub fn cut(self, rows_max: usize) -> Vec<Slice> {
        assert!(0 < rows_max, "BUG: a slice has rows");
        if self.times.len() <= rows_max {
            return if self.times.is_empty() { Vec::new() } else { vec![self] };
        }
        let chunks = self.times.chunks(rows_max);
        let mut slices: Vec<Slice> =
            chunks.map(|times| Slice { times: times.to_vec(), columns: BTreeMap::new() }).collect();
        for (number, column) in self.columns {
            for (row, value) in column.cells() {
                let (slice, row) = (row as usize / rows_max, row as usize % rows_max);
                let its = slices[slice].columns.entry(number).or_default();
                its.push(u32::try_from(row).expect("BUG: it was a u32 before"), value);
            }
        }
        slices
    }

    /// Leaves out the columns for which `stays` says no, and rows that nobody has then.
    pub fn retain(&mut self, stays: impl Fn(u16) -> bool) {
        let before = self.columns.len();
        self.columns.retain(|number, _| stays(*number));
        if self.columns.len() < before {
            self.leave_out_empty();
        }
    }

    /// Leaves out rows that no column has.
    fn leave_out_empty(&mut self) {
        let mut has = vec![false; self.times.len()];
        for column in self.columns.values() {
            column.cells().for_each(|(row, _)| has[row as usize] = true);
        }
        if has.iter().all(|has| *has) {
            return;
        }
        let mut next = 0;
        let ranks = has.iter().map(|has| {
            let rank = next;
            next += u32::from(*has);
            rank
        });
        let ranks: Vec<u32> = ranks.collect();
        for column in self.columns.values_mut() {
            *column = moved(column, &ranks);
        }
        let mut has = has.into_iter();
        self.times.retain(|_| has.next().expect("BUG: there is one for each row"));
    }
}

/// All moments of two lists that ascend, and which number those of each have among them.
fn joined(one: &[i64], other: &[i64]) -> (Vec<i64>, Vec<u32>, Vec<u32>) {
    let mut times = Vec::with_capacity(one.len() + other.len());
    let (mut ones, mut others) = (Vec::with_capacity(one.len()), Vec::with_capacity(other.len()));
    while ones.len() < one.len() || others.len() < other.len() {
        let row = number(times.len());
        let (a, b) = (one.get(ones.len()), other.get(others.len()));
        let at = a.into_iter().chain(b).copied().min().expect("BUG: one of them has more");
        times.push(at);
        if a == Some(&at) {
            ones.push(row);
        }
        if b == Some(&at) {
            others.push(row);
        }
    }
    (times, ones, others)
}

/// A column whose rows have new numbers, which ascend as the old ones do.
fn moved(column: &Column, rows: &[u32]) -> Column {
    column_of(column.cells().map(|(row, value)| (rows[row as usize], value)))
}

/// One column over another.
fn over(below: &Column, above: &Column) -> Column {
    let mut column = Column::new();
    let mut below = below.cells().peekable();
    for (row, value) in above.cells() {
        while let Some((its, old)) = below.next_if(|(its, _)| *its <= row) {
            if its < row {
                column.push(its, old);
            }
        }
        column.push(row, value);
    }
    below.for_each(|(row, value)| column.push(row, value));
    column
}

#[cfg(test)]
mod tests;
