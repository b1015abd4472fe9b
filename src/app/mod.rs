//! Row 5: one door. Who may do what, for which tenant, and what becomes of it.
//!
//! ```text
//!  http ---> [App] --authenticate--> Directory (RAM)     every request; no disk
//!               |---change---------> Keeper<Catalog>     one thread, one transaction each, synced
//!               |                       '--> Directory, on that thread, after the commit
//!               |---kept, locks----> Writer             one thread, many operations in one commit, synced
//!               |                       '--> Cache, Locks (RAM), on that thread, after the commit
//!               |---blocking work--> Pool
//!               '---slow work------> SlowLog (RAM)
//! ```
//!
//! **Invariants**
//! - The directory holds what the catalog holds: it is changed only on the keeper's thread, after the
//!   commit, in commit order, and read anew whenever the catalog was reopened. A revocation whose outcome
//!   is unknown counts as done.
//! - An answer that says "created" or "gone" is given after the sync.
//! - A tenant sees what belongs to it. `admin` exists in tenant `default` alone, and only `admin` may name
//!   another tenant. What belongs to somebody else is answered as if it did not exist.
//! - No secret is kept: the catalog has a token's SHA-256. Comparison takes the same time whatever differs.
//! - Failed attempts are throttled per peer; a token that is right is never throttled.
//!
//! **Failure cases**: the catalog fails in a commit: `outcome_unknown`, then `read_only` until it is
//! reopened; authentication goes on from RAM. The disk is nearly full: what grows is refused, revoking goes
//! on. A tenant's tier is gone from the configuration: its own quotas and no others hold, and it is told in
//! the log and in the tenant's page.
//!
//! Never here: a socket, a file, a clock, a thread, a wire format.

pub mod cache;
pub mod capacity;
pub mod catalog;
pub mod directory;
pub mod history;
pub mod host;
pub mod jobs;
pub mod kept;
pub mod locks;
pub mod outside;
pub mod past;
pub mod queue;
mod queue_workers;
pub mod series;
mod series_keeper;
pub mod series_query;
mod series_tick;
pub(crate) mod series_workers;
pub mod slow;
pub mod tenants;
pub mod throttle;
pub mod tokens;
pub mod trends;
pub mod watch;
pub mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::oneshot;

use self::directory::{Directory, TenantEntry, TokenEntry};
use self::host::Host;
use self::jobs::Jobs;
use self::kept::Kept;
use self::outside::{Entropy, Machine, Probe};
use self::past::Past;
use self::series::{Series, SeriesSettings};
use self::slow::SlowLog;
use self::throttle::{Peer, Throttle};
use self::watch::Watch;
use crate::base::id::{JobId, TokenId};
use crate::base::limits::WRITE_DEADLINE;
use crate::base::name::{Namespace, QueueName, ScheduleName, TenantName};
use crate::base::quota::{Quota, Quotas};
use crate::base::scope::Scope;
use crate::base::time::{Clock, Now};
use crate::cache::entry::Life;
use crate::cache::space::{self, Cache};
use crate::catalog::{self as relations, Audit, AuditRow, Catalog};
use crate::exec;
use crate::exec::keeper::{Keeper, Task};
use crate::exec::pool::Pool;
use crate::exec::worker::Waker;
use crate::exec::writer::Effect;
use crate::queue::calendar::Zone;
use crate::queue::job::{Rules, State as JobState};

/// The tenant that every installation has, and to which the machine belongs.
pub const DEFAULT_TENANT: &str = "default";
/// The tier of a tenant for which nobody asked for another.
pub const STANDARD_TIER: &str = "standard";

/// Why something was not done. Not `non_exhaustive`: a new variant has to break the mapping to HTTP.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody said who is asking.
    #[error("a token is needed: Authorization: Bearer hf_...")]
    NoToken,
    /// What was said is not a token that is valid here.
    #[error("{0}")]
    BadToken(BadToken),
    /// Too many wrong tokens from there.
    #[error("too many wrong tokens from this address; come back in {} s", retry_after.as_secs().max(1))]
    Throttled {
        /// When the next attempt is looked at.
        retry_after: Duration,
    },
    /// The token is right, but it may not do that.
    #[error("this needs the scope {needed}; the token {token:?} has {has}")]
    Scope {
        /// The scope that is needed.
        needed: Scope,
        /// The token's name.
        token: Arc<str>,
        /// The scopes it has.
        has: String,
    },
    /// Only administrators act for another tenant.
    #[error("Holdfast-Tenant is for tokens with the scope admin")]
    NotAdmin,
    /// It belongs to the machine, and so to tenant `default`.
    #[error("this belongs to tenant {DEFAULT_TENANT}")]
    DefaultOnly,
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    UnknownTenant(TenantName),
    /// There is no such token in that tenant.
    #[error("there is no token {0}")]
    UnknownToken(TokenId),
    /// Tenant `default` cannot be deleted.
    #[error("tenant {DEFAULT_TENANT} cannot be deleted: the machine belongs to it")]
    TenantProtected,
    /// The tier is not in the configuration.
    #[error(
        "there is no tier {tier:?}; there are: {known}; a new one is a section [tier.{tier}] of the configuration"
    )]
    BadTier {
        /// What was asked for.
        tier: String,
        /// What there is.
        known: String,
    },
    /// The name of a token is empty, too long, or holds control characters.
    #[error("a token's name has 1 to 128 bytes and no control characters")]
    BadTokenName,
    /// A token that may do nothing, or an administrator outside of tenant `default`.
    #[error("{0}")]
    BadScopes(&'static str),
    /// A token that would be expired at once.
    #[error("expires_in is above zero")]
    BadExpiry,
    /// The tenant has as much as it may have.
    #[error("the quota {quota} is {limit}, and {used} are used; raise it: holdfast tenant set {tenant} --quota {quota}={}", limit + 1)]
    QuotaExceeded {
        /// Which one.
        quota: Quota,
        /// What is allowed.
        limit: u64,
        /// What there is.
        used: u64,
        /// Whose.
        tenant: TenantName,
    },
    /// The whole server has as much as it may have.
    #[error("this server keeps at most {limit} {what}")]
    ServerFull {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// The cache refused.
    #[error(transparent)]
    Cache(#[from] crate::cache::Error),
    /// A lock was not taken, refreshed or released.
    #[error(transparent)]
    Lock(crate::cache::locks::Error),
    /// The jobs refused.
    #[error(transparent)]
    Queue(crate::queue::Error),
    /// The series refused.
    #[error(transparent)]
    Series(crate::series::Error),
    /// Too many samples wait to be sealed.
    #[error("as many samples are in memory as may be; they are being written away")]
    SeriesFull,
    /// There is no such job.
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// There is no such queue.
    #[error("there is no queue {0}")]
    UnknownQueue(QueueName),
    /// No series is meant.
    #[error("there are no series {0}; holdfast series list tells which there are")]
    UnknownSeries(String),
    /// There is no such lease.
    #[error("there is no such lease")]
    UnknownLease,
    /// The lease is over, or somebody else has the job.
    #[error("this lease is over; the job is {0} now")]
    LeaseLost(JobState),
    /// The job is over.
    #[error("the job is {0} already")]
    JobFinished(JobState),
    /// There is no such worker.
    #[error("there is no worker {0}")]
    UnknownWorker(String),
    /// There are as many workers as there may be.
    #[error("{0}")]
    TooManyWorkers(crate::queue::workers::TooMany),
    /// There is no such schedule.
    #[error("there is no schedule {0}")]
    UnknownSchedule(ScheduleName),
    /// What is kept on disk refused.
    #[error("the store refused")]
    Store(#[source] crate::store::Error),
    /// It was not done, or it is not known.
    #[error(transparent)]
    Exec(#[from] exec::Error),
    /// The catalog refused or failed.
    #[error("the catalog failed")]
    Catalog(#[source] relations::Error),
}

/// Why a bearer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It does not look like a token of ours.
    #[error("this is not a token: {0}")]
    Form(crate::base::token::BadToken),
    /// Unknown, revoked, or the secret is wrong; the same answer for all three.
    #[error("this token is not valid here: it is unknown or was revoked")]
    Unknown,
    /// It was right, until then.
    #[error("this token expired at {0}")]
    Expired(crate::base::time::Timestamp),
}

impl Error {
    /// The stable word that clients match on.
    pub fn code(&self) -> &'static str {
        match self {
            Error::NoToken | Error::BadToken(_) => "unauthenticated",
            Error::Throttled { .. } => "rate_limited",
            Error::Scope { .. } | Error::NotAdmin | Error::DefaultOnly => "forbidden",
            Error::UnknownTenant(_) => "unknown_tenant",
            Error::UnknownToken(_) => "unknown_token",
            Error::TenantProtected => "tenant_protected",
            Error::BadTier { .. } => "invalid_tier",
            Error::BadTokenName => "invalid_name",
            Error::BadScopes(_) => "invalid_scopes",
            Error::BadExpiry => "invalid_expires_in",
            Error::QuotaExceeded { .. } | Error::ServerFull { .. } | Error::TooManyWorkers(_) => {
                "quota_exceeded"
            }
            Error::Cache(error) => error.code(),
            Error::Lock(error) => error.code(),
            Error::Queue(error) => error.code(),
            Error::Series(error) => error.code(),
            Error::SeriesFull => "overloaded",
            Error::UnknownJob(_) => "unknown_job",
            Error::UnknownQueue(_) => "unknown_queue",
            Error::UnknownSeries(_) => "unknown_series",
            Error::UnknownLease => "unknown_lease",
            Error::LeaseLost(_) => "lease_lost",
            Error::JobFinished(_) => "job_finished",
            Error::UnknownWorker(_) => "unknown_worker",
            Error::UnknownSchedule(_) => "unknown_schedule",
            Error::Store(crate::store::Error::OperationTooLarge) => "too_large",
            Error::Exec(error) => error.code(),
            Error::Catalog(relations::Error::CommitFailed(_)) => "outcome_unknown",
            // Nothing of the call was stored, and the file is being opened anew.
            Error::Catalog(error) if error.breaks_handle() => "read_only",
            // We judged before; what the catalog or the store refuses then is a fault of ours.
            Error::Store(_) | Error::Catalog(_) => "internal",
        }
    }
}

/// What can be changed while we run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Quotas by tier.
    pub tiers: BTreeMap<String, Quotas>,
    /// The cache.
    pub cache: CacheSettings,
    /// The rules of job types.
    pub job_types: BTreeMap<String, Rules>,
    /// What the history keeps.
    pub history: past::Keep,
    /// Time series.
    pub series: SeriesSettings,
    /// Units of systemd: those that count, and those that are critical.
    pub units: [Vec<String>; 2],
    /// The time zone of schedules that name none.
    pub timezone: Zone,
}

/// Small, and for tests: a server's come from its configuration.
impl Default for Settings {
    fn default() -> Settings {
        Settings {
            tiers: BTreeMap::new(),
            cache: CacheSettings::default(),
            job_types: BTreeMap::new(),
            history: past::Keep {
                rows: 1_000_000,
                bytes: 1 << 30,
                age: Duration::from_hours(24 * 7),
            },
            series: SeriesSettings::default(),
            units: <[Vec<String>; 2]>::default(),
            timezone: Zone::UTC,
        }
    }
}

/// The cache, with every part of the memory in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Whether ordinary entries are kept at all.
    pub enabled: bool,
    /// Bytes for all ordinary entries.
    pub budget: u64,
    /// Bytes for all kept entries.
    pub kept_budget: u64,
    /// The most that a namespace may hold for one tenant; the whole budget if it is not here.
    pub caps: BTreeMap<Namespace, u64>,
    /// Namespaces that are on disk and never evicted. Counts from the next start on.
    pub kept: BTreeSet<Namespace>,
    /// How long the values of a class are served.
    pub classes: BTreeMap<String, Life>,
    /// Whether ordinary entries are stored at an end in order.
    pub snapshot: bool,
}

impl CacheSettings {
    /// The cache's own part.
    pub fn space(&self) -> space::Settings {
        space::Settings {
            enabled: self.enabled,
            budget: self.budget,
            kept_budget: self.kept_budget,
            caps: self.caps.clone(),
        }
    }
}

/// Small, and for tests: a server's come from its configuration.
impl Default for CacheSettings {
    fn default() -> CacheSettings {
        CacheSettings {
            enabled: true,
            budget: 64 << 20,
            kept_budget: 16 << 20,
            caps: BTreeMap::new(),
            kept: BTreeSet::new(),
            classes: BTreeMap::new(),
            snapshot: false,
        }
    }
}

/// Somebody who showed a valid token, and the tenant for which they act.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token.
    pub token: Arc<TokenEntry>,
    /// The tenant: the token's own, or the one that an administrator named.
    pub tenant: Arc<TenantEntry>,
}

/// Who did it, for the audit log.
#[derive(Clone, Debug)]
pub struct Author {
    /// Which token, unless it was the server itself.
    pub token: Option<TokenId>,
    /// Its name.
    pub name: String,
    /// In which request.
    pub request_id: String,
}

impl Author {
    /// The server itself, when it starts.
    pub fn server() -> Author {
        Author { token: None, name: "server".into(), request_id: String::new() }
    }
}

/// The application.
pub struct App {
    clock: Arc<dyn Clock>,
    directory: Arc<Directory>,
    keeper: Keeper<Catalog>,
    kept: Arc<Kept>,
    jobs: Arc<Jobs>,
    history: Past,
    series: Arc<Series>,
    /// What is found out without being asked.
    watch: Watch,
    pool: Pool,
    cache: Arc<Cache>,
    throttle: Throttle,
    slow: Arc<SlowLog>,
    settings: RwLock<Arc<Settings>>,
    entropy: Box<dyn Entropy>,
    /// Stands in the keys of answers that are kept.
    answers_secret: u128,
    probe: Box<dyn Probe>,
    host: Host,
    /// Wakes the worker that removes what deleted tenants left.
    removal: OnceLock<Waker>,
}

/// What an application is made of.
pub struct Parts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Tenants and tokens, as the keeper's catalog has them.
    pub directory: Arc<Directory>,
    /// The catalog.
    pub keeper: Keeper<Catalog>,
    /// Kept namespaces and locks.
    pub kept: Arc<Kept>,
    /// Jobs.
    pub jobs: Arc<Jobs>,
    /// Jobs that are over.
    pub history: Past,
    /// Time series.
    pub series: Arc<Series>,
    /// Threads for work that is all CPU, or that waits for a file.
    pub pool: Pool,
    /// What is cached.
    pub cache: Arc<Cache>,
    /// Where slow work is noted.
    pub slow: Arc<SlowLog>,
    /// What can be changed later.
    pub settings: Settings,
    /// Where secrets come from.
    pub entropy: Box<dyn Entropy>,
    /// What the machine says of this process and its disk.
    pub probe: Box<dyn Probe>,
    /// The machine itself.
    pub machine: Box<dyn Machine>,
}

impl App {
    /// Puts it together.
    pub fn new(parts: Parts) -> App {
        parts.jobs.state.memory.lock().types.clone_from(&parts.settings.job_types);
        parts.series.set_settings(&parts.settings.series);
        let mut secret = [0; 16];
        parts.entropy.fill(&mut secret);
        App {
            clock: parts.clock,
            directory: parts.directory,
            keeper: parts.keeper,
            kept: parts.kept,
            jobs: parts.jobs,
            history: parts.history,
            series: parts.series,
            watch: Watch::default(),
            pool: parts.pool,
            cache: parts.cache,
            throttle: Throttle::default(),
            slow: parts.slow,
            settings: RwLock::new(Arc::new(parts.settings)),
            entropy: parts.entropy,
            answers_secret: u128::from_le_bytes(secret),
            probe: parts.probe,
            host: Host::new(parts.machine),
            removal: OnceLock::new(),
        }
    }

    /// The clock.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Tenants and tokens.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The catalog's thread, for its figures.
    pub fn keeper(&self) -> &Keeper<Catalog> {
        &self.keeper
    }

    /// Kept namespaces, and the thread of their file.
    pub fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// The CPU pool, for its figures.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The slow log.
    pub fn slow(&self) -> &SlowLog {
        &self.slow
    }

    /// What the machine says.
    pub fn probe(&self) -> &dyn Probe {
        &*self.probe
    }

    /// Refused attempts so far, throttled ones among them.
    pub fn refused_attempts(&self) -> throttle::Figures {
        self.throttle.figures()
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    /// Puts other settings in force.
    pub fn set_settings(&self, settings: Settings) {
        self.cache.set_settings(settings.cache.space());
        self.set_job_types(settings.job_types.clone());
        self.series.set_settings(&settings.series);
        *self.settings.write() = Arc::new(settings);
        self.apply_all_cache_max();
    }

    /// Who shows this bearer.
    ///
    /// Costs a hash and two look-ups, and never touches the disk.
    pub fn authenticate(
        &self,
        bearer: Option<&str>,
        peer: Peer,
        now: Now,
    ) -> Result<Caller, Error> {
        let bearer = bearer.ok_or(Error::NoToken)?;
        match self.directory.find(bearer, now.wall) {
            Ok((token, tenant)) => Ok(Caller { token, tenant }),
            // Somebody who has the secret guesses nothing.
            Err(expired @ BadToken::Expired(_)) => Err(Error::BadToken(expired)),
            Err(bad) => match self.throttle.refused(peer, now.mono) {
                Some(retry_after) => Err(Error::Throttled { retry_after }),
                None => Err(Error::BadToken(bad)),
            },
        }
    }

    /// The same caller, acting for the tenant with this name.
    pub fn act_for(&self, caller: &Caller, name: &TenantName) -> Result<Caller, Error> {
        if !caller.token.scopes.allows(Scope::Admin) {
            return Err(Error::NotAdmin);
        }
        let tenant = self.directory.tenant(name);
        let tenant = tenant.ok_or_else(|| Error::UnknownTenant(name.clone()))?;
        Ok(Caller { token: Arc::clone(&caller.token), tenant })
    }

    /// Runs something that takes long or waits for a file, on the pool.
    pub async fn blocking<T: Send + 'static>(
        &self,
        within: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let until = self.clock.mono().plus(within);
        self.pool.submit(until, |_| work(), move |result| drop(answer.send(result)))?;
        Ok(answered.await.map_err(|_| exec::Error::Stopping)??)
    }

    /// Lets `operation` change the catalog, on its thread.
    async fn change<T: Send + 'static>(
        &self,
        name: &'static str,
        effect: Effect,
        operation: impl FnOnce(&mut Catalog, &Directory) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let directory = Arc::clone(&self.directory);
        let task = Task { name, until: self.clock.mono().plus(WRITE_DEADLINE), effect };
        self.keeper.submit(
            task,
            move |catalog| operation(catalog, &directory),
            move |result| drop(answer.send(result)),
        )?;
        answered.await.map_err(|_| exec::Error::Stopping)?.map_err(Error::Exec)?
    }

    /// The newest entries of the audit log before `before`.
    pub async fn audit_page(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, Error> {
        self.change("audit.page", Effect::Frees, move |catalog, _| {
            catalog.audit_page(before, limit).map_err(Error::Catalog)
        })
        .await
    }

    /// Notes something in the audit log that is no change of the catalog.
    pub async fn audit(
        &self,
        now: Now,
        by: Author,
        action: &str,
        object: &str,
    ) -> Result<(), Error> {
        let deed = Deed { action, object, tenant: None, detail: String::new() };
        self.audit_deed(now, by, deed).await
    }

    /// The same of what has a tenant or details.
    pub async fn audit_deed(&self, now: Now, by: Author, deed: Deed<'_>) -> Result<(), Error> {
        let entry = deed.entry(now, by);
        self.change("audit.add", Effect::Grows, move |catalog, _| {
            catalog.audit_add(&entry).map_err(Error::Catalog)
        })
        .await
    }

    /// Ends everything that has a thread; whether every file was left in order.
    pub fn stop(&self, within: Duration) -> bool {
        self.pool.stop();
        let kept = self.kept.writer().stop(within);
        let jobs = self.jobs.writer().stop(within);
        let history = self.history.stop(within);
        let series = self.series.writer().stop(within);
        self.keeper.stop(within) && kept && jobs && history && series
    }
}

/// What was done, for the audit log.
#[derive(Debug)]
pub struct Deed<'d> {
    /// What was done, such as `series.delete`.
    pub action: &'d str,
    /// To what.
    pub object: &'d str,
    /// Of which tenant, if it is of one.
    pub tenant: Option<&'d TenantName>,
    /// What else is worth to know.
    pub detail: String,
}

impl Deed<'_> {
    /// The entry that says so.
    fn entry(self, now: Now, by: Author) -> Audit {
        Audit {
            at: now.wall,
            request_id: by.request_id,
            actor_token: by.token,
            actor_name: by.name,
            tenant: self.tenant.cloned(),
            action: self.action.to_owned(),
            object: self.object.to_owned(),
            detail: self.detail,
        }
    }
}

#[cfg(test)]
mod tests;
