//! `holdfast trend`: where queues, workers and series go, in a sentence, in figures and in a picture.

mod picture;
mod told;

use std::io::{IsTerminal as _, Write as _};

use clap::ArgMatches;

use self::told::About;
use super::commands::{cell, print_json, text};
use super::failure::{FAILURE, Failure};
use super::plot::{CURVES_MAX, Size};
use super::series::name;
use super::session::Session;
use super::table::shown;
use crate::base::limits::TREND_SERIES_MAX;
use crate::io::client::{Json, encoded};
use crate::io::terminal::Screen;

/// Rows of a picture: the figures above it are to be seen too.
const ROWS_MAX: usize = 18;
/// Rows of a terminal that a picture leaves free.
const ROWS_LEFT: usize = 4;

/// `holdfast trend ...`
pub(super) fn trend(arguments: &ArgMatches) -> Result<(), Failure> {
    let (path, title, arguments) = match arguments.subcommand() {
        Some(("queue-depth", arguments)) => {
            let queue = text(arguments, "queue");
            (
                format!("queue-depth/{}", encoded(queue)),
                format!("depth of queue {queue}"),
                arguments,
            )
        }
        Some(("throughput", arguments)) => {
            let queue = text(arguments, "queue");
            let title = format!("throughput of queue {queue}");
            (format!("throughput/{}", encoded(queue)), title, arguments)
        }
        Some(("workers", arguments)) => {
            ("worker-efficiency".to_owned(), "efficiency of the workers".to_owned(), arguments)
        }
        Some(("series", arguments)) => ("series".to_owned(), String::new(), arguments),
        Some(_) | None => unreachable!("BUG: the parser knows no other command"),
    };
    let json = arguments.get_flag("json");
    let draw = arguments.get_flag("plot") || (!json && std::io::stdout().is_terminal());
    let path = asked(&path, arguments, draw);
    let body = Session::open(arguments)?.ask("GET", &path, None)?.body;
    if json {
        print_json(&body);
        return Ok(());
    }
    let size = draw.then(|| {
        let (columns, rows) = Screen::size();
        Size { columns, rows: rows.saturating_sub(ROWS_LEFT).min(ROWS_MAX) }
    });
    let found = if title.is_empty() { series(&body)? } else { vec![(title, &body)] };
    if found.is_empty() {
        eprintln!("there is no such series; to see what there is: holdfast series list");
    }
    let unit = |body: &Json| match body["metric"].as_str() {
        Some(metric) => unit_of(metric),
        None if path.starts_with("/v1/trends/worker-efficiency") => "%",
        None => "",
    };
    let mut out = std::io::stdout().lock();
    out.write_all(blocks(&found, unit, size).as_bytes())?;
    Ok(out.flush()?)
}

/// The call that is meant.
fn asked(path: &str, arguments: &ArgMatches, draw: bool) -> String {
    let mut pairs = Vec::new();
    for name in ["select", "fn", "period", "interval", "threshold", "when"] {
        // Only series are selected.
        if let Ok(Some(value)) = arguments.try_get_one::<String>(name) {
            pairs.push(format!("{name}={}", encoded(value)));
        }
    }
    if draw {
        pairs.push("points=1".to_owned());
    }
    let sign = if pairs.is_empty() { "" } else { "?" };
    format!("/v1/trends/{path}{sign}{}", pairs.join("&"))
}

/// Each series by its name.
fn series(body: &Json) -> Result<Vec<(String, &Json)>, Failure> {
    let items = body["items"].as_array();
    let items = items.ok_or_else(|| Failure::new(FAILURE, "the server's answer is no trends"))?;
    Ok(items.iter().take(TREND_SERIES_MAX).map(named).collect())
}

/// A series as selectors spell it, and all of it.
fn named(item: &Json) -> (String, &Json) {
    let labels = item["labels"].as_object().into_iter().flatten();
    let labels: Vec<(String, String)> =
        labels.map(|(name, value)| (name.clone(), cell(value))).collect();
    (name(item["metric"].as_str(), &labels), item)
}

/// What the values of a metric are, by its name.
fn unit_of(metric: &str) -> &'static str {
    match metric.rsplit_once('_') {
        Some((_, "percent")) => "%",
        Some((_, "bytes")) => "B",
        Some((_, "seconds")) => "s",
        _ => "",
    }
}

/// A block for each; the first few of them are drawn.
fn blocks(
    found: &[(String, &Json)],
    unit: impl Fn(&Json) -> &'static str,
    size: Option<Size>,
) -> String {
    let mut out = String::new();
    for (at, (title, body)) in found.iter().enumerate() {
        if 0 < at {
            out.push('\n');
        }
        out.push_str(&told::told(body, &About { title: &shown(title), unit: unit(body) }));
        let size = size.filter(|_| at < CURVES_MAX);
        if let Some(picture) = size.and_then(|size| picture::picture(body, title, size)) {
            out.push('\n');
            out.push_str(&picture);
        }
    }
    if size.is_some() && CURVES_MAX < found.len() {
        eprintln!("{} more are not drawn; choose fewer to see them", found.len() - CURVES_MAX);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{asked, blocks, series, unit_of};
    use crate::cli::command;
    use serde_json::json;

    #[test]
    fn what_is_asked_for_is_in_the_path() {
        let path = |words: &str, path: &str| {
            let words = ["holdfast", "trend"].into_iter().chain(words.split(' '));
            let matches = command().try_get_matches_from(words).unwrap();
            let (_, trend) = matches.subcommand().unwrap();
            asked(path, trend.subcommand().unwrap().1, false)
        };
        assert_eq!(path("queue-depth mail", "x"), "/v1/trends/x");
        assert_eq!(
            path(
                "series cpu{a=\"b\"} --fn rate --period 7d --interval 1h --threshold -5 --when below",
                "series"
            ),
            "/v1/trends/series?select=cpu%7Ba%3D%22b%22%7D&fn=rate&period=7d&interval=1h&threshold=-5&when=below"
        );
    }

    #[test]
    fn the_end_of_a_metrics_name_is_its_unit() {
        let units =
            ["server_cpu_usage_percent", "disk_bytes", "took_seconds", "sent_bytes_total", "up"];
        assert_eq!(units.map(unit_of), ["%", "B", "s", "", ""]);
    }

    #[test]
    fn each_series_is_a_block_of_its_own() {
        let item = |metric: &str| {
            json!({
                "metric": metric, "labels": { "host": "a" }, "available": false, "data_points": 1,
                "reason": "there are fewer than three points"
            })
        };
        let body = json!({ "items": [item("cpu"), item("up\u{1b}")] });
        let text = blocks(&series(&body).unwrap(), |_| "", None);
        let expected = "\
cpu{host=\"a\"}
nothing can be said: there are fewer than three points (1 point)

up\\u{1b}{host=\"a\"}
nothing can be said: there are fewer than three points (1 point)
";
        assert_eq!(text, expected);
        assert!(series(&json!({ "available": true })).is_err());
    }
}
