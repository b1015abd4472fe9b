//! `kill -9` of the real server while clients take locks and put kept entries over HTTP, and a stop in order.
//!
//! After each kill the server is started on the same data, and must have what was acknowledged, with or
//! without the one change of each client that was not; fences must only have grown. `HOLDFAST_KILLS=1000`
//! for more.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::Sender;

use holdfast::base::rng::Rng;
use holdfast::testing::amount;
use serde_json::{Value, json};

use crate::serving::{Client, Launch, Server, private_folder, write_and_kill};
use crate::support::Answer;

const KILLS: u64 = 12;
const WRITERS: usize = 3;
const CONFIG: &str = "[cache.namespace.sess]\nkeep = true\n";

#[derive(Clone, Debug)]
enum Change {
    Take { lock: String, owner: String },
    Refresh { lock: String, owner: String },
    Release { lock: String, owner: String },
    Put { key: String, value: Value },
    Increment { key: String },
    Touch { key: String },
    Delete { key: String },
}

impl Change {
    fn ask(&self, client: &mut Client) -> io::Result<Answer> {
        match self {
            Change::Take { lock, owner } => {
                let body = json!({"ttl": "7d", "owner": owner});
                client.ask("POST", &format!("/v1/locks/{lock}"), Some(&body))
            }
            Change::Refresh { lock, owner } => {
                let body = json!({"ttl": "6d", "owner": owner});
                client.ask("POST", &format!("/v1/locks/{lock}/refresh"), Some(&body))
            }
            Change::Release { lock, owner } => {
                client.ask("DELETE", &format!("/v1/locks/{lock}?owner={owner}"), None)
            }
            Change::Put { key, value } => {
                let path = format!("/v1/cache/sess/keys/{key}?ttl=1h&tags=t");
                client.ask("PUT", &path, Some(value))
            }
            Change::Increment { key } => {
                let body = json!({"key": key, "by": 1, "ttl": "1h"});
                client.ask("POST", "/v1/cache/sess/increment", Some(&body))
            }
            Change::Touch { key } => {
                let body = json!({"key": key, "ttl": "2h"});
                client.ask("POST", "/v1/cache/sess/touch", Some(&body))
            }
            Change::Delete { key } => {
                client.ask("DELETE", &format!("/v1/cache/sess/keys/{key}"), None)
            }
        }
    }
}

/// What one client knows to be there: locks with owner and fence, entries with their values.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    locks: BTreeMap<String, (String, u64)>,
    entries: BTreeMap<String, String>,
}

struct Writer {
    number: usize,
    rng: Rng,
    known: Known,
    pending: Option<Change>,
    steps: u64,
    /// The largest fence that it was told.
    fence: u64,
}

impl Writer {
    fn choose(&mut self) -> Change {
        let lock = format!("w{}-{}", self.number, self.rng.index(4));
        let key = format!("w{}-{}", self.number, self.rng.index(5));
        if self.rng.one_in(2) {
            return match self.known.locks.get(&lock) {
                None => Change::Take { owner: format!("o{}", self.steps), lock },
                Some((owner, _)) => {
                    let owner = owner.clone();
                    if self.rng.one_in(3) {
                        Change::Refresh { lock, owner }
                    } else {
                        Change::Release { lock, owner }
                    }
                }
            };
        }
        let there = self.known.entries.contains_key(&key);
        match self.rng.below(6) {
            0 if there => Change::Delete { key },
            1 if there => Change::Touch { key },
            2 => Change::Increment { key: format!("n{key}") },
            _ => {
                let long = "x".repeat([1, 100, 30_000][self.rng.index(3)]);
                Change::Put { key, value: json!([self.steps, long]) }
            }
        }
    }

    fn apply(&mut self, change: &Change, fence: Option<u64>) {
        let known = &mut self.known;
        match change.clone() {
            Change::Take { lock, owner } => {
                let fence = fence.unwrap_or(0);
                drop(known.locks.insert(lock, (owner, fence)));
            }
            Change::Refresh { .. } | Change::Touch { .. } => {}
            Change::Release { lock, .. } => drop(known.locks.remove(&lock)),
            Change::Put { key, value } => drop(known.entries.insert(key, value.to_string())),
            Change::Increment { key } => {
                let value = known.entries.entry(key).or_insert_with(|| "0".to_owned());
                *value = (value.parse::<u64>().unwrap() + 1).to_string();
            }
            Change::Delete { key } => drop(known.entries.remove(&key)),
        }
    }

    fn run(&mut self, server: &Server, tell: &Sender<()>) -> io::Result<()> {
        let mut client = Client::connect(server.address)?.with_token(&server.admin);
        loop {
            self.steps += 1;
            let change = self.choose();
            self.pending = Some(change.clone());
            let answer = change.ask(&mut client)?;
            assert!((200..205).contains(&answer.status), "{change:?}: {answer:?}");
            let fence = match &change {
                Change::Take { .. } => answer.json()["fence"].as_u64(),
                _ => None,
            };
            if let Some(fence) = fence {
                assert!(self.fence < fence, "{change:?}: {fence} after {}", self.fence);
                self.fence = fence;
            }
            self.apply(&change, fence);
            self.pending = None;
            // Nobody listens any more when the kill is near.
            let _ = tell.send(());
        }
    }

    /// Holds what is there against what is known, and takes over what came of the last change.
    fn settle(&mut self, found: &Known) -> Result<(), String> {
        let before = self.known.clone();
        if same(&before, found) {
            self.pending = None;
            self.known = found.clone();
            return Ok(());
        }
        let Some(change) = self.pending.take() else {
            return Err(format!("LOST: {before:?} was acknowledged, {found:?} is there"));
        };
        self.apply(&change, None);
        if same(&self.known, found) {
            self.known = found.clone();
            return Ok(());
        }
        Err(format!("LOST: {before:?} was acknowledged, {change:?} not, {found:?} is there"))
    }
}

/// Whether they are the same; a fence that nobody was told may be any.
fn same(known: &Known, found: &Known) -> bool {
    let locks = known.locks.len() == found.locks.len()
        && known.locks.iter().all(|(name, (owner, fence))| {
            let there = found.locks.get(name);
            there.is_some_and(|(by, f)| by == owner && (f == fence || *fence == 0))
        });
    locks && known.entries == found.entries
}

/// What the server has of one writer.
fn found(server: &Server, writer: &Writer) -> Known {
    let mut client = server.administrator();
    let mut known = Known::default();
    let prefix = format!("w{}-", writer.number);
    let list = client.ask("GET", "/v1/locks?limit=1000", None).unwrap().json();
    for lock in list["items"].as_array().unwrap() {
        let name = lock["name"].as_str().unwrap().to_owned();
        if name.starts_with(&prefix) {
            let owner = lock["owner"].as_str().unwrap().to_owned();
            known.locks.insert(name, (owner, lock["fence"].as_u64().unwrap()));
        }
    }
    for key in (0..5).flat_map(|n| [format!("{prefix}{n}"), format!("n{prefix}{n}")]) {
        let answer = client.ask("GET", &format!("/v1/cache/sess/keys/{key}"), None).unwrap();
        if answer.status == 200 {
            known.entries.insert(key, String::from_utf8(answer.body).unwrap());
        } else {
            assert_eq!(answer.code(), "cache_miss", "{key}");
        }
    }
    known
}

#[test]
fn locks_and_kept_entries_survive_kill_9_and_fences_only_grow() {
    let (seed, kills) = (amount("HOLDFAST_SEED", 4), amount("HOLDFAST_KILLS", KILLS));
    let folder = private_folder();
    let config = folder.path().join("holdfast.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let launch = Launch::new(folder.path()).with(&["--config", config.to_str().unwrap()]);
    let mut rng = Rng::from_seed(seed);
    let writer = |number| Writer {
        number,
        rng: Rng::from_seed(seed << 8 | number as u64),
        known: Known::default(),
        pending: None,
        steps: 0,
        fence: 0,
    };
    let mut writers: Vec<Writer> = (0..WRITERS).map(writer).collect();
    for kill in 0..=kills {
        let server = launch.ready();
        for writer in &mut writers {
            let found = found(&server, writer);
            if let Err(error) = writer.settle(&found) {
                panic!("seed={seed} kill={kill}: {error}\n{}", server.log());
            }
        }
        // A new fence is above all that anybody was told.
        let largest = writers.iter().map(|writer| writer.fence).max().unwrap_or(0);
        let body = json!({"ttl": "1s", "owner": format!("check{kill}")});
        let path = format!("/v1/locks/check{kill}");
        let taken = server.administrator().ask("POST", &path, Some(&body)).unwrap();
        assert_eq!(taken.status, 201, "{taken:?}");
        let fence = taken.json()["fence"].as_u64().unwrap();
        assert!(largest < fence, "seed={seed} kill={kill}: {fence} after {largest}");
        if kill < kills {
            write_and_kill(server, &mut writers, 5 + rng.below(120), Writer::run);
        } else {
            server.stop();
        }
    }
    let server = launch.ready();
    for writer in &mut writers {
        let found = found(&server, writer);
        writer.settle(&found).unwrap_or_else(|error| panic!("after an end in order: {error}"));
    }
    assert!(kills < writers.iter().map(|writer| writer.steps).sum());
}
