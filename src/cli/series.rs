//! `holdfast series`: what series there are, their points, and their samples.

mod export;
mod points;
mod query;
mod write;

use std::io::Write as _;

use clap::ArgMatches;

use super::commands::cell;
use super::failure::Failure;
use super::session::Session;
use super::table::table;
use crate::io::client::{Json, encoded};

/// `holdfast series ...`
pub(super) fn series(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("list", arguments)) => list(arguments),
        Some(("query", arguments)) => query::query(arguments),
        Some(("write", arguments)) => write::write(arguments),
        Some(("export", arguments)) => export::export(arguments),
        Some(_) | None => unreachable!("BUG: the parser knows no other command"),
    }
}

/// The list of series, those that are meant.
fn list_path(selector: Option<&str>) -> String {
    selector.map_or("/v1/series".to_owned(), |text| format!("/v1/series?match={}", encoded(text)))
}

/// `holdfast series list`: page by page, there may be many of them.
fn list(arguments: &ArgMatches) -> Result<(), Failure> {
    let path = list_path(arguments.get_one::<String>("match").map(String::as_str));
    let json = arguments.get_flag("json");
    let mut printed = 0;
    Session::open(arguments)?.pages(&path, &mut |page| {
        let text = if json { json_items(page, printed) } else { listed(page, printed) };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        printed += page.len();
        Ok(())
    })?;
    match (json, printed) {
        (true, 0) => println!("[]"),
        (true, _) => println!("\n]"),
        (false, 0) => eprintln!("there is no such series"),
        (false, _) => {}
    }
    Ok(())
}

/// A page of a list, behind so many items.
fn json_items(page: &[Json], printed: usize) -> String {
    let sign = |at: usize| if at == 0 { "[\n" } else { ",\n" };
    let items =
        page.iter().enumerate().map(|(at, item)| [sign(printed + at), &item.to_string()].concat());
    items.collect()
}

fn listed(page: &[Json], printed: usize) -> String {
    let row = |item: &Json| {
        let labels = item["labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(name, value)| (name.clone(), cell(value))).collect::<Vec<_>>();
        vec![cell(&item["kind"]), name(item["metric"].as_str(), &labels)]
    };
    let text = table(&["KIND", "SERIES"], &page.iter().map(row).collect::<Vec<_>>());
    // One head is enough; the kind's column may be a little narrower on another page.
    let skip = usize::from(0 < printed);
    text.split_inclusive('\n').skip(skip).collect()
}

/// A series as selectors and expositions spell it; `{}` has neither metric nor labels.
pub(super) fn name(metric: Option<&str>, labels: &[(String, String)]) -> String {
    let pair = |(name, value): &(String, String)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    let labels = labels.iter().map(pair).collect::<Vec<_>>().join(",");
    match metric {
        Some(metric) if labels.is_empty() => metric.to_owned(),
        metric => format!("{}{{{labels}}}", metric.unwrap_or("")),
    }
}

/// A field of a CSV file.
fn csv_field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{csv_field, json_items, list_path, listed, name};
    use serde_json::json;

    #[test]
    fn a_series_is_called_as_selectors_spell_it() {
        let labels = [("a".to_owned(), "x\"\\\n".to_owned()), ("b".to_owned(), "1".to_owned())];
        assert_eq!(name(Some("cpu"), &labels), r#"cpu{a="x\"\\\n",b="1"}"#);
        assert_eq!(name(None, &labels[1..]), r#"{b="1"}"#);
        assert_eq!((name(Some("cpu"), &[]), name(None, &[])), ("cpu".to_owned(), "{}".to_owned()));
    }

    #[test]
    fn a_list_is_one_table_or_one_list_however_many_pages_it_has() {
        let page = [
            json!({ "metric": "cpu", "labels": { "host": "a\u{1b}" }, "kind": "gauge" }),
            json!({ "metric": "up", "labels": {}, "kind": "counter" }),
        ];
        let expected = "KIND     SERIES\ngauge    cpu{host=\"a\\u{1b}\"}\ncounter  up\n";
        assert_eq!(listed(&page, 0), expected);
        assert_eq!(listed(&page[1..], 2), "counter  up\n");
        let text = format!("{}{}\n]", json_items(&page, 0), json_items(&page, 2));
        let read: serde_json::Value = text.parse().unwrap();
        assert_eq!(read, json!([page[0], page[1], page[0], page[1]]));
    }

    #[test]
    fn a_selector_goes_into_the_path() {
        assert_eq!(list_path(None), "/v1/series");
        assert_eq!(list_path(Some("cpu{a=\"&\"}")), "/v1/series?match=cpu%7Ba%3D%22%26%22%7D");
    }

    #[test]
    fn fields_of_csv_are_quoted_where_they_must_be() {
        let fields = ["plain", "a,b", "a\"b", "a\nb"].map(csv_field);
        assert_eq!(fields, ["plain", "\"a,b\"", "\"a\"\"b\"", "\"a\nb\""]);
    }
}
