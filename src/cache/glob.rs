//! Patterns for keys.
//!
//! `*` stands for any characters, `?` for one, `[abc]` and `[a-z]` for one of these, `[!x]` and `[^x]` for
//! one that is none of these; `\` takes the next character as it is. Characters, not bytes.
//!
//! Matching goes forward and falls back to the last star only: at most key times pattern steps, no
//! recursion, whatever the pattern.

use crate::base::limits::GLOB_BYTES_MAX;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Box<[Part]>,
    /// What each match begins with.
    prefix: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    One(char),
    Any,
    Many,
    Of { not: bool, ranges: Box<[(char, char)]> },
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGlob {
    /// Beyond the bound.
    #[error("a pattern has at most {GLOB_BYTES_MAX} bytes; this one has {0}")]
    TooLong(usize),
    /// A bracket without its end.
    #[error("the [ at byte {0} is never closed; a bracket itself is written \\[")]
    Unclosed(usize),
    /// Nothing behind the escape.
    #[error("the \\ at byte {0} has nothing behind it; a backslash itself is written \\\\")]
    Trailing(usize),
}

type Chars<'t> = std::iter::Peekable<std::str::CharIndices<'t>>;

impl Glob {
    /// Reads `text`.
    pub fn parse(text: &str) -> Result<Glob, BadGlob> {
        if GLOB_BYTES_MAX < text.len() {
            return Err(BadGlob::TooLong(text.len()));
        }
        let mut parts = Vec::new();
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            parts.push(match c {
                '*' if parts.last() == Some(&Part::Many) => continue,
                '*' => Part::Many,
                '?' => Part::Any,
                '[' => bracket(at, &mut chars)?,
                '\\' => Part::One(escaped(at, &mut chars)?),
                c => Part::One(c),
            });
        }
        let literal = parts.iter().map_while(|part| match part {
            Part::One(c) => Some(*c),
            Part::Any | Part::Many | Part::Of { .. } => None,
        });
        let prefix = literal.collect::<String>().into();
        Ok(Glob { parts: parts.into(), prefix })
    }

    /// What every match begins with, for a quick test.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        if !text.starts_with(&*self.prefix) {
            return false;
        }
        let (mut part, mut rest) = (0, text);
        // Where to go on when what follows the last star did not match: that star takes one more.
        let mut star: Option<(usize, &str)> = None;
        loop {
            let next = rest.chars().next();
            match (self.parts.get(part), next) {
                (Some(Part::Many), _) => {
                    part += 1;
                    star = Some((part, rest));
                    continue;
                }
                (None, None) => return true,
                (Some(one), Some(c)) if one.takes(c) => {
                    part += 1;
                    rest = &rest[c.len_utf8()..];
                    continue;
                }
                _ => {}
            }
            let Some((after, from)) = star else { return false };
            let Some(c) = from.chars().next() else { return false };
            rest = &from[c.len_utf8()..];
            part = after;
            star = Some((after, rest));
        }
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::One(own) => *own == c,
            Part::Any => true,
            Part::Many => false,
            Part::Of { not, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *not
            }
        }
    }
}

fn escaped(at: usize, chars: &mut Chars<'_>) -> Result<char, BadGlob> {
    chars.next().map(|(_, c)| c).ok_or(BadGlob::Trailing(at))
}

/// What stands between brackets; the first one is taken, at `open`. A `]` right behind it stands for itself.
fn bracket(open: usize, chars: &mut Chars<'_>) -> Result<Part, BadGlob> {
    let not = chars.next_if(|(_, c)| matches!(c, '!' | '^')).is_some();
    let mut ranges = Vec::new();
    loop {
        let (at, c) = chars.next().ok_or(BadGlob::Unclosed(open))?;
        let low = match c {
            ']' if !ranges.is_empty() => break,
            '\\' => escaped(at, chars)?,
            c => c,
        };
        let mut ahead = chars.clone();
        let dash = ahead.next().is_some_and(|(_, c)| c == '-');
        // A dash before the end of the bracket stands for itself.
        if !dash || ahead.peek().is_none_or(|(_, c)| *c == ']') {
            ranges.push((low, low));
            continue;
        }
        *chars = ahead;
        let (at, c) = chars.next().ok_or(BadGlob::Unclosed(open))?;
        let high = if c == '\\' { escaped(at, chars)? } else { c };
        ranges.push((low, high));
    }
    Ok(Part::Of { not, ranges: ranges.into() })
}

#[cfg(test)]
mod tests {
    use super::{BadGlob, Glob};
    use crate::base::rng::Rng;
    use crate::testing::seeds;

    #[test]
    fn a_pattern_matches_whole_keys() {
        let check = |pattern: &str, yes: &[&str], no: &[&str]| {
            let glob = Glob::parse(pattern).unwrap();
            for text in yes {
                assert!(glob.matches(text), "{pattern:?} matches {text:?}");
                assert!(text.starts_with(glob.prefix()), "{pattern:?}");
            }
            for text in no {
                assert!(!glob.matches(text), "{pattern:?} does not match {text:?}");
            }
        };
        check("user:*", &["user:", "user:1", "user:1:name"], &["use", "xuser:1"]);
        check("*:name", &["user:1:name", ":name"], &["user:1:names", "name"]);
        check("a?c", &["abc", "a\u{e4}c", "a?c"], &["ac", "abbc"]);
        check("[abc]x", &["ax", "bx", "cx"], &["dx", "x", "abx"]);
        check("[a-c0]x", &["ax", "bx", "0x"], &["dx", "-x"]);
        check("[!a-c]", &["d", "\u{e4}"], &["a", ""]);
        check("[^a]", &["^", "b"], &["a"]);
        check("[]]", &["]"], &["[", ""]);
        check("[a-]", &["a", "-"], &["b"]);
        check("[\\]-a]", &["]", "^", "a"], &["b"]);
        check("\\*\\?\\[", &["*?["], &["a?["]);
        check("**a**", &["a", "bab"], &["b"]);
        check("", &[""], &["a"]);
        check("*", &["", "anything\n"], &[]);
        check("a*b*c", &["abc", "aXbXc", "abcbc"], &["acb", "ab"]);
    }

    #[test]
    fn a_bad_pattern_says_where() {
        assert_eq!(Glob::parse("ab[c"), Err(BadGlob::Unclosed(2)));
        assert_eq!(Glob::parse("[]"), Err(BadGlob::Unclosed(0)));
        assert_eq!(Glob::parse("[a-"), Err(BadGlob::Unclosed(0)));
        assert_eq!(Glob::parse("\u{e4}\\"), Err(BadGlob::Trailing(2)));
        assert_eq!(Glob::parse("[a\\"), Err(BadGlob::Trailing(2)));
        assert_eq!(Glob::parse(&"x".repeat(1025)), Err(BadGlob::TooLong(1025)));
        assert!(Glob::parse(&"x".repeat(1024)).is_ok());
    }

    #[test]
    fn many_stars_take_no_longer_than_pattern_times_key() {
        let glob = Glob::parse(&"a*".repeat(512)).unwrap();
        assert!(!glob.matches(&format!("{}b", "b".repeat(1000))));
        let glob = Glob::parse(&format!("{}b", "a*".repeat(500))).unwrap();
        assert!(!glob.matches(&"a".repeat(1024)));
    }

    /// By the definition, for short ones.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => {
                naive(&pattern[1..], text) || !text.is_empty() && naive(pattern, &text[1..])
            }
            (Some('?'), Some(_)) => naive(&pattern[1..], &text[1..]),
            (Some(p), Some(t)) if p == t => naive(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    #[test]
    fn random_patterns_match_as_by_the_definition() {
        for seed in seeds(5000) {
            let mut rng = Rng::from_seed(seed);
            let pick = |rng: &mut Rng, from: &[char]| {
                let length = rng.index(8);
                (0..length).map(|_| from[rng.index(from.len())]).collect::<Vec<char>>()
            };
            let pattern = pick(&mut rng, &['a', 'b', '\u{e4}', '*', '?']);
            let text = pick(&mut rng, &['a', 'b', '\u{e4}']);
            let glob = Glob::parse(&pattern.iter().collect::<String>()).unwrap();
            let whole = text.iter().collect::<String>();
            assert_eq!(
                glob.matches(&whole),
                naive(&pattern, &text),
                "seed {seed}: {pattern:?} {whole:?}"
            );
        }
    }
}
