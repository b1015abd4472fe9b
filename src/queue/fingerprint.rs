//! What makes two failures the same: a number computed from an error's class, the shape of its message and
//! the place where it was raised.
//!
//! ```text
//! fingerprint = mix(FNV-1a-64(class 0x00 shape(message) 0x00 place))
//! ```
//!
//! The shape of a text is what is left when all that differs from one occurrence to the next is
//! replaced by `#`: numbers, hexadecimal, UUIDs, ids and tokens, quoted texts, e-mail addresses, what
//! follows `?` in an address, names of temporary files. Letters stay as they are, runs of white space are
//! one space. Of the message the first line counts that is not empty.
//!
//! The place is the innermost frame of the trace without its line number and arguments: the first of PHP,
//! Node, Ruby and Java, the last of Python. A trace without frames, as the end of a command's stderr, is
//! stood for by the shape of its last line, where commands say why they end.
//!
//! **Fixed for ever.** Groups of failures are kept under this number. A change of anything here would split
//! every group in two; the golden numbers in the tests must never change.

use crate::base::limits::{
    ERROR_CLASS_BYTES_MAX, ERROR_MESSAGE_BYTES_MAX, ERROR_SHAPE_BYTES_MAX, ERROR_TRACE_BYTES_MAX,
};
use crate::base::rng::Rng;

/// The number of the group to which a failure belongs.
pub fn fingerprint(class: &str, message: &str, trace: Option<&str>) -> u64 {
    // The rest of an anonymous class of PHP, behind a zero byte, is a path and an address.
    let class = class.split('\0').next().unwrap_or("");
    let class = cut(class, ERROR_CLASS_BYTES_MAX).trim_matches(is_space);
    let message = message_shape(message);
    let place = place(cut(trace.unwrap_or(""), ERROR_TRACE_BYTES_MAX));

    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in [class, "\0", &message, "\0", &place].into_iter().flat_map(str::bytes) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    Rng::from_seed(hash).next_u64()
}

/// The shape of the message of an error, as it counts for [`fingerprint`] and can be shown for a group.
pub fn message_shape(message: &str) -> String {
    shape(lines(cut(message, ERROR_MESSAGE_BYTES_MAX)).next().unwrap_or(""))
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The lines that are not empty, without the white space around them.
fn lines(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split('\n').map(|line| line.trim_matches(is_space)).filter(|line| !line.is_empty())
}

// Not those of the standard library: they grow with Unicode, and this is fixed for ever.

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c.is_ascii_control() || c == '\u{a0}'
}

/// Letters and digits of ASCII, and everything else in which people write words.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || ('\u{c0}' <= c && !('\u{2000}'..='\u{2bff}').contains(&c) && c != '\u{3000}')
}

const MARK: char = '#';

/// Replaces what differs between occurrences.
fn shape(line: &str) -> String {
    let mut out = String::new();
    let mut at = 0;
    while let Some(c) = line[at..].chars().next()
        && out.len() < ERROR_SHAPE_BYTES_MAX
    {
        let rest = &line[at..];
        if is_space(c) {
            if !out.ends_with(' ') {
                out.push(' ');
            }
            at += c.len_utf8();
        } else if let Some(quoted) = quoted(&line[..at], rest) {
            out.push(MARK);
            at += quoted;
        } else if is_of_word(c) {
            let end = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len());
            write_word(&mut out, &rest[..end]);
            at += end;
        } else {
            out.push(c);
            at += c.len_utf8();
        }
    }
    cut(&out, ERROR_SHAPE_BYTES_MAX).trim_matches(is_space).to_owned()
}

/// Letters, digits and what stands inside addresses, paths, numbers and ids.
fn is_of_word(c: char) -> bool {
    is_letter(c) || "_-+.@/\\?&=%~:$".contains(c)
}

/// The length of the quoted text with which `rest` begins, if it does. A quote behind a letter is an
/// apostrophe, but for `b'bytes'`, and one that is not closed is no quote.
fn quoted(before: &str, rest: &str) -> Option<usize> {
    let open = rest.chars().next()?;
    let close = match open {
        '"' | '\'' | '`' => open,
        '\u{201c}' | '\u{201e}' => '\u{201d}',
        '\u{2018}' | '\u{201a}' => '\u{2019}',
        '\u{ab}' => '\u{bb}',
        _ => return None,
    };
    let word = before.strip_suffix(['b', 'u']).unwrap_or(before);
    if word.ends_with(is_letter) {
        return None;
    }
    let inside = &rest[open.len_utf8()..];
    let mut closes = inside.match_indices(close).map(|(at, _)| at + close.len_utf8());
    // An apostrophe inside is no end: 'can't'.
    let end = closes.find(|&end| !inside[end..].starts_with(is_letter))?;
    Some(open.len_utf8() + end)
}

/// What ends a sentence or introduces the next word is no part of an address.
const ENDS: [char; 3] = ['.', ':', '?'];

/// Writes a run of [`is_of_word`], part by part.
fn write_word(out: &mut String, word: &str) {
    let body = word.trim_end_matches(ENDS);
    let (body, query) = body.split_once('?').map_or((body, ""), |(path, _)| (path, "?#"));
    let (body, email) = match email_at(body) {
        Some(at) => (&body[..at], true),
        None => (body, false),
    };
    let kept = write_temporary(out, body);
    let mut rest = &body[kept..];
    while let Some(c) = rest.chars().next() {
        let taken = if let Some(uuid) = uuid(rest) {
            mark(out);
            uuid
        } else if is_letter(c) {
            let end = rest.find(|c: char| !is_letter(c)).unwrap_or(rest.len());
            write_part(out, &rest[..end]);
            end
        } else {
            write_separator(out, c, &rest[c.len_utf8()..]);
            c.len_utf8()
        };
        rest = &rest[taken..];
    }
    if email {
        mark(out);
    }
    out.push_str(query);
    out.push_str(&word[word.trim_end_matches(ENDS).len()..]);
}

/// Writes the folder of a temporary file and a mark for its name; gives how much of `word` that was.
fn write_temporary(out: &mut String, word: &str) -> usize {
    const FOLDERS: [&str; 4] = ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/"];
    let Some(folder) = FOLDERS.iter().find(|folder| word.starts_with(**folder)) else {
        return 0;
    };
    out.push_str(folder);
    out.push(MARK);
    word.find(':').unwrap_or(word.len()).max(folder.len())
}

/// A dot or a sign between or before digits belongs to the number.
fn write_separator(out: &mut String, separator: char, rest: &str) {
    let digit_follows = rest.starts_with(|c: char| c.is_ascii_digit());
    let in_number = matches!(separator, '.' | '-' | '+') && digit_follows;
    if !in_number || out.ends_with(is_letter) {
        out.push(separator);
    }
}

/// A mark, once: what stands beside a mark was one thing with it.
fn mark(out: &mut String) {
    if !out.ends_with(MARK) {
        out.push(MARK);
    }
}

/// Letters and digits: kept when there are no digits in them, replaced when they look drawn by chance, and
/// otherwise with a mark for each run of digits.
fn write_part(out: &mut String, part: &str) {
    if is_drawn(part) {
        return mark(out);
    }
    for c in part.chars() {
        if c.is_ascii_digit() { mark(out) } else { out.push(c) }
    }
}

/// Ids and tokens of ours, hexadecimal, and the random names of others.
fn is_drawn(part: &str) -> bool {
    let bytes = part.as_bytes();
    let hex = part.strip_prefix("0x").or(part.strip_prefix("0X")).unwrap_or(part);
    let is_hex = !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_digit = bytes.iter().any(u8::is_ascii_digit);
    if is_hex && (hex.len() < part.len() || (8 <= hex.len() && has_digit)) {
        return true;
    }
    // 13 characters of an id, 39 of a lease.
    let is_own = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z') && !b"ilou".contains(byte);
    if matches!(bytes.len(), 13 | 39) && bytes.iter().all(is_own) {
        return true;
    }
    let runs = bytes.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    8 <= bytes.len() && 2 <= runs.filter(|run| run[0].is_ascii_digit()).count()
}

/// The length of the UUID at the beginning of `text`, if there is one.
fn uuid(text: &str) -> Option<usize> {
    const BYTES: usize = 36;
    let candidate = text.as_bytes().get(..BYTES)?;
    let fits = candidate.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    // Only now is it known that a character ends there.
    (fits && !text[BYTES..].starts_with(is_letter)).then_some(BYTES)
}

/// Where in `word` an e-mail address begins that ends with it: `bob@example.com`, `to=bob@example.com`.
fn email_at(word: &str) -> Option<usize> {
    let (name, host) = word.split_once('@')?;
    let begin = name.rfind([':', '=', '/']).map_or(0, |at| at + 1);
    let fits = |text: &str, also: &str| text.chars().all(|c| is_letter(c) || also.contains(c));
    let name = &name[begin..];
    let is_email = !name.is_empty() && fits(name, "._+-") && host.contains('.') && fits(host, ".-");
    is_email.then_some(begin)
}

/// Where the error was raised, or what the trace ends with.
fn place(trace: &str) -> String {
    let mut frames = lines(trace).filter_map(frame);
    let Some(first) = frames.next() else {
        return shape(lines(trace).next_back().unwrap_or(""));
    };
    let innermost = match first.language {
        // Python tells the story from its beginning.
        Language::Python => frames.rfind(|frame| frame.language == Language::Python),
        Language::Other => None,
    };
    let Frame { file, function, .. } = innermost.unwrap_or(first);
    format!("{} {}", shape(file), shape(function))
}

#[derive(PartialEq, Eq)]
enum Language {
    Python,
    Other,
}

struct Frame<'t> {
    language: Language,
    file: &'t str,
    function: &'t str,
}

/// Reads a line of a trace, if it is one of a call.
fn frame(line: &str) -> Option<Frame<'_>> {
    python(line).or_else(|| php(line)).or_else(|| node(line)).or_else(|| ruby(line))
}

/// `File "/app/x.py", line 3, in work`
fn python(line: &str) -> Option<Frame<'_>> {
    let (file, rest) = line.strip_prefix("File \"")?.split_once("\", line ")?;
    let function = rest.split_once(", in ").map_or("", |(_, function)| function);
    Some(Frame { language: Language::Python, file, function })
}

/// `#0 /app/x.php(12): App\Mail->send('a', 5)`, `#1 [internal function]: f()`, `#2 {main}`
fn php(line: &str) -> Option<Frame<'_>> {
    let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (file, call) = rest.split_once(": ").unwrap_or((rest, ""));
    let file = match file.trim_end().strip_suffix(')').and_then(|file| file.rsplit_once('(')) {
        Some((file, _)) => file,
        None if matches!(file, "[internal function]" | "{main}") => file,
        None => return None,
    };
    Some(Frame { language: Language::Other, file, function: before_arguments(call) })
}

/// What stands for the file of a frame that has none.
const NOWHERE: [&str; 4] = ["<anonymous>", "native", "Native Method", "Unknown Source"];

/// `at send (/app/mail.js:12:34)`, `at /app/mail.js:12:34`, `at shop.Mail.send(Mail.java:12)`
fn node(line: &str) -> Option<Frame<'_>> {
    let call = line.strip_prefix("at ")?;
    let (function, file) = match call.strip_suffix(')').and_then(|call| call.rsplit_once('(')) {
        Some((function, file)) => (function.trim_end(), file),
        None => ("", call),
    };
    let path = without_numbers(file);
    // A line of prose can begin with "at": a frame has a line number, or is said to have none.
    let is_frame = path.len() < file.len() || NOWHERE.contains(&file);
    is_frame.then_some(Frame { language: Language::Other, file: path, function })
}

/// `app/mail.rb:12:in 'Mail#send'`, `from app/mail.rb:12:in 'send'`; before Ruby 3.4 the first quote is a
/// backtick.
fn ruby(line: &str) -> Option<Frame<'_>> {
    let line = line.strip_prefix("from ").unwrap_or(line);
    let (file, rest) = line.split_once(":in ")?;
    let (path, number) = file.rsplit_once(':')?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let name = rest.strip_prefix(['`', '\''])?;
    // The first frame is followed by the message.
    let function = name.split_once('\'').map_or(name, |(name, _)| name);
    Some(Frame { language: Language::Other, file: path, function })
}

/// A call without what it was called with.
fn before_arguments(call: &str) -> &str {
    call.find('(').map_or(call, |at| &call[..at])
}

/// A file without `:12:34` behind it.
fn without_numbers(file: &str) -> &str {
    let mut file = file;
    for _ in 0..2 {
        match file.rsplit_once(':') {
            Some((before, number))
                if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                file = before;
            }
            _ => break,
        }
    }
    file
}

#[cfg(test)]
mod tests;
