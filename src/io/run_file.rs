//! `run.json`: where a running server is, written by it and read by whoever looks for it.

use serde::{Deserialize, Serialize};

/// Its name in the data directory.
pub const RUN_FILE: &str = "run.json";

/// A running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// `host:port` of its first TCP socket.
    pub address: Option<String>,
    /// Whether that speaks TLS.
    pub tls: bool,
    /// The path of its Unix socket.
    pub socket: Option<String>,
    /// Since when it serves.
    pub started_at: String,
}

impl RunFile {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("BUG: a run file is plain JSON");
        text + "\n"
    }

    /// Reads the text of the file; fields that are not known belong to a later version.
    pub fn parse(text: &str) -> Option<RunFile> {
        serde_json::from_str(text).ok()
    }
}
