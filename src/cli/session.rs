//! Finding the server and the token.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::failure::{Failure, HOW_TO_TOKEN, NOT_ALLOWED, NOT_REACHABLE, PROBLEMS, USAGE};
use crate::base::secret::Secret;
use crate::base::token::TOKEN_BYTES_MAX;
use crate::boot::first_start::ADMIN_TOKEN_FILE;
use crate::boot::settings::Settings;
use crate::config::{Environment, KEYS};
use crate::io::client::{Answer, Body, Client, Json, RawAnswer, Target, encoded};
use crate::io::run_file::{RUN_FILE, RunFile};

/// What is not an option of the command is not given.
fn option(arguments: &ArgMatches, name: &str) -> Option<String> {
    arguments.try_get_one::<String>(name).ok().flatten().cloned()
}

/// Where settings come from, for these arguments.
pub(super) fn origin(arguments: &ArgMatches) -> Settings {
    let mut flags = Vec::new();
    for key in KEYS.iter().filter(|key| key.family().is_none()) {
        if let Some(value) = option(arguments, key.flag().trim_start_matches('-')) {
            flags.push((key, value));
        }
    }
    let file = option(arguments, "config").map(PathBuf::from);
    Settings { file, flags, environment: Environment::from_process() }
}

/// The data directory, for these arguments.
fn data_dir(arguments: &ArgMatches) -> Result<PathBuf, Failure> {
    let loaded = origin(arguments).load();
    let loaded = loaded.map_err(|problems| Failure::new(PROBLEMS, problems.to_string()))?;
    Ok(loaded.0.config.server.data_dir)
}

/// A server and a token to speak to it.
pub(super) struct Session(Client);

impl Session {
    /// For these arguments.
    pub(super) fn open(arguments: &ArgMatches) -> Result<Session, Failure> {
        let environment = Environment::from_process();
        let setting = |option_name: &str, variable: &str| {
            let given = option(arguments, option_name);
            given.or_else(|| environment.get(variable).map(str::to_owned))
        };
        let target = match setting("url", "HOLDFAST_URL") {
            Some(url) => Target::parse(&url).map_err(|e| Failure::new(USAGE, e.to_string()))?,
            None => running(&data_dir(arguments)?)?,
        };
        let token = match setting("token-file", "HOLDFAST_TOKEN_FILE") {
            Some(path) => token_from(Path::new(&path))?,
            None => token_from(&data_dir(arguments)?.join(ADMIN_TOKEN_FILE))?,
        };
        let tenant = option(arguments, "tenant");
        Ok(Session(Client::new(target, token, tenant)))
    }

    /// What speaks to the server.
    pub(super) fn into_client(self) -> Client {
        self.0
    }

    /// For one call that may be sent again with the same key.
    pub(super) fn for_once(&self, key: &str) -> Result<Session, Failure> {
        let text = "--idempotency-key is made of ASCII letters, digits and signs, without spaces";
        self.0.for_once(key).map(Session).ok_or_else(|| Failure::new(USAGE, text))
    }

    /// Asks, and takes every status but those of success for a failure.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Answer, Failure> {
        succeeded(self.0.request(method, path, body)?)
    }

    /// Looks at something that may not be there.
    pub(super) fn look(&self, path: &str) -> Result<Option<Answer>, Failure> {
        let answer = self.0.request("GET", path, None)?;
        if answer.status == 404 { Ok(None) } else { succeeded(answer).map(Some) }
    }

    /// Asks for another tenant.
    pub(super) fn for_tenant(&self, tenant: &str) -> Session {
        Session(self.0.for_tenant(tenant))
    }

    /// Sends a body, and takes the answer as it is.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Body>,
    ) -> Result<RawAnswer, Failure> {
        Ok(self.0.send(method, path, body)?)
    }

    /// The failure that such an answer is.
    pub(super) fn failure(&self, answer: RawAnswer) -> Failure {
        match self.0.read(answer) {
            Ok(answer) => Failure::from_answer(&answer),
            Err(error) => error.into(),
        }
    }

    /// What such an answer says.
    pub(super) fn read(&self, answer: RawAnswer) -> Result<Answer, Failure> {
        Ok(self.0.read(answer)?)
    }

    /// Every item of a list, page by page.
    pub(super) fn all(&self, path: &str) -> Result<Vec<Json>, Failure> {
        let mut items = Vec::new();
        self.pages(path, &mut |page| {
            items.append(page);
            Ok(())
        })?;
        Ok(items)
    }

    /// Every page of a list, one by one.
    pub(super) fn pages(
        &self,
        path: &str,
        take: &mut dyn FnMut(&mut Vec<Json>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut cursor: Option<String> = None;
        let sign = if path.contains('?') { '&' } else { '?' };
        loop {
            let behind = cursor.map(|cursor| format!("&cursor={}", encoded(&cursor)));
            let page = format!("{path}{sign}limit=1000{}", behind.unwrap_or_default());
            let mut answer = self.ask("GET", &page, None)?;
            if let Some(page) = answer.body["items"].as_array_mut() {
                take(page)?;
            }
            match answer.body["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(()),
            }
        }
    }
}

fn succeeded(answer: Answer) -> Result<Answer, Failure> {
    let well = (200..300).contains(&answer.status);
    if well { Ok(answer) } else { Err(Failure::from_answer(&answer)) }
}

/// Where the server of this data directory is.
fn running(data_dir: &Path) -> Result<Target, Failure> {
    let path = data_dir.join(RUN_FILE);
    let missing = |why: String| {
        let text = format!(
            "no server runs on the data directory {}: {why}\nname another with --data-dir DIR or \
             --url URL, or start one: holdfast serve",
            data_dir.display()
        );
        Failure::new(NOT_REACHABLE, text)
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let text = format!(
                "{} cannot be read by this user; try it with sudo, or give --url URL and --token-file FILE",
                path.display()
            );
            return Err(Failure::new(NOT_ALLOWED, text));
        }
        Err(error) => return Err(missing(format!("{}: {error}", path.display()))),
    };
    let run = RunFile::parse(&text).ok_or_else(|| missing("run.json is damaged".to_owned()))?;
    if let Some(socket) = run.socket {
        return Ok(Target::Unix(socket.into()));
    }
    let scheme = if run.tls { "https" } else { "http" };
    let address = run.address.ok_or_else(|| missing("it has no address".to_owned()))?;
    Target::parse(&format!("{scheme}://{address}")).map_err(|e| missing(e.to_string()))
}

fn token_from(path: &Path) -> Result<Secret, Failure> {
    let mut text = String::new();
    let most = TOKEN_BYTES_MAX as u64 + 64;
    let read = if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            eprintln!("the token, then Enter:");
            std::io::stdin().read_line(&mut text)
        } else {
            std::io::stdin().take(most).read_to_string(&mut text)
        }
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map_err(|error| {
        let text =
            format!("the token in {} cannot be read: {error}\n{HOW_TO_TOKEN}", path.display());
        Failure::new(NOT_ALLOWED, text)
    })?;
    Ok(Secret::new(text.trim()))
}
