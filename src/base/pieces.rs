//! JSON cut along its own commas, into the pieces of text that it is made of.
//!
//! Nothing is built of the pieces and nothing in them is looked at: whoever reads a piece judges it. What
//! comes out is always a part of what went in.

/// Whether JSON allows this byte between two tokens.
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Without the space around it.
pub fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}

/// Walks over what stands between brackets.
#[derive(Debug)]
pub struct Pieces<'t> {
    rest: &'t str,
    close: char,
    begun: bool,
}

impl<'t> Pieces<'t> {
    /// Of an object, from its first bracket to its last.
    pub fn of_object(text: &'t str) -> Option<Pieces<'t>> {
        let inside = text.strip_prefix('{')?;
        Some(Pieces { rest: trimmed(inside), close: '}', begun: false })
    }

    /// Of a list.
    pub fn of_list(text: &'t str) -> Option<Pieces<'t>> {
        let inside = text.strip_prefix('[')?;
        Some(Pieces { rest: trimmed(inside), close: ']', begun: false })
    }

    /// Whether another piece follows: behind a comma, unless it is the first. At the end there is nothing
    /// behind the bracket.
    pub fn goes_on(&mut self) -> Option<bool> {
        if let Some(behind) = self.rest.strip_prefix(self.close) {
            return behind.is_empty().then_some(false);
        }
        if std::mem::replace(&mut self.begun, true) {
            self.rest = trimmed(self.rest.strip_prefix(',')?);
        }
        Some(true)
    }

    /// The name of the next field, with its quotation marks; its value is next.
    pub fn next_name(&mut self) -> Option<&'t str> {
        let end = end_of_text(self.rest.as_bytes(), 0)?;
        let (name, rest) = self.rest.split_at(end);
        self.rest = trimmed(trimmed(rest).strip_prefix(':')?);
        Some(name)
    }

    /// The next value; what is in it has not been looked at.
    pub fn next_value(&mut self) -> Option<&'t str> {
        let end = end_of_value(self.rest.as_bytes())?;
        let (value, rest) = self.rest.split_at(end);
        self.rest = trimmed(rest);
        Some(value)
    }
}

/// Where the text that begins at `at` ends, behind its quotation mark.
fn end_of_text(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the value at the beginning ends. It may turn out not to be one.
fn end_of_value(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match bytes.get(at)? {
            b'"' => at = end_of_text(bytes, at)?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' if depth == 0 => return None,
            b'}' | b']' => (at, depth) = (at + 1, depth - 1),
            _ if depth == 0 => {
                let ends = |b: &u8| is_space(*b) || matches!(b, b',' | b']' | b'}');
                let length = bytes[at..].iter().position(ends);
                return length.map(|length| at + length).filter(|end| *end != 0);
            }
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pieces;

    fn values(text: &str) -> Option<Vec<&str>> {
        let mut pieces = Pieces::of_list(text)?;
        let mut values = Vec::new();
        while pieces.goes_on()? {
            values.push(pieces.next_value()?);
        }
        Some(values)
    }

    #[test]
    fn a_list_is_cut_at_its_own_commas() {
        assert_eq!(values("[]"), Some(vec![]));
        assert_eq!(
            values(r#"[ 1 , "a,]\"" ,{"b":[2,3]}, [ ] ]"#),
            Some(vec!["1", r#""a,]\"""#, r#"{"b":[2,3]}"#, "[ ]"])
        );
        for broken in ["", "[", "[1", "[1,]x", "[1 2]", "[,]", r#"["a]"#, "[[]", "[]]"] {
            assert_eq!(values(broken), None, "{broken}");
        }
    }

    #[test]
    fn an_object_gives_its_names_and_values_as_they_stand() {
        let mut pieces = Pieces::of_object("{ \"a\" : 1.50 }").unwrap();
        assert_eq!(pieces.goes_on(), Some(true));
        assert_eq!(pieces.next_name(), Some("\"a\""));
        assert_eq!(pieces.next_value(), Some("1.50"));
        assert_eq!(pieces.goes_on(), Some(false));
    }
}
