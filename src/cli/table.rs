//! Tables for people: columns side by side, nothing around them.

use super::commands::cell;
use crate::io::client::Json;

/// Rows of cells under a head, as wide as they need to be. Control characters are shown, not sent.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let clean = |row: &Vec<String>| row.iter().map(|cell| shown(cell)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = std::iter::once(&head).chain(rows).map(clean).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let gap = 2 + width - cell.chars().count();
            line.extend(std::iter::repeat_n(' ', gap));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `text` without anything that a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A number of bytes as people read it.
pub(super) fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut rest, mut unit) = (n, 0, 0);
    while 1024 <= whole && unit + 1 < units.len() {
        (whole, rest, unit) = (whole / 1024, whole % 1024, unit + 1);
    }
    if unit == 0 {
        format!("{whole} B")
    } else {
        format!("{whole}.{} {}", rest * 10 / 1024, units[unit])
    }
}

/// Each member of an object on a line, those of objects within it with a dot. Lists of objects are left to
/// `--json`.
pub(super) fn lines(value: &Json) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    collect(value, "", &mut rows);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(String, String)| format!("{name:<width$}  {value}\n");
    rows.iter().map(line).collect()
}

/// An answer of the API is at most as deep as JSON is read.
fn collect(value: &Json, name: &str, rows: &mut Vec<(String, String)>) {
    match value {
        Json::Object(members) => {
            for (key, value) in members {
                let key = shown(key);
                let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                collect(value, &name, rows);
            }
        }
        Json::Array(items) if items.iter().any(Json::is_object) => {
            rows.push((name.to_owned(), format!("{} (see --json)", items.len())));
        }
        other => rows.push((name.to_owned(), shown(&cell(other)))),
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, lines, table};
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "long cell".to_owned()],
            vec!["bcd\x1b[2J".to_owned(), "x".into()],
        ];
        let text = table(&["NAME", "WHAT"], &rows);
        let expected = "\
NAME          WHAT
a             long cell
bcd\\u{1b}[2J  x
";
        assert_eq!(text, expected);
    }

    #[test]
    fn bytes_have_a_unit() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }

    #[test]
    fn an_object_is_shown_line_by_line() {
        let value = json!({
            "queue": "mail\u{1b}", "settings": { "rate": "20/s", "retention": { "done": null } },
            "types": [{ "type": "a" }, { "type": "b" }], "tags": ["x", "y"]
        });
        let expected = "\
queue                    mail\\u{1b}
settings.rate            20/s
settings.retention.done  -
tags                     x,y
types                    2 (see --json)
";
        assert_eq!(lines(&value), expected);
    }
}
