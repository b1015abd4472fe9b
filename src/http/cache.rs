//! `/v1/cache/{ns}` and what is below it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    AGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
    X_CONTENT_TYPE_OPTIONS,
};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::cache_terms::{self as terms, KeyTime};
use super::openapi;
use super::problem::Problem;
use super::reply::{Page, Reply};
use super::request::Cx;
use super::routes::Soon;
use crate::app::cache::Ask;
use crate::base::cursor;
use crate::base::limits::{CACHE_GET_BYTES_MAX, CACHE_VALUE_BYTES_MAX};
use crate::base::name::Namespace;
use crate::base::scope::Scope;
use crate::cache::entry::{
    Asked, Blob, Condition, ContentType, Found, Key, LeaseToken, Life, OCTETS, Put, Stats, Stored,
    Tag, Value,
};
use crate::cache::glob::Glob;
use crate::cache::kept::What;
use crate::cache::space::Space;

const HOLDFAST_TTL_MS: HeaderName = HeaderName::from_static("holdfast-ttl-ms");
const HOLDFAST_STALE: HeaderName = HeaderName::from_static("holdfast-stale");
const HOLDFAST_LEASE: HeaderName = HeaderName::from_static("holdfast-lease");

const LIST: &str = "cache";
/// Longer values are handed on as they are, shorter ones are copied: it is cheaper than to share them.
const COPIED_BYTES_MAX: usize = 1 << 10;

/// What is there, as an answer.
fn hit(cx: &Cx, found: Found, lease: Option<LeaseToken>) -> Reply {
    let etag = format!("\"{:016x}\"", found.version.etag());
    let known = cx.headers.get_all(IF_NONE_MATCH).iter().any(|known| matches_etag(known, &etag));
    let mut headers = Vec::with_capacity(8);
    headers.push((ETAG, HeaderValue::from_str(&etag).expect("BUG: digits make a header")));
    headers.push((AGE, HeaderValue::from(found.age().as_secs())));
    if let Some(ttl) = found.ttl() {
        headers.push((HOLDFAST_TTL_MS, HeaderValue::from(millis(ttl))));
    }
    if found.stale {
        headers.push((HOLDFAST_STALE, HeaderValue::from_static("1")));
    }
    if let Some(lease) = lease {
        headers.push((HOLDFAST_LEASE, lease_header(lease)));
    }
    if known {
        let status = StatusCode::NOT_MODIFIED;
        return Reply { status, headers, as_is: true, ..Reply::empty() };
    }
    headers.push((CONTENT_TYPE, type_header(found.content_type())));
    // Whatever was stored, a browser must not run it in the name of this server.
    headers.push((X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    headers.push((CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox")));
    let Value::Bytes(blob) = found.value;
    let body = body_of(blob);
    Reply { status: StatusCode::OK, body, headers, as_is: true, ..Reply::empty() }
}

fn body_of(blob: Blob) -> Bytes {
    if blob.bytes().len() <= COPIED_BYTES_MAX {
        Bytes::copy_from_slice(blob.bytes())
    } else {
        Bytes::from_owner(blob)
    }
}

fn type_header(content_type: ContentType<'_>) -> HeaderValue {
    match content_type.as_str() {
        OCTETS => HeaderValue::from_static(OCTETS),
        text => HeaderValue::from_str(text).expect("BUG: it was a header before"),
    }
}

fn lease_header(lease: LeaseToken) -> HeaderValue {
    HeaderValue::from_str(&lease.to_string()).expect("BUG: digits make a header")
}

/// Whether `If-None-Match` names this tag; whether it says weak makes no difference there.
fn matches_etag(known: &HeaderValue, etag: &str) -> bool {
    let known = known.to_str().unwrap_or("");
    known
        .split(',')
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn miss() -> Problem {
    Problem::new("cache_miss", "the key is not there: it was never put, has ended, or was evicted")
}

/// What the server keeps there itself is nobody else's to read, change or count.
const OWN: &str = "holdfast.";

fn check_own(name: &str) -> Result<(), Problem> {
    if !name.starts_with(OWN) {
        return Ok(());
    }
    let detail = "namespaces that begin with holdfast. are the server's own; choose another name";
    Err(Problem::new("invalid_namespace", detail))
}

fn namespace(cx: &Cx) -> Result<Namespace, Problem> {
    check_own(cx.param("ns"))?;
    Ok(Namespace::parse(cx.param("ns"))?)
}

/// The namespace of the path, if it is there.
fn space(cx: &Cx) -> Result<Option<Arc<Space>>, Problem> {
    let name = cx.param("ns");
    check_own(name)?;
    match cx.app().space(&cx.caller().tenant, name) {
        Some(space) => Ok(Some(space)),
        // Of what is not there, the name is looked at: a typo is told.
        None => Namespace::parse(name).map(|_| None).map_err(Problem::from),
    }
}

/// `GET /v1/cache/{ns}/keys/{key}`, and `HEAD`
pub(super) fn get(cx: Cx) -> Soon {
    match asked(&cx) {
        Err(problem) => Soon::Now(Err(problem)),
        Ok(None) => Soon::Now(read(&cx)),
        Ok(Some(ask)) => Soon::Later(Box::pin(ask_for(cx, ask))),
    }
}

/// How the key is asked for, if it is with a lease.
fn asked(cx: &Cx) -> Result<Option<Ask>, Problem> {
    let (lease, wait) = (cx.query.get("lease"), cx.query.get("wait"));
    let Some(lease) = lease else {
        return match wait {
            None => Ok(None),
            Some(_) => {
                Err(Problem::new("invalid_wait", "wait goes with lease: ?lease=30s&wait=2s"))
            }
        };
    };
    cx.caller().need(Scope::CacheWrite)?;
    if cx.head_only {
        return Err(Problem::new("invalid_lease", "a lease goes with GET, not with HEAD"));
    }
    let lease = terms::lease_time(lease)?;
    let wait = wait.map(terms::wait).transpose()?.unwrap_or_default();
    Ok(Some(Ask { lease, wait }))
}

fn read(cx: &Cx) -> Result<Reply, Problem> {
    let key = terms::key(cx.param("key"))?;
    let space = space(cx)?.ok_or_else(miss)?;
    let now = cx.now.mono;
    let found = if cx.head_only { space.peek(now, key) } else { space.get(now, key) };
    Ok(hit(cx, found.ok_or_else(miss)?, None))
}

async fn ask_for(cx: Cx, ask: Ask) -> Result<Reply, Problem> {
    let key = terms::key(cx.param("key"))?;
    let name = namespace(&cx)?;
    let space = cx.app().space_or_new(&cx.caller().tenant, &name)?;
    let stop = cx.edge().until_stopping();
    let (asked, waited) = cx.app().cache_ask(&space, key, ask, stop).await;
    cx.waited(waited);
    match asked {
        Asked::Hit(found, lease) => Ok(hit(&cx, found, lease)),
        Asked::Leased(lease) => {
            let detail = "the key is not there; the lease is yours: put the value with ?lease=";
            let mut problem = Problem::new("cache_miss", detail).with("lease", lease.to_string());
            problem.headers.push((HOLDFAST_LEASE, lease_header(lease)));
            Err(problem)
        }
        Asked::Busy { retry_after } => {
            let detail = "the key is not there, and somebody else has the lease to compute it";
            let problem = Problem::new("cache_miss", detail);
            Err(problem.with("retry_after_ms", millis(retry_after).max(1)).retry_after(retry_after))
        }
    }
}

/// `PUT /v1/cache/{ns}/keys/{key}`
pub(super) async fn put(cx: Cx) -> Result<Reply, Problem> {
    let name = namespace(&cx)?;
    let tags = cx.query.get("tags").map_or(Ok(Vec::new()), |text| terms::tags(text.split(',')))?;
    let content_type = match cx.headers.get(CONTENT_TYPE) {
        None => ContentType::OCTETS,
        Some(given) => terms::content_type(given)?,
    };
    let put = Put {
        key: terms::key(cx.param("key"))?,
        value: &cx.body,
        content_type,
        life: life(&cx)?,
        tags: &tags,
        condition: cx.query.get("if").map_or(Ok(Condition::Always), terms::condition)?,
        lease: cx.query.get("lease").map(terms::lease_token).transpose()?,
    };
    let space = cx.app().space_or_new(&cx.caller().tenant, &name)?;
    let stored = cx.app().cache_put(&space, &put).await?;
    let status = match stored {
        Stored::New => StatusCode::CREATED,
        Stored::Replaced => StatusCode::OK,
    };
    Ok(Reply { status, ..Reply::empty() })
}

/// The life that the query gives.
fn life(cx: &Cx) -> Result<Life, Problem> {
    let text = |name| cx.query.get(name).map(|text| Json::String(text.to_owned()));
    let (ttl, stale, jitter) = (text("ttl"), text("stale"), text("jitter"));
    let time = KeyTime { ttl: ttl.as_ref(), stale: stale.as_ref(), jitter: jitter.as_ref() };
    time.life(&cx.app().settings().cache.classes, || cx.edge().chance())
}

/// `DELETE /v1/cache/{ns}/keys/{key}`
pub(super) async fn delete(cx: Cx) -> Result<Reply, Problem> {
    let key = terms::key(cx.param("key"))?;
    let space = space(&cx)?.ok_or_else(miss)?;
    let what = What::Keys(vec![key.as_str().to_owned()]);
    match cx.app().cache_forget(&space, what, false).await? {
        0 => Err(miss()),
        _ => Ok(Reply::empty()),
    }
}

/// Keys that are asked for.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Keys {
    /// At most 1,000; their values are at most 16 MiB together.
    keys: Vec<String>,
}

/// A value as JSON carries it.
#[derive(Serialize, ToSchema)]
pub struct Entry<'e> {
    /// The text, or the bytes in base64.
    value: &'e str,
    /// `utf8` or `base64`.
    encoding: &'static str,
    /// For how long it is fresh; null for ever, 0 when it is stale.
    ttl_ms: Option<u64>,
    /// Whether its ttl is over.
    stale: bool,
    /// Its type.
    content_type: &'e str,
}

/// What was found.
#[derive(Serialize, ToSchema)]
pub struct Entries<'e> {
    /// What is there, by key.
    #[schema(schema_with = openapi::entries)]
    entries: Map<'e>,
    /// The keys that are not.
    missing: Vec<&'e str>,
}

/// Entries by key, in the order in which they were asked for.
pub struct Map<'e>(Vec<(Key<'e>, Found)>);

impl Serialize for Map<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        let mut base64 = String::new();
        for (key, found) in &self.0 {
            let (value, encoding) = if let Some(text) = plain_text(found.bytes()) {
                (text, "utf8")
            } else {
                base64.clear();
                BASE64.encode_string(found.bytes(), &mut base64);
                (base64.as_str(), "base64")
            };
            let ttl_ms = found.ttl().map(millis);
            let content_type = found.content_type();
            let content_type = content_type.as_str();
            let entry = Entry { value, encoding, ttl_ms, stale: found.stale, content_type };
            map.serialize_entry(key.as_str(), &entry)?;
        }
        map.end()
    }
}

/// The text that these bytes are, if JSON carries it as it is. Control characters would grow sixfold there.
fn plain_text(bytes: &[u8]) -> Option<&str> {
    let odd = |b: &u8| *b < b' ' && !matches!(b, b'\n' | b'\r' | b'\t');
    std::str::from_utf8(bytes).ok().filter(|text| !text.as_bytes().iter().any(odd))
}

/// `POST /v1/cache/{ns}/get`
pub(super) fn get_many(cx: &Cx) -> Result<Reply, Problem> {
    let wire: Keys = cx.json()?;
    let keys = terms::keys(&wire.keys)?;
    let space = space(cx)?;
    let mut asked = HashSet::with_capacity(keys.len());
    let (mut entries, mut missing, mut bytes) = (Vec::with_capacity(keys.len()), Vec::new(), 0);
    for key in keys.into_iter().filter(|key| asked.insert(*key)) {
        match space.as_ref().and_then(|space| space.get(cx.now.mono, key)) {
            Some(found) => {
                bytes += found.bytes().len();
                if CACHE_GET_BYTES_MAX < bytes {
                    return Err(too_much_asked());
                }
                entries.push((key, found));
            }
            None => missing.push(key.as_str()),
        }
    }
    Ok(Reply::json(&Entries { entries: Map(entries), missing }))
}

fn too_much_asked() -> Problem {
    let detail = format!(
        "the values are more than {CACHE_GET_BYTES_MAX} bytes together; ask for fewer keys at once"
    );
    Problem::new("too_large", detail).with("limit", CACHE_GET_BYTES_MAX)
}

/// Entries to be stored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewEntries {
    /// At most 1,000.
    entries: Vec<NewEntry>,
}

/// An entry to be stored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewEntry {
    /// Its key.
    key: String,
    /// The text, or the bytes in base64.
    value: String,
    /// `utf8`, or `base64`; `utf8` without it.
    encoding: Option<String>,
    /// For how long it is fresh; for ever without it.
    #[schema(schema_with = openapi::ttl)]
    ttl: Option<Json>,
    /// For how long it is served as stale after that.
    #[schema(schema_with = openapi::duration)]
    stale: Option<Json>,
    /// The ttl is shortened by chance, by up to this part of it: 0.1 is a tenth.
    #[schema(schema_with = openapi::jitter)]
    jitter: Option<Json>,
    /// What it can be forgotten by; at most 16.
    tags: Option<Vec<String>>,
    /// Its type.
    content_type: Option<String>,
}

/// How many were stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredCount {
    /// All of them.
    stored: usize,
}

/// An entry whose parts were looked at.
struct Checked<'n> {
    key: Key<'n>,
    value: Cow<'n, [u8]>,
    content_type: ContentType<'n>,
    life: Life,
    tags: Vec<Tag<'n>>,
}

impl<'n> Checked<'n> {
    fn of(cx: &Cx, wire: &'n NewEntry) -> Result<Checked<'n>, Problem> {
        let value: Cow<'n, [u8]> = match wire.encoding.as_deref() {
            None | Some("utf8") => wire.value.as_bytes().into(),
            Some("base64") => BASE64
                .decode(&wire.value)
                .map_err(|error| {
                    Problem::new("invalid_value", format!("the value is not base64: {error}"))
                })?
                .into(),
            Some(_) => {
                return Err(Problem::new("invalid_encoding", "encoding is utf8 or base64"));
            }
        };
        if CACHE_VALUE_BYTES_MAX < value.len() {
            let detail = format!("a value has at most {CACHE_VALUE_BYTES_MAX} bytes");
            return Err(Problem::new("too_large", detail).with("limit", CACHE_VALUE_BYTES_MAX));
        }
        let (ttl, stale) = (wire.ttl.as_ref(), wire.stale.as_ref());
        let time = KeyTime { ttl, stale, jitter: wire.jitter.as_ref() };
        let text = wire.content_type.as_deref();
        Ok(Checked {
            key: terms::key(&wire.key)?,
            value,
            content_type: text.map_or(Ok(ContentType::OCTETS), terms::content_type_text)?,
            life: time.life(&cx.app().settings().cache.classes, || cx.edge().chance())?,
            tags: terms::tags(wire.tags.iter().flatten().map(String::as_str))?,
        })
    }

    fn put(&self) -> Put<'_> {
        Put {
            key: self.key,
            value: &self.value,
            content_type: self.content_type,
            life: self.life,
            tags: &self.tags,
            condition: Condition::Always,
            lease: None,
        }
    }
}

/// `POST /v1/cache/{ns}/put`
pub(super) async fn put_many(cx: Cx) -> Result<Reply, Problem> {
    let name = namespace(&cx)?;
    let wire: NewEntries = cx.json()?;
    terms::check_count("entries", wire.entries.len())?;
    let checked = wire.entries.iter().enumerate().map(|(index, entry)| {
        Checked::of(&cx, entry).map_err(|problem| problem.with("index", index))
    });
    let checked: Vec<_> = checked.collect::<Result<_, _>>()?;
    let puts: Vec<_> = checked.iter().map(Checked::put).collect();
    let space = cx.app().space_or_new(&cx.caller().tenant, &name)?;
    cx.app().cache_put_all(&space, &puts).await?;
    Ok(Reply::json(&StoredCount { stored: puts.len() }))
}

/// A number to be changed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Increment {
    /// Its key.
    key: String,
    /// How much is added; 1 without it.
    by: Option<i64>,
    /// For how long it is fresh, if it is new.
    #[schema(schema_with = openapi::ttl)]
    ttl: Option<Json>,
}

/// A number.
#[derive(Debug, Serialize, ToSchema)]
pub struct Number {
    /// What it is now.
    value: i64,
}

/// `POST /v1/cache/{ns}/increment`
pub(super) async fn increment(cx: Cx) -> Result<Reply, Problem> {
    let name = namespace(&cx)?;
    let wire: Increment = cx.json()?;
    let key = terms::key(&wire.key)?;
    let time = KeyTime { ttl: wire.ttl.as_ref(), stale: None, jitter: None };
    let life = time.life(&cx.app().settings().cache.classes, || cx.edge().chance())?;
    let by = terms::step(wire.by.unwrap_or(1))?;
    let space = cx.app().space_or_new(&cx.caller().tenant, &name)?;
    let value = cx.app().cache_increment(&space, key, by, life).await?;
    Ok(Reply::json(&Number { value }))
}

/// A key that is to live on.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Touch {
    /// Which one.
    key: String,
    /// For how long it is fresh from now on.
    #[schema(schema_with = openapi::ttl)]
    ttl: Json,
}

/// How long it lives on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Touched {
    /// For how long it is fresh.
    ttl_ms: u64,
}

/// `POST /v1/cache/{ns}/touch`
pub(super) async fn touch(cx: Cx) -> Result<Reply, Problem> {
    let wire: Touch = cx.json()?;
    let key = terms::key(&wire.key)?;
    let time = KeyTime { ttl: Some(&wire.ttl), stale: None, jitter: None };
    let (life, classed) = time.life_and_origin(&cx.app().settings().cache.classes)?;
    let ttl = life.ttl().ok_or_else(|| Problem::new("invalid_ttl", "a ttl is needed"))?;
    let space = space(&cx)?.ok_or_else(miss)?;
    let stale = classed.then(|| life.stale());
    if !cx.app().cache_touch(&space, key, ttl, stale).await? {
        return Err(miss());
    }
    Ok(Reply::json(&Touched { ttl_ms: millis(ttl) }))
}

/// What is to be forgotten: exactly one of the first five.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ForgetRequest {
    /// These keys; at most 1,000.
    keys: Option<Vec<String>>,
    /// What has any of these tags; at most 16.
    tags: Option<Vec<String>>,
    /// What begins with this text.
    prefix: Option<String>,
    /// What matches: `*` is any text, `?` one character, `[a-z]` one of these, `[!a-z]` one of the others.
    pattern: Option<String>,
    /// Everything, when it is true.
    all: Option<bool>,
    /// Whether it is only counted.
    dry_run: Option<bool>,
}

/// How many entries were forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub struct Forgotten {
    /// Exactly so many were there and are not any more.
    forgotten: u64,
}

fn one_of_five() -> Problem {
    let detail = "exactly one of keys, tags, prefix, pattern and all says what is forgotten";
    Problem::malformed(detail)
}

fn forgetting(wire: ForgetRequest) -> Result<What, Problem> {
    let ForgetRequest { keys, tags, prefix, pattern, all, dry_run: _ } = wire;
    match (keys, tags, prefix, pattern, all) {
        (Some(keys), None, None, None, None) => {
            terms::keys(&keys)?;
            Ok(What::Keys(keys))
        }
        (None, Some(tags), None, None, None) => {
            terms::tags(tags.iter().map(String::as_str))?;
            Ok(What::Tags(tags))
        }
        (None, None, Some(prefix), None, None) if prefix.is_empty() => {
            let detail = "an empty prefix is everything: say \"all\": true";
            Err(Problem::new("invalid_prefix", detail))
        }
        (None, None, Some(prefix), None, None) => Ok(What::Prefix(prefix)),
        (None, None, None, Some(pattern), None) => match Glob::parse(&pattern) {
            Ok(glob) => Ok(What::Pattern(glob)),
            Err(bad) => Err(Problem::new("invalid_pattern", bad.to_string())),
        },
        (None, None, None, None, Some(true)) => Ok(What::All),
        (None, None, None, None, Some(false)) => {
            Err(Problem::malformed("all is true, or is left out"))
        }
        _ => Err(one_of_five()),
    }
}

/// `POST /v1/cache/{ns}/forget`
pub(super) async fn forget(cx: Cx) -> Result<Reply, Problem> {
    let wire: ForgetRequest = cx.json()?;
    let dry_run = wire.dry_run.unwrap_or(false);
    let what = forgetting(wire)?;
    let forgotten = match space(&cx)? {
        None => 0,
        Some(space) => cx.app().cache_forget(&space, what, dry_run).await?,
    };
    Ok(Reply::json(&Forgotten { forgotten }))
}

/// A namespace: what it holds, and what it has seen since the start.
#[derive(Debug, Serialize, ToSchema)]
pub struct CacheStats {
    /// Its name.
    namespace: String,
    /// Entries that are served.
    entries: u64,
    /// What they take in memory, keys and all.
    bytes: u64,
    /// What they may take.
    bytes_max: u64,
    /// Whether its entries are kept on disk and never evicted.
    kept: bool,
    /// Keys that were asked for and served.
    hits: u64,
    /// Keys that were asked for and not served.
    misses: u64,
    /// Hits among all that was asked for, 0 to 1; null before the first.
    hit_rate: Option<f64>,
    /// Hits that were stale.
    stale_served: u64,
    /// Hits that waited for what another computed.
    coalesced: u64,
    /// Entries that made room for others.
    evicted: u64,
    /// Entries whose time ended.
    expired: u64,
}

/// Hits among all that was asked for.
pub(super) fn hit_rate(stats: &Stats) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = |a: u64, b: u64| a as f64 / b as f64;
    let asked = stats.hits + stats.misses;
    (0 < asked).then(|| ratio(stats.hits, asked))
}

impl CacheStats {
    fn of(space: &Space, stats: &Stats) -> CacheStats {
        CacheStats {
            namespace: space.name().to_string(),
            entries: stats.entries,
            bytes: stats.bytes,
            bytes_max: space.bytes_max(),
            kept: space.kept(),
            hits: stats.hits,
            misses: stats.misses,
            hit_rate: hit_rate(stats),
            stale_served: stats.stale_served,
            coalesced: stats.coalesced,
            evicted: stats.evicted,
            expired: stats.expired,
        }
    }
}

/// `GET /v1/cache`
pub(super) fn list(cx: &Cx) -> Result<Reply, Problem> {
    let paging = cx.paging(LIST)?;
    let after = paging.after.map(String::from_utf8).transpose().map_err(|_| cursor::BadCursor)?;
    let (now, tenant) = (cx.now.mono, cx.caller().tenant.id);
    let mut found = cx.app().cache().spaces(now, tenant, after.as_deref(), paging.limit + 1);
    let more = paging.limit < found.len();
    found.truncate(paging.limit);
    let last = found.last().filter(|_| more);
    Ok(Reply::json(&Page {
        items: found.iter().map(|space| CacheStats::of(space, &space.stats(now))).collect(),
        next: last.map(|space| cursor::write(LIST, space.name().as_str().as_bytes())),
    }))
}

/// `GET /v1/cache/{ns}`
pub(super) fn show(cx: &Cx) -> Result<Reply, Problem> {
    let now = cx.now.mono;
    if let Some(space) = space(cx)?.filter(|space| space.exists(now)) {
        return Ok(Reply::json(&CacheStats::of(&space, &space.stats(now))));
    }
    let detail = format!("the namespace {} is empty or was never used", cx.param("ns"));
    Err(Problem::new("unknown_namespace", detail))
}
