//! The environment of the process, read once.
//!
//! What is kept are the variables that are ours, and the few of others that have an effect here. What
//! they say is never printed: somebody may have put a secret into one of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use super::keys::KEYS;
use super::nearest::nearest;

/// The path of the configuration file.
pub(super) const CONFIG: &str = "HOLDFAST_CONFIG";
/// Where systemd puts the credentials of a service.
pub(super) const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

const PREFIX: &str = "HOLDFAST_";
/// Variables that begin like ours and are no settings: those of the command line, and those that a command
/// which `holdfast work` runs finds there.
const OTHERS_OF_OURS: [&str; 10] = [
    CONFIG,
    "HOLDFAST_URL",
    "HOLDFAST_TOKEN_FILE",
    "HOLDFAST_JOB_ID",
    "HOLDFAST_ATTEMPT",
    "HOLDFAST_LEASE",
    "HOLDFAST_FENCE",
    "HOLDFAST_DEADLINE",
    "HOLDFAST_QUEUE",
    "HOLDFAST_TYPE",
];
/// Variables of others that have an effect.
const FOREIGN: [&str; 7] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    CREDENTIALS,
    "JOURNAL_STREAM",
    "NO_COLOR",
    "TERM",
];

/// All variables that begin with `HOLDFAST_`, and `NOTIFY_SOCKET`, `LISTEN_FDS`, `LISTEN_PID`,
/// `CREDENTIALS_DIRECTORY`, `JOURNAL_STREAM`, `NO_COLOR` and `TERM`.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Set to something that is no text.
    unreadable: Vec<String>,
}

impl Environment {
    /// The environment of this process.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_process() -> Environment {
        Environment::from_pairs(std::env::vars_os())
    }

    /// An environment of these variables, of which it keeps what has an effect.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Environment
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let mut environment = Environment::default();
        for (name, value) in pairs {
            let Ok(name) = name.into().into_string() else { continue };
            if !name.starts_with(PREFIX) && !FOREIGN.contains(&name.as_str()) {
                continue;
            }
            match value.into().into_string() {
                Ok(value) => drop(environment.variables.insert(name, value)),
                Err(_) => environment.unreadable.push(name),
            }
        }
        environment
    }

    /// What the variable `name` says, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Whether `name` is set to something that is no text.
    pub(super) fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable.iter().any(|unreadable| unreadable == name)
    }

    /// One sentence for each variable that looks like one of ours and is none.
    pub(super) fn strangers(&self) -> Vec<String> {
        let known = || KEYS.iter().filter_map(|key| key.environment).chain(OTHERS_OF_OURS);
        let mut found = Vec::new();
        for name in self.variables.keys().chain(&self.unreadable) {
            let Some(word) = name.strip_prefix(PREFIX) else { continue };
            if known().any(|known| known == name) {
                continue;
            }
            let words = known().filter_map(|known| known.strip_prefix(PREFIX));
            let hint = match nearest(word, words) {
                Some(near) => format!("; did you mean {PREFIX}{near}?"),
                None => String::new(),
            };
            found
                .push(format!("the variable {} is not known and has no effect{hint}", shown(name)));
        }
        found
    }
}

fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

/// The names alone.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).entries(&self.unreadable).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Environment;
    use expect_test::expect;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    #[test]
    fn an_environment_keeps_what_has_an_effect_and_prints_no_values() {
        let environment = Environment::from_pairs([
            ("HOLDFAST_LISTEN", "localhost:1"),
            ("HOLDFAST_TOKEN", "swordfish"),
            ("PATH", "/bin"),
            ("TERM", "dumb"),
        ]);
        assert_eq!(environment.get("HOLDFAST_LISTEN"), Some("localhost:1"));
        assert_eq!(environment.get("TERM"), Some("dumb"));
        assert_eq!(environment.get("PATH"), None);
        expect![[r#"{"HOLDFAST_LISTEN", "HOLDFAST_TOKEN", "TERM"}"#]]
            .assert_eq(&format!("{environment:?}"));
    }

    #[test]
    fn an_unknown_variable_is_named_with_the_nearest_known_one() {
        let environment = Environment::from_pairs([
            ("HOLDFAST_LISEN", "swordfish"),
            ("HOLDFAST_TOKEN", "swordfish"),
            ("HOLDFAST_TOKEN_FILE", "t"),
            ("HOLDFAST_LOG_LEVEL", "info"),
            ("HOLDFAST_SEED", "7"),
        ]);
        expect![[r"
            the variable HOLDFAST_LISEN is not known and has no effect; did you mean HOLDFAST_LISTEN?
            the variable HOLDFAST_SEED is not known and has no effect
            the variable HOLDFAST_TOKEN is not known and has no effect; did you mean HOLDFAST_TOKEN_FILE?"]]
        .assert_eq(&environment.strangers().join("\n"));
    }

    #[test]
    fn a_variable_that_is_no_text_is_remembered_by_its_name() {
        let odd = || OsString::from_vec(vec![b'/', 0xff]);
        let environment = Environment::from_pairs([
            (OsString::from("HOLDFAST_DATA_DIR"), odd()),
            (odd(), OsString::from("x")),
        ]);
        assert_eq!(environment.get("HOLDFAST_DATA_DIR"), None);
        assert!(environment.is_unreadable("HOLDFAST_DATA_DIR"));
    }
}
