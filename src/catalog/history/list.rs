//! A list of texts in one column, in which SQLite can look for a text.
//!
//! Every item ends with a unit separator. What could be taken for one inside an item is written as two
//! characters, so that whatever an item has in it comes back as it was.

const END: char = '\u{1f}';
const ESCAPE: char = '\u{1e}';

/// The items as one text.
pub(super) fn join(items: &[String]) -> String {
    let mut text = String::with_capacity(items.iter().map(|item| item.len() + 1).sum());
    for item in items {
        for c in item.chars() {
            match c {
                END => text.extend([ESCAPE, 'u']),
                ESCAPE => text.extend([ESCAPE, 'r']),
                c => text.push(c),
            }
        }
        text.push(END);
    }
    text
}

/// The items of a text that [`join`] wrote; `None` when it did not.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    let mut items = Vec::new();
    let mut item = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            END => items.push(std::mem::take(&mut item)),
            ESCAPE => item.push(match chars.next()? {
                'u' => END,
                'r' => ESCAPE,
                _ => return None,
            }),
            c => item.push(c),
        }
    }
    item.is_empty().then_some(items)
}

#[cfg(test)]
mod tests {
    use super::{join, split};

    #[test]
    fn a_list_comes_back_as_it_was() {
        for items in
            [&[][..], &[""], &["a"], &["", ""], &["a\u{1f}b", "\u{1e}", "\u{1e}u", "\u{e4}\0"]]
        {
            let items: Vec<String> = items.iter().map(|&item| item.to_owned()).collect();
            assert_eq!(split(&join(&items)), Some(items));
        }
    }

    #[test]
    fn what_is_no_list_is_found_out() {
        for text in ["a", "a\u{1f}b", "\u{1e}x\u{1f}", "\u{1e}"] {
            assert_eq!(split(text), None, "{text:?}");
        }
    }
}
