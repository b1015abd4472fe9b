//! What somebody may have meant: the nearest of the words that exist.
//!
//! The work is bounded: a word much longer than every candidate is compared with none.

/// The longest word that is compared.
const WORD_BYTES_MAX: usize = 64;

/// The candidate nearest to `word`, if one is near: a third of it may be mistyped, or it begins a
/// candidate's name (`token` for `token_file`).
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    if WORD_BYTES_MAX < word.len() {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let lower = candidate.to_ascii_lowercase();
        let begins =
            3 <= word.len() && lower.strip_prefix(&word).is_some_and(|r| r.starts_with('_'));
        let steps = if begins { 1 } else { distance(word.as_bytes(), lower.as_bytes()) };
        if steps <= word.len().max(lower.len()).div_ceil(3) && best.is_none_or(|(b, _)| steps < b) {
            best = Some((steps, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// How many bytes to insert, delete, replace or swap with their neighbour to make `a` of `b`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    // Three rows of the table: of a[..i - 1], of a[..i], and the one before, for swaps.
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(above[j] + 1).min(row[j - 1] + 1);
            if 1 < i && 1 < j && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn the_distance_counts_mistakes_of_typing() {
        for (a, b, steps) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("listen", "listen", 0),
            ("lisen", "listen", 1),
            ("lsiten", "listen", 1),
            ("liston", "listen", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), steps, "{a} {b}");
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let words = ["listen", "socket", "token_file", "hosts"];
        assert_eq!(nearest("Lisen", words), Some("listen"));
        assert_eq!(nearest("host", words), Some("hosts"));
        assert_eq!(nearest("token", words), Some("token_file"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest(&"listen".repeat(100), words), None);
        assert_eq!(nearest("\u{fc}\u{fc}", words), None);
    }
}
