//! How a command ends when it does not end well.

use crate::io::client::{self, Answer};

/// The arguments are wrong.
pub(super) const USAGE: u8 = 2;
/// Something was looked at, and it has problems.
pub(super) const PROBLEMS: u8 = 3;
/// The server does not let us.
pub(super) const NOT_ALLOWED: u8 = 4;
/// There is no server.
pub(super) const NOT_REACHABLE: u8 = 5;
/// Anything else.
pub(super) const FAILURE: u8 = 1;

/// An exit code, and what is said.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(code: u8, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }

    /// What a refusal of the server's means for the command.
    pub(super) fn from_answer(answer: &Answer) -> Failure {
        let field = |name: &str| answer.body[name].as_str().unwrap_or("").to_owned();
        let (code, detail) = (field("code"), field("detail"));
        let text = if code.is_empty() {
            format!("the server answered with status {}", answer.status)
        } else {
            format!("{detail} ({code})")
        };
        match answer.status {
            401 => Failure::new(NOT_ALLOWED, format!("{text}\n{HOW_TO_TOKEN}")),
            403 if code == "forbidden" => Failure::new(NOT_ALLOWED, text),
            422 if code == "invalid_config" => Failure::new(PROBLEMS, text),
            _ => Failure::new(FAILURE, text),
        }
    }
}

/// What to do without a token that is valid.
pub(super) const HOW_TO_TOKEN: &str = "name a file with a valid token by --token-file FILE; the \
    administrator's is admin.token in the data directory; if it is lost, start the server once with: \
    holdfast serve --new-admin-token";

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        match error {
            client::Error::NotReachable { .. } => {
                let help =
                    "is it running? see: systemctl status holdfast; or start one: holdfast serve";
                Failure::new(NOT_REACHABLE, format!("{error}\n{help}"))
            }
            client::Error::NotOurs { .. } => Failure::new(FAILURE, error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(FAILURE, error.to_string())
    }
}
