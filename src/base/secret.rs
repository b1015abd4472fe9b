//! Text that must not be printed.
//!
//! A [`Secret`] shows `***` in every format and can be compared with nothing; whoever needs the text
//! says so with [`Secret::expose`], which is easy to search for.

use std::fmt;

/// A password, token or key. Printing it prints `***`.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes the text in.
    pub fn new(text: &str) -> Secret {
        Secret(text.into())
    }

    /// The text itself. Never for logs, errors or answers.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hf_admin_swordfish");
        let printed = format!("{secret} {secret:?} {:?} {secret:#?} {secret:>20}", Some(&secret));
        assert!(!printed.contains("swordfish"), "{printed}");
        assert!(printed.starts_with("*** *** Some(***)"), "{printed}");
        assert_eq!(secret.expose(), "hf_admin_swordfish");
    }
}
