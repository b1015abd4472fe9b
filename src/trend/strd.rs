//! NIST's reference data sets for linear regression, by our lines alone.
//!
//! A model of several terms is what lines say one after the other: of each column is taken away what lines on the
//! columns before say of it, and what is left tells by a line how much of the response belongs to it. What rounding left
//! undone is seen when the same is asked of the residuals again, which are known in twice the precision. Nothing but
//! slopes of [`Moments::line`] ever says how much.

use super::double::Double;
use super::moments::Moments;

const REFERENCE: &str = include_str!("fixtures/strd.txt");
/// Columns become whole numbers of so many bits, to stand for moments.
const EXPONENT: i32 = 47;
/// So often what is left is asked again.
const PASSES: usize = 8;

struct Set {
    name: &'static str,
    degree: usize,
    /// As decimals: a whole number and how often it was divided by ten.
    rows: Vec<Vec<(i64, u32)>>,
    certified: Vec<(f64, f64)>,
    deviation: f64,
    r2: f64,
    lines: Vec<Vec<f64>>,
}

fn sets() -> Vec<Set> {
    let mut sets = Vec::new();
    for line in REFERENCE.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&'static str> = line.split(' ').collect();
        if words[0] == "set" {
            sets.push(Set {
                name: words[1],
                degree: words[2].parse().unwrap(),
                rows: Vec::new(),
                certified: Vec::new(),
                deviation: 0.0,
                r2: 0.0,
                lines: Vec::new(),
            });
            continue;
        }
        let set = sets.last_mut().expect("a set comes first");
        let numbers = || words[1..].iter().map(|word| word.parse::<f64>().unwrap()).collect();
        let numbers: Vec<f64> = numbers();
        match words[0] {
            "row" => set.rows.push(words[1..].iter().map(|word| decimal(word)).collect()),
            "certified" => set.certified.push((numbers[0], numbers[1])),
            "certified_deviation" => set.deviation = numbers[0],
            "certified_r2" => set.r2 = numbers[0],
            "line" => set.lines.push(numbers),
            other => panic!("{other}"),
        }
    }
    sets
}

/// A decimal as a whole number, and how many digits it has behind the point.
fn decimal(word: &str) -> (i64, u32) {
    let digits = word.split_once('.').map_or(0, |(_, behind)| behind.len());
    (word.replace('.', "").parse().unwrap(), u32::try_from(digits).unwrap())
}

fn double((whole, digits): (i64, u32)) -> Double {
    Double::whole(i128::from(whole)) / Double::whole(10_i128.pow(digits))
}

impl Set {
    fn response(&self) -> Vec<Double> {
        self.rows.iter().map(|row| double(row[0])).collect()
    }

    /// The columns of the model, without the constant.
    fn columns(&self) -> Vec<Vec<Double>> {
        let column = |number: usize| self.rows.iter().map(|row| double(row[number])).collect();
        if self.degree == 1 {
            return (1..self.rows[0].len()).map(column).collect();
        }
        let mut columns: Vec<Vec<Double>> = vec![column(1)];
        for power in 1..self.degree {
            let next = columns[0].iter().zip(&columns[power - 1]).map(|(&x, &y)| x * y).collect();
            columns.push(next);
        }
        columns
    }
}

fn close(found: f64, wanted: f64, tolerance: f64) -> bool {
    (found - wanted).abs() <= tolerance * wanted.abs()
}

#[test]
fn a_line_on_each_single_column_is_the_exact_one() {
    let mut count = 0;
    for set in sets() {
        for line in &set.lines {
            count += 1;
            let column: usize = format!("{}", line[0]).parse().unwrap();
            // Decimals are made whole by powers of ten; a larger power than needed changes nothing.
            for more in [0, 3] {
                check_single(&set, column, more, &line[1..]);
            }
        }
    }
    assert_eq!(count, 1 + 6 + 5 * 5 + 1);
}

/// Compares the line on one column with slope, its error, constant, its error, deviation and r2.
fn check_single(set: &Set, column: usize, more: u32, wanted: &[f64]) {
    let whole = |row: &[(i64, u32)], digits: u32| {
        if set.degree == 1 || column == 1 {
            let (column, has) = row[if set.degree == 1 { column } else { 1 }];
            column * 10_i64.pow(digits - has)
        } else {
            row[1].0.pow(u32::try_from(column).unwrap()) * 10_i64.pow(digits)
        }
    };
    let widest = |row: &Vec<(i64, u32)>| row[if set.degree == 1 { column } else { 1 }].1;
    let digits = set.rows.iter().map(widest).max().unwrap() + more;
    let samples: Vec<(i64, f64)> =
        set.rows.iter().map(|row| (whole(row, digits), double(row[0]).value())).collect();
    let line = Moments::of(&samples).line().unwrap();
    // A unit of the column is 10^digits milliseconds.
    let unit = 10.0_f64.powi(i32::try_from(digits).unwrap() - 3);
    let count = f64::from(u32::try_from(set.rows.len()).unwrap());
    let centre =
        (Double::whole(i128::from(line.centre_ms.0)).value() + line.centre_ms.1) / unit / 1e3;
    let spread = line.spread / unit / unit;
    let constant = line.centre - line.slope * unit * centre;
    let constant_error = line.residual_deviation * (1.0 / count + centre * centre / spread).sqrt();
    let found = [
        line.slope * unit,
        line.slope_error * unit,
        constant,
        constant_error,
        line.residual_deviation,
        line.r2.unwrap(),
    ];
    for (number, (&found, &wanted)) in found.iter().zip(wanted).enumerate() {
        let what = format!("{} column {column}, figure {number}: {found} {wanted}", set.name);
        // A constant is a difference: it has the digits that its parts leave it.
        let parts = if number == 2 { line.centre.abs() / wanted.abs() } else { 1.0 };
        assert!(close(found, wanted, 1e-12 * parts.max(1.0)), "{what}");
        assert!(close(found, wanted, 1e-10), "{what}");
    }
    assert!(
        (line.at(0) - constant).abs() <= 1e-12 * line.centre.abs().max(constant.abs()),
        "{}",
        set.name
    );
}

/// A column made orthogonal to those before it, and what of the columns it is made of.
struct Part {
    values: Vec<Double>,
    of: Vec<Double>,
}

/// The slope of a line of `response` on `column`, and the sum of squares of the column from its mean.
///
/// What is known in twice the precision goes into lines in two pieces each, the larger first: a line on moments has whole
/// ones, and values of one number each. Slopes of pieces of a response add up; so do slopes on pieces of a column, each
/// times the sum of squares of its piece.
fn line_on(response: &[Double], column: &[Double]) -> (f64, f64) {
    let columns = pieces(column);
    let responses = pieces(response);
    let mut product = 0.0;
    let mut spread = 0.0;
    for (number, (moments, unit)) in columns.iter().enumerate() {
        for (values, scale) in &responses {
            let exact = |&value: &i64| Double::whole(i128::from(value)).value() * scale;
            let samples: Vec<(i64, f64)> =
                moments.iter().copied().zip(values.iter().map(exact)).collect();
            let Some(line) = Moments::of(&samples).line() else { continue };
            product += line.slope * line.spread * unit * 1e3;
            if number == 0 {
                spread = line.spread * (unit * 1e3) * (unit * 1e3);
            }
        }
    }
    (product / spread, spread)
}

/// Whole numbers below 2^47 and the unit they are in; then what that left of the values, in the same way.
fn pieces(values: &[Double]) -> [(Vec<i64>, f64); 2] {
    let mut left: Vec<Double> = values.iter().map(|&value| value - values[0]).collect();
    std::array::from_fn(|_| {
        let most = left.iter().fold(0.0, |most: f64, value| most.max(value.value().abs()));
        let unit = 2.0_f64.powi(-EXPONENT) * 2.0_f64.powf(most.max(1e-200).log2().ceil());
        #[expect(clippy::cast_possible_truncation, reason = "at most 47 bits")]
        let wholes: Vec<i64> =
            left.iter().map(|value| (value.value() / unit).round() as i64).collect();
        for (value, &whole) in left.iter_mut().zip(&wholes) {
            *value = *value - Double::whole(i128::from(whole)) * Double::from(unit);
        }
        (wholes, unit)
    })
}

fn less(values: &mut [Double], slope: f64, others: &[Double]) {
    for (value, &other) in values.iter_mut().zip(others) {
        *value = *value - Double::from(slope) * other;
    }
}

fn parts(columns: &[Vec<Double>]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (number, column) in columns.iter().enumerate() {
        let mut of = vec![Double::default(); columns.len()];
        of[number] = Double::from(1.0);
        let mut part = Part { values: column.clone(), of };
        for _ in 0..PASSES {
            for before in &parts {
                let slope = line_on(&part.values, &before.values).0;
                less(&mut part.values, slope, &before.values);
                less(&mut part.of, slope, &before.of);
            }
        }
        parts.push(part);
    }
    parts
}

struct Model {
    coefficients: Vec<f64>,
    errors: Vec<f64>,
    deviation: f64,
    r2: f64,
}

fn mean(values: &[Double]) -> Double {
    let sum = values.iter().fold(Double::default(), |sum, &value| sum + value);
    sum / Double::whole(i128::try_from(values.len()).unwrap())
}

/// The model of all columns, by lines alone.
fn model(set: &Set) -> Model {
    let (columns, response) = (set.columns(), set.response());
    let parts = parts(&columns);
    let mut left = response.clone();
    let mut amounts = vec![Double::default(); parts.len()];
    for _ in 0..PASSES {
        for (amount, part) in amounts.iter_mut().zip(&parts) {
            let slope = line_on(&left, &part.values).0;
            less(&mut left, slope, &part.values);
            *amount = *amount + Double::from(slope);
        }
    }
    let float = |count: usize| f64::from(u32::try_from(count).unwrap());
    let count = float(response.len());
    let constant = mean(&left);
    let squares = |values: &[Double]| {
        let values: Vec<(i64, f64)> =
            values.iter().map(|&value| (0, (value - mean(values)).value())).collect();
        let deviation = Moments::of(&values).deviation().unwrap();
        deviation * deviation * (count - 1.0)
    };
    let residual = squares(&left);
    let variance = residual / (count - 1.0 - float(parts.len()));
    let mut coefficients = vec![constant.value()];
    let mut of_constant = 1.0 / count;
    for part in &parts {
        let spread = line_on(&response, &part.values).1;
        of_constant += mean(&part.values).value().powi(2) / spread;
    }
    let mut errors = vec![(variance * of_constant).sqrt()];
    for number in 0..columns.len() {
        let mut coefficient = Double::default();
        let mut of_variance = 0.0;
        for (&amount, part) in amounts.iter().zip(&parts) {
            coefficient = coefficient + amount * part.of[number];
            let spread = line_on(&response, &part.values).1;
            of_variance += part.of[number].value().powi(2) / spread;
        }
        coefficients.push(coefficient.value());
        errors.push((variance * of_variance).sqrt());
    }
    let r2 = 1.0 - residual / squares(&response);
    Model { coefficients, errors, deviation: variance.sqrt(), r2 }
}

#[test]
fn models_of_several_terms_are_as_certified_by_lines_alone() {
    for set in sets() {
        let model = model(&set);
        let largest = set.certified.iter().fold(0.0, |most: f64, at| most.max(at.0.abs()));
        for (number, &(wanted, wanted_error)) in set.certified.iter().enumerate() {
            let found = model.coefficients[number];
            let what = format!("{} {number}: {found:.17e} {wanted:.15e}", set.name);
            assert!(close(found, wanted, 1e-14), "{what}");
            let found = model.errors[number];
            let what = format!("{} error {number}: {found:.17e} {wanted_error:.15e}", set.name);
            // NIST's two perfect fits have no error at all.
            assert!(
                (found - wanted_error).abs() <= 1e-14 * wanted_error.max(1e-9 * largest),
                "{what}"
            );
        }
        let what = format!("{}: {:e} {:e}", set.name, model.deviation, model.r2);
        assert!(
            (model.deviation - set.deviation).abs() <= 1e-14 * set.deviation.max(1e-9),
            "{what}"
        );
        assert!(close(model.r2, set.r2, 1e-13), "{what}");
    }
}

#[test]
fn norris_is_as_certified_in_all_digits() {
    let sets = sets();
    let norris = &sets[0];
    assert_eq!((norris.name, norris.rows.len()), ("Norris", 36));
    let samples: Vec<(i64, f64)> = norris
        .rows
        .iter()
        .map(|row| (row[1].0 * 10_i64.pow(4 - row[1].1), double(row[0]).value()))
        .collect();
    // A unit of x is 10,000 ms.
    let line = Moments::of(&samples).line().unwrap();
    assert!(close(line.slope * 10.0, 1.002_116_818_020_45, 1e-14), "{}", line.slope);
    assert!(
        close(line.slope_error * 10.0, 0.429_796_848_199_937e-3, 1e-13),
        "{}",
        line.slope_error
    );
    assert!(close(line.at(0), -0.262_323_073_774_029, 1e-12), "{}", line.at(0));
    assert!(close(line.residual_deviation, 0.884_796_396_144_373, 1e-13));
    assert!(close(line.r2.unwrap(), 0.999_993_745_883_712, 1e-14));
}
