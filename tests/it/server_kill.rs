//! `kill -9` of the real server while several clients make and revoke tokens and tenants over HTTP.
//!
//! Every client keeps a ledger of what was acknowledged and of the one change that was not. After each
//! kill the server is started on the same data, and what it says is held against the ledgers:
//!
//! - What was acknowledged is in the audit log and in force.
//! - What was not acknowledged is in the audit log and in force, or in neither.
//! - There is nothing else: the lists of tenants and tokens are exactly those of the ledgers.
//!
//! Some servers are killed while they start. `HOLDFAST_KILLS=1000` for more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use holdfast::base::rng::Rng;
use holdfast::testing::amount;
use serde_json::{Map, Value, json};

use crate::serving::{ANSWER_WITHIN, Client, Launch, Server, moment, private_folder};
use crate::support::Answer;

const KILLS: u64 = 50;
const WRITERS: usize = 4;
/// Names of tenants that one writer uses again and again.
const NAMES: usize = 5;
/// Tokens that a writer leaves alive, in tenant `default` and in each of its own.
const LIVE_MAX: usize = 8;
/// Revoked tokens that are tried after every kill; all of them are at the end.
const DEAD_TRIED: usize = 40;
const CONFIG: &str = "[tier.gold]\ntokens = 1000\nqueues = 5\n";
const QUOTAS: [&str; 4] = ["cache_bytes", "queues", "jobs_per_day", "tokens"];

/// A token as its maker knows it. Without a secret when the answer that had it never came.
#[derive(Clone, Debug)]
struct Token {
    id: String,
    name: String,
    scope: &'static str,
    secret: Option<String>,
}

/// A tenant as it was put.
#[derive(Clone, Debug, Default)]
struct Tenant {
    tier: String,
    quotas: Map<String, Value>,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug)]
enum Change {
    Create { tenant: String, name: String, scope: &'static str },
    Revoke { tenant: String, id: String },
    Put { tenant: String, tier: Option<&'static str>, quotas: Option<Map<String, Value>> },
    Delete { tenant: String },
}

impl Change {
    fn action(&self) -> &'static str {
        match self {
            Change::Create { .. } => "token.create",
            Change::Revoke { .. } => "token.revoke",
            Change::Put { .. } => "tenant.put",
            Change::Delete { .. } => "tenant.delete",
        }
    }

    fn tenant(&self) -> &str {
        match self {
            Change::Create { tenant, .. }
            | Change::Revoke { tenant, .. }
            | Change::Put { tenant, .. }
            | Change::Delete { tenant } => tenant,
        }
    }

    fn ask(&self, client: &mut Client, id: &str) -> io::Result<Answer> {
        match self {
            Change::Create { tenant, name, scope } => {
                let body = json!({"name": name, "scopes": [scope], "tenant": tenant});
                client.ask_as(id, "POST", "/v1/tokens", Some(&body))
            }
            Change::Revoke { tenant, id: token } => {
                let path = format!("/v1/tokens/{token}");
                let lines = [format!("X-Request-Id: {id}"), format!("Holdfast-Tenant: {tenant}")];
                let head = client.head("DELETE", &path, &lines.each_ref().map(String::as_str));
                client.send(head.as_bytes())?;
                client.answer()
            }
            Change::Put { tenant, tier, quotas } => {
                let mut body = Map::new();
                body.extend(tier.map(|tier| ("tier".to_owned(), tier.into())));
                body.extend(quotas.clone().map(|quotas| ("quotas".to_owned(), quotas.into())));
                let path = format!("/v1/tenants/{tenant}");
                client.ask_as(id, "PUT", &path, Some(&body.into()))
            }
            Change::Delete { tenant } => {
                let path = format!("/v1/tenants/{tenant}?confirm={tenant}");
                client.ask_as(id, "DELETE", &path, None)
            }
        }
    }
}

/// An entry of the audit log.
#[derive(Clone, Debug)]
struct Noted {
    action: String,
    object: String,
    tenant: String,
}

/// One client with its ledger.
struct Writer {
    number: usize,
    rng: Rng,
    steps: u64,
    /// What is there, tenant `default` with the writer's own tokens included.
    tenants: BTreeMap<String, Tenant>,
    /// Secrets that were valid once.
    dead: Vec<String>,
    /// Acknowledged since the last check: request, change, object.
    acknowledged: Vec<(String, Change, String)>,
    /// Asked for, and no answer came.
    pending: Option<(String, Change)>,
}

impl Writer {
    fn new(number: usize, seed: u64) -> Writer {
        Writer {
            number,
            rng: Rng::from_seed(seed << 8 | number as u64),
            steps: 0,
            tenants: BTreeMap::from([("default".to_owned(), Tenant::default())]),
            dead: Vec::new(),
            acknowledged: Vec::new(),
            pending: None,
        }
    }

    fn some_quotas(&mut self) -> Map<String, Value> {
        let mut quotas = Map::new();
        for name in QUOTAS {
            if self.rng.one_in(2) {
                let number =
                    if self.rng.one_in(4) { -1 } else { 100 + self.rng.below(900).cast_signed() };
                quotas.insert(name.to_owned(), number.into());
            }
        }
        quotas
    }

    fn choose(&mut self) -> Change {
        let name = format!("w{}-{}", self.number, self.rng.index(NAMES));
        if self.rng.one_in(4) || !self.tenants.contains_key(&name) && self.rng.one_in(2) {
            let tier = [None, Some("standard"), Some("gold")][self.rng.index(3)];
            let quotas = (!self.rng.one_in(3)).then(|| self.some_quotas());
            return Change::Put { tenant: name, tier, quotas };
        }
        if self.tenants.contains_key(&name) && self.rng.one_in(8) {
            return Change::Delete { tenant: name };
        }
        let known = self.tenants.contains_key(&name) && self.rng.one_in(2);
        let tenant = if known { name } else { "default".to_owned() };
        let live = &self.tenants[&tenant].tokens;
        let revoke = !live.is_empty() && (LIVE_MAX <= live.len() || self.rng.one_in(3));
        if revoke {
            let id = live[self.rng.index(live.len())].id.clone();
            return Change::Revoke { tenant, id };
        }
        let name = format!("w{} {}", self.number, self.steps);
        let scope = ["series:read", "cache:read", "queue:push"][self.rng.index(3)];
        Change::Create { tenant, name, scope }
    }

    /// Changes things until the server is gone.
    fn run(&mut self, server: &Server, cycle: u64, tell: &Sender<()>) -> io::Result<()> {
        let mut client = Client::connect(server.address)?.with_token(&server.admin);
        let mut other = Client::connect(server.address)?;
        loop {
            self.steps += 1;
            let change = self.choose();
            let request = format!("c{cycle}-w{}-{}", self.number, self.steps);
            self.pending = Some((request.clone(), change.clone()));
            let answer = change.ask(&mut client, &request)?;
            let dead = self.dead.len();
            self.acknowledge(request, change, &answer);
            // What is acknowledged holds at once.
            for secret in &self.dead[dead..] {
                other = other.with_token(secret);
                let status = other.ask("GET", "/v1/status", None)?.status;
                assert!(is_refused(status), "a token that was just revoked is answered {status}");
            }
            // Nobody listens any more when the kill is near.
            let _ = tell.send(());
        }
    }

    fn acknowledge(&mut self, request: String, change: Change, answer: &Answer) {
        let known = self.tenants.contains_key(change.tenant());
        let want = match &change {
            Change::Create { .. } => 201,
            Change::Revoke { .. } => 204,
            Change::Put { .. } => {
                if known {
                    200
                } else {
                    201
                }
            }
            Change::Delete { .. } => 202,
        };
        assert_eq!(answer.status, want, "{change:?}: {answer:?}");
        assert_eq!(answer.header("x-request-id"), Some(request.as_str()));
        let (object, secret) = match &change {
            Change::Create { .. } => {
                let made = answer.json();
                let text = |name: &str| made[name].as_str().unwrap().to_owned();
                (text("id"), Some(text("secret")))
            }
            Change::Revoke { id, .. } => (id.clone(), None),
            Change::Put { tenant, .. } | Change::Delete { tenant } => (tenant.clone(), None),
        };
        self.apply(&change, &object, secret);
        self.acknowledged.push((request, change, object));
        self.pending = None;
    }

    /// Writes a change that was made into the ledger.
    fn apply(&mut self, change: &Change, object: &str, secret: Option<String>) {
        match change.clone() {
            Change::Create { tenant, name, scope } => {
                let token = Token { id: object.to_owned(), name, scope, secret };
                self.tenants.get_mut(&tenant).unwrap().tokens.push(token);
            }
            Change::Revoke { tenant, id } => {
                let tokens = &mut self.tenants.get_mut(&tenant).unwrap().tokens;
                let at = tokens.iter().position(|token| token.id == id).unwrap();
                self.dead.extend(tokens.swap_remove(at).secret);
            }
            Change::Put { tenant, tier, quotas } => {
                let new = || Tenant { tier: "standard".to_owned(), ..Tenant::default() };
                let its = self.tenants.entry(tenant).or_insert_with(new);
                if let Some(tier) = tier {
                    tier.clone_into(&mut its.tier);
                }
                if let Some(quotas) = quotas {
                    its.quotas = quotas;
                }
            }
            Change::Delete { tenant } => {
                let gone = self.tenants.remove(&tenant).unwrap();
                self.dead.extend(gone.tokens.into_iter().filter_map(|token| token.secret));
            }
        }
    }

    /// Holds the audit log against what was acknowledged, and takes from it whether the change that was
    /// not acknowledged was made.
    fn settle(&mut self, noted: &mut BTreeMap<String, Noted>) -> Result<u64, String> {
        let acknowledged = std::mem::take(&mut self.acknowledged);
        for (request, change, object) in &acknowledged {
            let Some(entry) = noted.remove(request) else {
                return Err(format!("LOST: {request} {change:?} was acknowledged"));
            };
            check_entry(&entry, change)?;
            if entry.object != *object {
                return Err(format!("{request}: the audit log says {entry:?}, not {object}"));
            }
        }
        if let Some((request, change)) = self.pending.take()
            && let Some(entry) = noted.remove(&request)
        {
            check_entry(&entry, &change)?;
            self.apply(&change, &entry.object, None);
        }
        Ok(acknowledged.len() as u64)
    }
}

fn check_entry(entry: &Noted, change: &Change) -> Result<(), String> {
    if entry.action == change.action() && entry.tenant == change.tenant() {
        return Ok(());
    }
    Err(format!("the audit log says {entry:?} of {change:?}"))
}

/// Everything in a list, page by page.
fn all_pages(client: &mut Client, path: &str, lines: &[&str], limit: u64) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let target = format!("{path}?limit={limit}{cursor}");
        let head = client.head("GET", &target, lines);
        client.send(head.as_bytes()).unwrap();
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        let page = answer.json();
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

/// Whether the token that was shown is not valid; only for such there is "too often".
fn is_refused(status: u16) -> bool {
    matches!(status, 401 | 429)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Everything that clients did, and what is known of it.
struct Ledger {
    writers: Vec<Writer>,
    rng: Rng,
    /// Requests that the audit log was seen to have.
    audited: BTreeSet<String>,
    acknowledged: u64,
    admin: Option<String>,
}

impl Ledger {
    /// What the audit log has and did not have at the last look.
    fn new_entries(&mut self, client: &mut Client) -> Result<BTreeMap<String, Noted>, String> {
        let mut new = BTreeMap::new();
        let mut cursor = String::new();
        let limit = 20 + self.rng.below(200);
        loop {
            let answer = client.ask("GET", &format!("/v1/audit?limit={limit}{cursor}"), None);
            let page = answer.unwrap().json();
            for item in page["items"].as_array().unwrap() {
                let (request, action) = (text(&item["request_id"]), text(&item["action"]));
                if action.starts_with("start.") {
                    continue;
                }
                if self.audited.contains(&request) {
                    return Ok(new);
                }
                let (object, tenant) = (text(&item["object"]), text(&item["tenant"]));
                let entry = Noted { action, object, tenant };
                if new.insert(request.clone(), entry).is_some() {
                    return Err(format!("{request} is twice in the audit log"));
                }
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(new),
            }
        }
    }

    /// Holds all that the server says against what was acknowledged.
    fn check(&mut self, server: &Server, dead_tried: usize) -> Result<(), String> {
        let admin = self.admin.get_or_insert_with(|| server.admin.clone());
        if *admin != server.admin {
            return Err("the administrator's token was made again".to_owned());
        }
        let mut client = server.administrator();
        let mut noted = self.new_entries(&mut client)?;
        self.audited.extend(noted.keys().cloned());
        for writer in &mut self.writers {
            self.acknowledged += writer.settle(&mut noted)?;
        }
        if let Some((request, entry)) = noted.first_key_value() {
            return Err(format!(
                "{request}, which nobody asked for, is in the audit log: {entry:?}"
            ));
        }
        self.check_tenants(&mut client)?;
        self.check_tokens(&mut client)?;
        self.check_secrets(server, dead_tried)
    }

    fn tenants(&self) -> impl Iterator<Item = (&String, &Tenant)> {
        let all = self.writers.iter().flat_map(|writer| &writer.tenants);
        all.filter(|(name, _)| *name != "default")
    }

    fn check_tenants(&self, client: &mut Client) -> Result<(), String> {
        let mut found = BTreeMap::new();
        for item in all_pages(client, "/v1/tenants", &[], 7) {
            let its = (text(&item["tier"]), item["own_quotas"].clone(), item["tokens"].as_u64());
            found.insert(text(&item["name"]), its);
        }
        found.remove("default").ok_or("tenant default is gone")?;
        let want = self.tenants().map(|(name, tenant)| {
            let tokens = Some(tenant.tokens.len() as u64);
            (name.clone(), (tenant.tier.clone(), Value::from(tenant.quotas.clone()), tokens))
        });
        same("tenants", &found, &want.collect())
    }

    fn check_tokens(&self, client: &mut Client) -> Result<(), String> {
        let names: BTreeSet<&String> =
            self.writers.iter().flat_map(|writer| writer.tenants.keys()).collect();
        for name in names {
            let mut found = BTreeMap::new();
            let line = format!("Holdfast-Tenant: {name}");
            for item in all_pages(client, "/v1/tokens", &[&line], 5) {
                let its = (text(&item["name"]), item["scopes"].clone());
                found.insert(text(&item["id"]), its);
            }
            // The administrator's own.
            found.retain(|_, (name, _)| name != "administrator");
            let tokens = self.writers.iter().filter_map(|writer| writer.tenants.get(name));
            let want = tokens.flat_map(|tenant| &tenant.tokens);
            let want =
                want.map(|token| (token.id.clone(), (token.name.clone(), json!([token.scope]))));
            same(&format!("tokens of {name}"), &found, &want.collect())?;
        }
        Ok(())
    }

    fn check_secrets(&mut self, server: &Server, dead_tried: usize) -> Result<(), String> {
        let mut client = server.stranger();
        for (tenant, its) in self.writers.iter().flat_map(|writer| &writer.tenants) {
            for token in &its.tokens {
                let Some(secret) = &token.secret else { continue };
                client = client.with_token(secret);
                let status = client.ask("GET", "/v1/status", None).unwrap().status;
                let default = tenant == "default" && token.scope == "series:read";
                if status != if default { 200 } else { 403 } {
                    return Err(format!("LOST: {token:?} of {tenant} is answered {status}"));
                }
            }
        }
        for writer in &self.writers {
            let mut tried: Vec<&String> = writer.dead.iter().rev().take(dead_tried).collect();
            for _ in 0..dead_tried.min(writer.dead.len()) {
                tried.push(&writer.dead[self.rng.index(writer.dead.len())]);
            }
            for secret in tried {
                client = client.with_token(secret);
                let status = client.ask("GET", "/v1/status", None).unwrap().status;
                if !is_refused(status) {
                    return Err(format!("ALIVE: a token that was revoked is answered {status}"));
                }
            }
        }
        Ok(())
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &BTreeMap<String, T>,
    want: &BTreeMap<String, T>,
) -> Result<(), String> {
    match want.keys().chain(found.keys()).find(|key| want.get(*key) != found.get(*key)) {
        None => Ok(()),
        Some(key) => {
            let (want, found) = (want.get(key), found.get(key));
            Err(format!("{what}: {key} is {found:?} and should be {want:?}"))
        }
    }
}

/// Lets the writers write and kills the server under them.
fn write_and_kill(server: Server, ledger: &mut Ledger, cycle: u64) {
    let (tell, told) = channel();
    let stopper = Stop::choose(&mut ledger.rng);
    #[expect(clippy::disallowed_methods, reason = "several clients")]
    std::thread::scope(|scope| {
        for writer in &mut ledger.writers {
            let (server, tell) = (&server, tell.clone());
            scope.spawn(move || {
                let error = writer.run(server, cycle, &tell).expect_err("it ends with the server");
                let gone =
                    !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Other);
                assert!(gone, "writer {}: {error}", writer.number);
            });
        }
        drop(tell);
        stopper.wait(&told);
        server.signal(rustix::process::Signal::KILL);
    });
    server.kill();
}

/// When a server is killed.
pub(crate) enum Stop {
    /// After so many acknowledgements.
    Count(u64),
    /// After some time.
    Time(Duration),
}

impl Stop {
    pub(crate) fn choose(rng: &mut Rng) -> Stop {
        if rng.one_in(2) {
            Stop::Count(1 + rng.below(150))
        } else {
            Stop::Time(Duration::from_micros(rng.below(200_000)))
        }
    }

    pub(crate) fn wait(&self, told: &Receiver<()>) {
        match self {
            Stop::Count(count) => {
                for _ in 0..*count {
                    match told.recv_timeout(ANSWER_WITHIN) {
                        Ok(()) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                        Err(RecvTimeoutError::Timeout) => panic!("nothing is acknowledged"),
                    }
                }
            }
            Stop::Time(patience) => {
                let until = moment() + *patience;
                while let Some(left) = until.checked_duration_since(moment()) {
                    if let Err(RecvTimeoutError::Disconnected) = told.recv_timeout(left) {
                        return;
                    }
                }
            }
        }
    }
}

/// Kills a server while it starts, or soon after; whether it was not ready.
pub(crate) fn kill_while_it_starts(launch: &Launch, rng: &mut Rng) -> bool {
    let starting = launch.start();
    let early = starting.told(Duration::from_micros(rng.below(15_000))).is_none();
    starting.kill();
    early
}

/// Waits until nothing is left of the tenants that were deleted, then looks at what is stored.
fn nothing_is_left_of_the_deleted(server: Server, ledger: &Ledger) {
    let path = server.data().join("catalog.sqlite");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = rusqlite::Connection::open_with_flags(&path, flags).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    let count = |sql: &str| {
        let count = file.query_row(sql, [], |row| row.get::<_, i64>(0));
        count.unwrap().cast_unsigned()
    };
    let until = moment() + Duration::from_secs(20);
    while count("SELECT count(*) FROM tenants WHERE deleting_at IS NOT NULL") != 0 {
        assert!(moment() < until, "what a deleted tenant left is not removed");
        // Nothing more is told: this waits.
        drop(server.told(Duration::from_millis(10)));
    }
    let tokens: u64 =
        ledger.writers.iter().flat_map(|w| w.tenants.values()).map(|t| t.tokens.len() as u64).sum();
    let administrators = 1;
    assert_eq!(count("SELECT count(*) FROM tokens"), tokens + administrators);
    let orphans = "SELECT count(*) FROM tokens WHERE tenant NOT IN (SELECT id FROM tenants)";
    assert_eq!(count(orphans), 0);
    let orphans = "SELECT count(*) FROM tenant_quotas WHERE tenant NOT IN (SELECT id FROM tenants)";
    assert_eq!(count(orphans), 0);
    server.stop();
}

#[test]
fn nothing_acknowledged_over_http_is_lost_by_kill_9() {
    let (seed, kills) = (amount("HOLDFAST_SEED", 20_261_121), amount("HOLDFAST_KILLS", KILLS));
    println!("seed={seed}");
    let folder = private_folder();
    let config = folder.path().join("holdfast.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let launch = Launch::new(folder.path()).with(&["--config", config.to_str().unwrap()]);
    let mut ledger = Ledger {
        writers: (0..WRITERS).map(|number| Writer::new(number, seed)).collect(),
        rng: Rng::from_seed(seed),
        audited: BTreeSet::new(),
        acknowledged: 0,
        admin: None,
    };
    let (mut during_start, mut slowest) = (0, Duration::ZERO);
    // The very first starts are cut short, each a little later than the one before.
    for step in 0..8 {
        let starting = launch.start();
        during_start += u64::from(starting.told(Duration::from_micros(step * 1_500)).is_none());
        starting.kill();
    }
    for kill in 0..=kills {
        while ledger.rng.one_in(5) {
            during_start += u64::from(kill_while_it_starts(&launch, &mut ledger.rng));
        }
        let began = moment();
        let server = launch.ready();
        slowest = slowest.max(moment() - began);
        let dead_tried = if kill == kills { usize::MAX } else { DEAD_TRIED };
        if let Err(error) = ledger.check(&server, dead_tried) {
            panic!("seed={seed} kill={kill}: {error}\n{}", server.log());
        }
        if kill < kills {
            write_and_kill(server, &mut ledger, kill);
        } else {
            check_whole_audit(&server, &ledger);
            nothing_is_left_of_the_deleted(server, &ledger);
        }
    }
    let acknowledged = ledger.acknowledged;
    println!(
        "{kills} kills and {during_start} during a start, {acknowledged} acknowledgements, 0 lost; \
         the slowest start took {} ms",
        slowest.as_millis()
    );
    assert!(kills < acknowledged);
}

/// The log has every change once, from its newest to its oldest.
fn check_whole_audit(server: &Server, ledger: &Ledger) {
    if holdfast::base::limits::AUDIT_ROWS_MAX <= ledger.audited.len() as u64 {
        return;
    }
    let entries = all_pages(&mut server.administrator(), "/v1/audit", &[], 999);
    let requests = entries.iter().map(|entry| text(&entry["request_id"]));
    let requests: Vec<String> = requests.filter(|request| !request.is_empty()).collect();
    assert_eq!(requests.len(), ledger.audited.len(), "each change once");
    assert_eq!(requests.into_iter().collect::<BTreeSet<_>>(), ledger.audited);
}

#[test]
fn a_server_that_was_killed_says_so_and_one_that_ended_does_not() {
    let folder = private_folder();
    let launch = Launch::new(folder.path());
    launch.ready().kill();
    let log = |folder: &Path| std::fs::read_to_string(folder.join("log")).unwrap();
    assert!(!log(folder.path()).contains("was killed or lost power"));
    launch.ready().stop();
    let told = log(folder.path());
    assert_eq!(told.matches("was killed or lost power").count(), 1, "{told}");
    launch.ready().stop();
    assert_eq!(log(folder.path()), told, "nothing to say after an end in order");
}
