//! `holdfast series query`

use std::fmt::Write as _;
use std::io::Write as _;

use clap::ArgMatches;

use super::csv_field;
use super::points::{Answer, read, shown_moment};
use crate::base::human::format_duration;
use crate::cli::commands::text;
use crate::cli::failure::{FAILURE, Failure};
use crate::cli::plot::{CURVES_MAX, Curve, Range, Size, plot};
use crate::cli::session::Session;
use crate::cli::table::{shown, table};
use crate::io::client::encoded;
use crate::io::terminal::Screen;

/// Rows of a terminal that a plot leaves for what is around it.
const ROWS_LEFT: usize = 4;

/// `holdfast series query SELECTOR`
pub(super) fn query(arguments: &ArgMatches) -> Result<(), Failure> {
    let session = Session::open(arguments)?;
    let answer = session.send("GET", &path(arguments), None)?;
    if answer.status != 200 {
        return Err(session.failure(answer));
    }
    let output = if arguments.get_flag("json") { "json" } else { text(arguments, "output") };
    let mut out = std::io::stdout().lock();
    if output == "json" {
        out.write_all(&answer.body)?;
        return Ok(out.write_all(b"\n")?);
    }
    let body = read(&answer.body)
        .ok_or_else(|| Failure::new(FAILURE, "the server's answer is none to a query"))?;
    if body.series.is_empty() {
        let selector = text(arguments, "select");
        eprintln!(
            "nothing is known of {} then; to see what there is: holdfast series list",
            shown(selector)
        );
    }
    let printed = match output {
        "csv" => csv(&body),
        "plot" => picture(&body),
        _ => tables(&body),
    };
    out.write_all(printed.as_bytes())?;
    if output == "table" && !body.series.is_empty() {
        eprintln!("{}", how(&body));
    }
    Ok(())
}

/// The call that is meant.
fn path(arguments: &ArgMatches) -> String {
    let mut path = format!("/v1/series/query?select={}", encoded(text(arguments, "select")));
    for name in ["fn", "by", "reduce", "from", "to", "step"] {
        if let Some(value) = arguments.get_one::<String>(name) {
            put(&mut path, format_args!("&{name}={}", encoded(value)));
        }
    }
    path
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("BUG: memory takes everything");
}

/// Of what the points were made.
fn how(answer: &Answer<'_>) -> String {
    let step = format_duration(std::time::Duration::from_millis(answer.step_ms));
    match answer.resolution.as_str() {
        "raw" if answer.step_ms <= 1 => "samples as they are stored".to_owned(),
        "raw" => format!("steps of {step}, of samples"),
        other => format!("steps of {step}, of points of {}", shown(other)),
    }
}

/// A table for each series.
fn tables(answer: &Answer<'_>) -> String {
    let mut out = String::new();
    for (at, series) in answer.series.iter().enumerate() {
        let blank = if at == 0 { "" } else { "\n" };
        put(&mut out, format_args!("{blank}{}\n", shown(&series.name())));
        let row = |(at, value): &(i64, super::points::Value<'_>)| {
            let value = if value.text().is_empty() { "-" } else { value.text() };
            vec![shown_moment(*at), value.to_owned()]
        };
        let rows: Vec<Vec<String>> = series.points.iter().map(row).collect();
        out.push_str(&table(&["TIME", "VALUE"], &rows));
    }
    out
}

/// The first line of a CSV file of points.
pub(super) const CSV_HEAD: &str = "series,time,value\n";

fn csv(answer: &Answer<'_>) -> String {
    let mut out = CSV_HEAD.to_owned();
    for series in &answer.series {
        let name = csv_field(&series.name());
        for (at, value) in &series.points {
            put(&mut out, format_args!("{name},{},{}\n", shown_moment(*at), value.text()));
        }
    }
    out
}

fn picture(answer: &Answer<'_>) -> String {
    let (columns, rows) = Screen::size();
    let more = answer.series.len().saturating_sub(CURVES_MAX);
    if 0 < more {
        eprintln!("{more} more are not shown; choose fewer, or put them together: --by LABELS");
    }
    let curves: Vec<Curve> = answer
        .series
        .iter()
        .take(CURVES_MAX)
        .map(|series| Curve {
            name: series.name(),
            points: series.points.iter().map(|(at, value)| (*at, value.number())).collect(),
            ..Curve::default()
        })
        .collect();
    if curves.is_empty() {
        return String::new();
    }
    let range = Range { from_ms: answer.from_ms, to_ms: answer.to_ms };
    plot(&curves, range, Size { columns, rows: rows.saturating_sub(ROWS_LEFT) })
}

#[cfg(test)]
mod tests {
    use super::super::points::read;
    use super::{csv, how, path, picture, tables};
    use crate::cli::arguments::command;

    const BODY: &str = r#"{"series":[
        {"metric":"cpu","labels":{"host":"a,b"},"points":[[300000,0.5],[600000,null]]},
        {"labels":{"host":"c"},"points":[[300000,"NaN"]]}],
        "resolution":"5m","step_ms":300000,"from":"1970-01-01T00:05:00.000Z","to":"1970-01-01T00:15:00.000Z"}"#;

    #[test]
    fn what_is_asked_for_is_in_the_path() {
        let asked = |given: &[&str]| {
            let all = [&["holdfast", "series", "query"], given].concat();
            let matches = command().try_get_matches_from(all).unwrap();
            let (_, series) = matches.subcommand().unwrap();
            path(series.subcommand().unwrap().1)
        };
        assert_eq!(asked(&["cpu"]), "/v1/series/query?select=cpu&from=-1h&to=now");
        let given = [
            "cpu{a=\"b\"}",
            "--fn",
            "rate",
            "--by",
            "host,job",
            "--reduce",
            "max",
            "--from",
            "-2d",
            "--to",
            "-1h",
            "--step",
            "5m",
        ];
        assert_eq!(
            asked(&given),
            "/v1/series/query?select=cpu%7Ba%3D%22b%22%7D&fn=rate&by=host%2Cjob&reduce=max&from=-2d&to=-1h&step=5m"
        );
    }

    #[test]
    fn points_are_tables_and_lines_and_a_picture() {
        let answer = read(BODY.as_bytes()).unwrap();
        let expected = "\
cpu{host=\"a,b\"}
TIME                      VALUE
1970-01-01T00:05:00.000Z  0.5
1970-01-01T00:10:00.000Z  -

{host=\"c\"}
TIME                      VALUE
1970-01-01T00:05:00.000Z  NaN
";
        assert_eq!(tables(&answer), expected);
        let expected = "\
series,time,value
\"cpu{host=\"\"a,b\"\"}\",1970-01-01T00:05:00.000Z,0.5
\"cpu{host=\"\"a,b\"\"}\",1970-01-01T00:10:00.000Z,
\"{host=\"\"c\"\"}\",1970-01-01T00:05:00.000Z,NaN
";
        assert_eq!(csv(&answer), expected);
        assert_eq!(how(&answer), "steps of 5m, of points of 5m");
        let picture = picture(&answer);
        assert!(picture.contains("cpu{host=\"a,b\"}  last 0.5"), "{picture}");
        assert!(picture.contains("{host=\"c\"}  no values"), "{picture}");
    }
}
