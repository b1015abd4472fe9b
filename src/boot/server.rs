//! A server from its start to its end.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::clock::SystemClock;
use super::data_dir::{self, DataDir, Previous};
use super::descriptors::{self, Shares};
use super::first_start::{ADMIN_TOKEN_FILE, write_private};
use super::listen::{self, Opened};
use super::logs;
use super::notify::Notifier;
use super::reload::{Reloader, app_settings, http_settings};
use super::settings::Settings;
use super::snapshot;
use super::tls;
use crate::app::directory::Directory;
use crate::app::jobs::{self, Jobs};
use crate::app::kept::{self, Kept, TenantMax};
use crate::app::outside::Reload;
use crate::app::past::Past;
use crate::app::series::{self, Series};
use crate::app::slow::{Case, Kind, SLOW_STORAGE, SlowLog};
use crate::app::tokens::{AdminError, AdminToken};
use crate::app::{self, App, Author, workers};
use crate::base::limits::{
    DRAIN_MAX, POOL_QUEUE_MAX, WRITE_DEADLINE, engine_cache_bytes, series_cache_bytes,
};
use crate::base::secret::Secret;
use crate::base::time::Clock;
use crate::cache::space::Cache;
use crate::catalog::{self, Catalog};
use crate::config::{Config, Loaded, Problems};
use crate::exec;
use crate::exec::keeper::{self, Keeper, OnSlow, StartError, Task};
use crate::exec::pool::Pool;
use crate::exec::worker::{HireError, Workers};
use crate::exec::writer::{self, Effect};
use crate::http::accept::{Server, Tls};
use crate::http::recorder::Recorder;
use crate::http::routes::ROUTES;
use crate::http::{self, Edge};
use crate::io::entropy::SystemEntropy;
use crate::io::host::SystemMachine;
use crate::io::machine::SystemProbe;
use crate::io::memory::{Memory, Source};
use crate::io::process::SystemProcesses;
use crate::io::run_file::{RUN_FILE, RunFile};
use crate::store::disk::FileLog;
use crate::store::redb::Redb;
use crate::store::{Commit, Engine};

/// The catalog's file in the data directory.
pub const CATALOG_FILE: &str = "catalog.sqlite";
/// The file of kept namespaces and locks.
pub const KEPT_FILE: &str = "kept.redb";
/// The file of the jobs.
pub const JOBS_FILE: &str = "jobs.redb";
/// The file of the series.
pub const SERIES_FILE: &str = "series.redb";
/// What is not sealed yet of the series.
pub const SERIES_LOG_FILE: &str = "series.wal";
/// The file of jobs that are over.
pub const HISTORY_FILE: &str = "history.sqlite";
/// Threads of the runtime, whatever the machine has.
const RUNTIME_THREADS_MAX: usize = 8;
/// A store that is stopped finishes what waits within this time.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A restart cannot help: somebody has to change something.
const EXIT_HOPELESS: u8 = 78;
/// Storage failed.
const EXIT_STORAGE: u8 = 74;
/// Anything else.
const EXIT_FAILURE: u8 = 1;

/// Why a server did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings have problems.
    #[error("{0}")]
    Settings(#[from] Problems),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// The catalog cannot be opened.
    #[error("the catalog {} cannot be opened: {why}{}", path.display(), if *hopeless { "" } else { "; look at the disk (dmesg, df -h); if the file is damaged, put back your last copy of the data directory" })]
    Catalog {
        /// Its file.
        path: PathBuf,
        /// Why.
        why: String,
        /// Whether a restart cannot help.
        hopeless: bool,
    },
    /// A store cannot be opened.
    #[error("{} cannot be opened: {why}; look at the disk (dmesg, df -h); if the file is damaged, put back your last copy of the data directory", path.display())]
    File {
        /// Its file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The history cannot be opened. It may be deleted: it is made anew.
    #[error("{} cannot be opened: {why}; the history may be deleted, what failed and what waits is elsewhere: rm it{}", path.display(), if *hopeless { "" } else { "; look at the disk (dmesg, df -h) too" })]
    History {
        /// Its file.
        path: PathBuf,
        /// Why.
        why: String,
        /// Whether a restart cannot help.
        hopeless: bool,
    },
    /// The administrator's token could not be made.
    #[error("the first start could not be finished: {0}")]
    Admin(#[from] AdminError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// There is no socket.
    #[error("{}", with_causes(.0))]
    Listen(#[from] listen::Error),
    /// The system gave no thread.
    #[error("no thread for background work")]
    Hire(#[from] HireError),
    /// A step failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A store failed for good while the server ran.
    #[error(
        "the store {name} failed and could not be opened again: {why}; look at the disk (dmesg, df -h), then start again"
    )]
    StoreFailed {
        /// Which one.
        name: &'static str,
        /// What its last failure was.
        why: String,
    },
}

/// The text of an error and of what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Error {
    /// How the process ends with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Catalog { hopeless: false, .. }
            | Error::History { hopeless: false, .. }
            | Error::File { .. }
            | Error::DataDir(data_dir::Error::Io { .. })
            | Error::Admin(_)
            | Error::StoreFailed { .. } => EXIT_STORAGE,
            Error::Listen(
                listen::Error::InUse { .. }
                | listen::Error::SocketInUse { .. }
                | listen::Error::Refused { .. },
            )
            | Error::Hire(_)
            | Error::Io { .. } => EXIT_FAILURE,
            Error::Catalog { hopeless: true, .. }
            | Error::History { hopeless: true, .. }
            | Error::DataDir(_)
            | Error::Settings(_)
            | Error::Tls(_)
            | Error::Listen(_) => EXIT_HOPELESS,
        }
    }
}

/// What is asked of a server beside its settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Make a new administrator's token and write it to its file.
    pub new_admin_token: bool,
}

/// Serves until it is told to end.
pub fn serve(origin: Settings, wishes: Wishes) -> Result<(), Error> {
    let (loaded, _) = origin.load()?;
    let under_journal = origin.environment.get("JOURNAL_STREAM").is_some();
    let level = logs::start(&loaded.config.log, under_journal);
    for warning in &loaded.warnings {
        tracing::warn!(warning, "settings");
    }
    let acceptor = loaded.config.tls.as_ref().map(tls::load).transpose()?;
    let tls: Tls = Arc::new(RwLock::new(acceptor));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let data_dir = DataDir::open(&loaded.config.server.data_dir)?;
    tell_previous(&data_dir);

    let failed = Arc::new(Notify::new());
    let shares = descriptors::share(loaded.config.server.max_connections);
    let opening =
        Opening { config: &loaded.config, data_dir: &data_dir, clock: &clock, failed: &failed };
    let app = open_app(&opening, shares)?;
    let admin = admin_token(&app, &data_dir, &*clock, wishes)?;
    let notifier = Notifier::new(origin.environment.get("NOTIFY_SOCKET"));
    let reloader = Arc::new(Reloader {
        origin,
        app: Arc::clone(&app),
        edge: OnceLock::new(),
        tls: Arc::clone(&tls),
        level,
        started: loaded.clone(),
        current: Mutex::new(loaded.clone()),
    });
    let run = Run { loaded, clock, data_dir, app, reloader, tls, notifier, admin, failed, shares };
    run.until_the_end()
}

fn tell_previous(data_dir: &DataDir) {
    let path = data_dir.path().display();
    match data_dir.previous() {
        Previous::None => tracing::info!(%path, "a new data directory"),
        Previous::InOrder => tracing::info!(%path, "the data directory was left in order"),
        Previous::Cut => {
            tracing::warn!(%path, "the last process was killed or lost power; nothing stored is lost");
        }
    }
}

/// What is opened with what.
struct Opening<'o> {
    config: &'o Config,
    data_dir: &'o DataDir,
    clock: &'o Arc<dyn Clock>,
    failed: &'o Arc<Notify>,
}

/// Opens the stores and puts the application together.
fn open_app(opening: &Opening<'_>, shares: Shares) -> Result<Arc<App>, Error> {
    let Opening { config, data_dir, clock, failed } = *opening;
    let slow = Arc::new(SlowLog::default());
    let directory = Arc::new(Directory::default());
    let keeper = open_catalog(data_dir, clock, failed, &slow, &directory)?;
    let pool = Pool::start(exec::cores(), POOL_QUEUE_MAX, Arc::clone(clock));
    let pool = pool.map_err(|source| Error::Io { what: "start the CPU pool", source })?;
    let memory = memory();
    let settings = app_settings(config, memory);
    let (base, kept) = (clock.mono(), settings.cache.kept.clone());
    let cache = Cache::new(SystemEntropy.seed(), base, settings.cache.space(), kept);
    let cache = Arc::new(cache);
    let max = kept::tenant_max(Arc::clone(&directory), settings.tiers.clone());
    let kept = open_kept(data_dir, (clock, failed), (&cache, max), memory.bytes)?;
    let jobs = open_jobs(opening, shares, memory.bytes)?;
    let history = open_history(data_dir, clock, failed)?;
    let series = open_series(data_dir, clock, failed, memory.bytes)?;
    let tenants = kept::tenant_max(Arc::clone(&directory), settings.tiers.clone());
    snapshot::load(&cache, &settings.cache, data_dir, &**clock, &*tenants);
    Ok(Arc::new(App::new(app::Parts {
        clock: Arc::clone(clock),
        directory,
        keeper,
        pool,
        slow,
        cache,
        kept,
        jobs,
        history,
        series,
        settings,
        entropy: Box::new(SystemEntropy),
        probe: Box::new(SystemProbe::new(data_dir.path())),
        machine: Box::new(SystemMachine::new()),
    })))
}

/// What the process may use, told in the log.
fn memory() -> Memory {
    let memory = Memory::of_process();
    let mib = memory.bytes >> 20;
    if memory.source == Source::Unknown {
        tracing::warn!(mib, "nothing says how much memory there is; this is a guess");
    } else {
        tracing::info!(mib, source = ?memory.source, "memory that may be used");
    }
    memory
}

fn open_catalog(
    data_dir: &DataDir,
    clock: &Arc<dyn Clock>,
    failed: &Arc<Notify>,
    slow: &Arc<SlowLog>,
    directory: &Arc<Directory>,
) -> Result<Keeper<Catalog>, Error> {
    let path = data_dir.file(CATALOG_FILE);
    let (noted, failed, fresh) = (Arc::clone(slow), Arc::clone(failed), Arc::clone(directory));
    let slow_clock = Arc::clone(clock);
    let on_failed = Box::new(move || failed.notify_one());
    let mut options = keeper::Options::new("catalog", on_failed);
    options.on_reopened = Box::new(move |catalog: &mut Catalog| {
        if let Err(error) = fresh.load(catalog) {
            tracing::error!(%error, "tenants and tokens could not be read again");
        }
    });
    let tell = move |name: &'static str, took| {
        let at = slow_clock.now().wall;
        noted.note(Case { kind: Kind::Storage, name, took, at, queries: None });
    };
    options.on_slow = Some(OnSlow { from: SLOW_STORAGE, tell: Box::new(tell) });
    let opener = app::catalog::opener(&path);
    let error = |error: catalog::Error| Error::Catalog {
        path: path.clone(),
        hopeless: matches!(error, catalog::Error::NewerSchema { .. }),
        why: with_causes(&error),
    };
    let keeper = Keeper::start(options, opener, Arc::clone(clock));
    let keeper = keeper.map_err(|start| match start {
        StartError::Open(failure) => error(failure),
        StartError::NoThread(source) => Error::Io { what: "start the catalog's thread", source },
    })?;
    let until = clock.mono().plus(WRITE_DEADLINE);
    let task = Task { name: "start.load", until, effect: Effect::Frees };
    let its = Arc::clone(directory);
    let loaded = keeper.call(task, move |catalog| its.load(catalog));
    match loaded {
        Ok(Ok(())) => Ok(keeper),
        Ok(Err(failure)) => Err(error(failure)),
        Err(failure) => Err(Error::Catalog { path, why: failure.to_string(), hopeless: false }),
    }
}

/// Opens kept namespaces and locks, and reads them into memory.
fn open_kept(
    data_dir: &DataDir,
    (clock, failed): (&Arc<dyn Clock>, &Arc<Notify>),
    (cache, tenant_max): (&Arc<Cache>, TenantMax),
    memory_bytes: u64,
) -> Result<Arc<Kept>, Error> {
    let path = data_dir.file(KEPT_FILE);
    let failed = Arc::clone(failed);
    let kept = Kept::start(kept::Parts {
        clock: Arc::clone(clock),
        cache: Arc::clone(cache),
        tenant_max,
        opener: redb_opener(path.clone(), engine_cache_bytes(memory_bytes)),
        options: writer::Options::new("kept", Box::new(move || failed.notify_one())),
    });
    kept.map_err(|error| Error::File { path, why: with_causes(&error) })
}

/// Opens the jobs, and reads into memory what has to be known of them.
fn open_jobs(opening: &Opening<'_>, shares: Shares, memory_bytes: u64) -> Result<Arc<Jobs>, Error> {
    let Opening { data_dir, clock, failed, .. } = *opening;
    let path = data_dir.file(JOBS_FILE);
    let processes = SystemProcesses::start(shares.watches)
        .map_err(|source| Error::Io { what: "watch the processes of workers", source })?;
    let failed = Arc::clone(failed);
    let jobs = Jobs::start(jobs::Parts {
        clock: Arc::clone(clock),
        entropy: Box::new(SystemEntropy),
        processes: Arc::new(processes),
        opener: redb_opener(path.clone(), engine_cache_bytes(memory_bytes)),
        options: writer::Options::new("jobs", Box::new(move || failed.notify_one())),
    });
    jobs.map_err(|error| Error::File { path, why: with_causes(&error) })
}

/// Opens the history of jobs.
fn open_history(
    data_dir: &DataDir,
    clock: &Arc<dyn Clock>,
    failed: &Arc<Notify>,
) -> Result<Past, Error> {
    let path = data_dir.file(HISTORY_FILE);
    let error = |start: StartError<catalog::Error>| match start {
        StartError::Open(failure) => Error::History {
            path: path.clone(),
            hopeless: matches!(failure, catalog::Error::NewerSchema { .. }),
            why: with_causes(&failure),
        },
        StartError::NoThread(source) => Error::Io { what: "start a thread of the history", source },
    };
    let on_failed = |failed: &Arc<Notify>| {
        let failed = Arc::clone(failed);
        Box::new(move || failed.notify_one())
    };
    let options = keeper::Options::new("history", on_failed(failed));
    let writer = Keeper::start(options, app::history::opener(&path), Arc::clone(clock));
    let writer = writer.map_err(error)?;
    let options = keeper::Options::new("history-read", on_failed(failed));
    let reader = Keeper::start(options, app::history::reader_opener(&path), Arc::clone(clock));
    let reader = reader.map_err(error)?;
    Ok(Past { writer, reader: Some(reader) })
}

/// Opens the series and their log.
fn open_series(
    data_dir: &DataDir,
    clock: &Arc<dyn Clock>,
    failed: &Arc<Notify>,
    memory_bytes: u64,
) -> Result<Arc<Series>, Error> {
    let (path, log_path) = (data_dir.file(SERIES_FILE), data_dir.file(SERIES_LOG_FILE));
    let failed = Arc::clone(failed);
    let mut options = writer::Options::new("series", Box::new(move || failed.notify_one()));
    options.commit = Commit::Quick;
    let log = FileLog::open(&log_path)
        .map_err(|error| Error::File { path: log_path.clone(), why: with_causes(&error) })?;
    let series = Series::start(series::Parts {
        clock: Arc::clone(clock),
        opener: redb_opener(path.clone(), series_cache_bytes(memory_bytes)),
        options,
        log: Box::new(log),
        seed: SystemEntropy.seed(),
    });
    series.map_err(|error| {
        let path = if let series::StartError::Store(_) = error { path } else { log_path };
        Error::File { path, why: with_causes(&error) }
    })
}

fn redb_opener(path: PathBuf, cache_bytes: u64) -> writer::Opener {
    Box::new(move |opening| {
        let engine = Redb::open(&path, cache_bytes, opening)?;
        Ok(Box::new(engine) as Box<dyn Engine>)
    })
}

fn admin_token(
    app: &App,
    data_dir: &DataDir,
    clock: &dyn Clock,
    wishes: Wishes,
) -> Result<AdminToken, Error> {
    let path = data_dir.file(ADMIN_TOKEN_FILE);
    let keep = |secret: &Secret| write_private(&path, &format!("{}\n", secret.expose()));
    let made = app.ensure_admin(clock.now(), wishes.new_admin_token, keep)?;
    if made == AdminToken::Another && !wishes.new_admin_token {
        tracing::warn!("no valid administrator's token was left; a new one was made");
    }
    Ok(made)
}

/// The store that failed for good, and how.
fn failed_store(app: &App) -> (&'static str, Option<String>) {
    for writer in [app.kept().writer(), app.jobs().writer(), app.series().writer()] {
        let figures = writer.figures();
        if figures.state == writer::State::Failed {
            return (figures.name, figures.last_failure);
        }
    }
    let history = app.history();
    let reader = history.reader.as_ref().map(Keeper::figures);
    let histories = [history.writer.figures()].into_iter().chain(reader);
    let failed = histories.into_iter().find(|figures| figures.state == writer::State::Failed);
    let failed = failed.unwrap_or_else(|| app.keeper().figures());
    (failed.name, failed.last_failure)
}

/// Everything that a running server is made of.
struct Run {
    loaded: Loaded,
    clock: Arc<dyn Clock>,
    data_dir: DataDir,
    app: Arc<App>,
    reloader: Arc<Reloader>,
    tls: Tls,
    notifier: Notifier,
    admin: AdminToken,
    failed: Arc<Notify>,
    shares: Shares,
}

/// Why a server ends.
enum End {
    Told,
    StoreFailed,
}

impl Run {
    fn until_the_end(self) -> Result<(), Error> {
        let workers = Arc::new(Workers::new(Arc::clone(&self.clock)));
        workers::hire(&self.app, &workers)?;
        let edge = Arc::new(Edge::new(http::Parts {
            app: Arc::clone(&self.app),
            workers: Arc::clone(&workers),
            reload: Arc::clone(&self.reloader) as Arc<dyn Reload>,
            settings: http_settings(&self.loaded.config),
            routes: ROUTES,
            connections_max: self.shares.connections,
            seed: SystemEntropy.seed(),
        }));
        drop(self.reloader.edge.set(Arc::downgrade(&edge)));
        workers.hire(Box::new(Recorder::new(&edge)))?;
        let runtime = runtime()?;
        let ended = runtime.block_on(self.run(&edge));
        // Handlers that were given up are gone before what they work on.
        runtime.shutdown_timeout(Duration::from_secs(1));
        drop(edge);
        match ended {
            Ok((end, opened)) => self.close(&workers, &opened, &end),
            // It has not served: everything is left as an end in order leaves it.
            Err(error) => {
                self.close(&workers, &Opened::default(), &End::Told)?;
                Err(error)
            }
        }
    }

    async fn run(&self, edge: &Arc<Edge>) -> Result<(End, Opened), Error> {
        let mut signals =
            Signals::new().map_err(|source| Error::Io { what: "listen for signals", source })?;
        let mut opened = self.open_sockets().await?;
        let server = Server::new(Arc::clone(edge), Arc::clone(&self.clock), Arc::clone(&self.tls));
        server.keep_deadlines();
        for listener in std::mem::take(&mut opened.listeners) {
            server.listen(listener);
        }
        let run_file = self.data_dir.file(RUN_FILE);
        write_private(&run_file, &self.run_text(&opened))
            .map_err(|source| Error::Io { what: "write run.json", source })?;
        self.tell_ready(&opened);
        let end = self.wait(&mut signals).await;
        self.notifier.stopping();
        tracing::info!("ending: what runs is finished, at most {} s", DRAIN_MAX.as_secs());
        if !server.drain(signals.told_to_end()).await {
            tracing::warn!("some requests were cut off");
        }
        Ok((end, opened))
    }

    async fn open_sockets(&self) -> Result<Opened, Error> {
        let mut opened = listen::handed_over()?;
        let server = &self.loaded.config.server;
        if opened.address.is_none() {
            let (listener, address) =
                listen::tcp(server.listen.host(), server.listen.port()).await?;
            opened.listeners.push(listener);
            opened.address = Some(address);
        }
        if let Some(path) = server.socket.as_ref().filter(|_| opened.socket.is_none()) {
            opened.listeners.push(listen::unix(path)?);
            opened.socket = Some(path.clone());
            opened.ours = Some(path.clone());
        }
        Ok(opened)
    }

    /// Until somebody says that it is enough. A reload on the way.
    async fn wait(&self, signals: &mut Signals) -> End {
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::End => return End::Told,
                    Told::Reload => self.reload().await,
                },
                () = self.failed.notified() => return End::StoreFailed,
            }
        }
    }

    async fn reload(&self) {
        let reloader = Arc::clone(&self.reloader);
        let work = move || reloader.reload();
        match self.app.blocking(Duration::from_secs(30), work).await {
            Ok(Ok(done)) => {
                let (changed, restart) = (done.changed.len(), done.needs_restart.len());
                tracing::info!(changed, needs_restart = restart, "the settings were read again");
                let (now, object) = (self.clock.now(), format!("{changed} changed"));
                let noted = self.app.audit(now, Author::server(), "config.reload", &object).await;
                if let Err(error) = noted {
                    tracing::warn!(%error, "the reload is missing in the audit log");
                }
            }
            Ok(Err(refused)) => {
                for problem in refused.0 {
                    tracing::error!(problem, "the settings have problems; nothing was changed");
                }
            }
            Err(error) => tracing::error!(%error, "the settings could not be read again"),
        }
    }

    fn run_text(&self, opened: &Opened) -> String {
        let run = RunFile {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: opened.address.map(|address| address.to_string()),
            tls: self.loaded.config.tls.is_some(),
            socket: opened.socket.as_ref().map(|path| path.display().to_string()),
            started_at: self.clock.now().wall.to_string(),
        };
        run.to_text()
    }

    fn tell_ready(&self, opened: &Opened) {
        let address = opened.address.map(|address| address.to_string()).unwrap_or_default();
        tracing::info!(address, socket = ?opened.socket, "serving");
        self.notifier.ready(&format!("serving on {address}"));
        let scheme = if self.loaded.config.tls.is_some() { "https" } else { "http" };
        let token = self.data_dir.file(ADMIN_TOKEN_FILE);
        let token = std::path::absolute(&token).unwrap_or(token);
        let text = greeting(self.admin, &format!("{scheme}://{address}"), &token);
        // Whoever reads it may be gone; that is no reason to end.
        let mut out = std::io::stdout();
        if out.is_terminal() || self.admin != AdminToken::Kept {
            drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        }
    }

    /// Everything is closed, in the order in which it leans on each other.
    fn close(self, workers: &Workers, opened: &Opened, end: &End) -> Result<(), Error> {
        workers.stop();
        if let Err(error) = self.app.store_uses() {
            tracing::warn!(%error, "the last uses of tokens were not noted");
        }
        if let Err(error) = self.app.series().tick(self.clock.now()) {
            tracing::warn!(%error, "the last samples did not reach series.wal");
        }
        let failed = failed_store(&self.app);
        let in_order = self.app.stop(STOP_WITHIN);
        let ours = opened.ours.iter().cloned().chain([self.data_dir.file(RUN_FILE)]);
        for path in ours {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::debug!(%error, path = %path.display(), "not removed");
            }
        }
        if let End::StoreFailed = end {
            let (name, why) = failed;
            return Err(Error::StoreFailed { name, why: why.unwrap_or_default() });
        }
        if in_order {
            let settings = self.app.settings();
            snapshot::save(self.app.cache(), &settings.cache, &self.data_dir, &*self.clock);
            self.data_dir.close_in_order(self.clock.now().wall)?;
        }
        tracing::info!(in_order, "ended");
        Ok(())
    }
}

fn greeting(admin: AdminToken, url: &str, token: &Path) -> String {
    let made = match admin {
        AdminToken::Kept => "",
        AdminToken::First => " (made just now; keep it to yourself)",
        AdminToken::Another => " (a new one)",
    };
    let token = token.display();
    format!(
        "holdfast serves on {url}\n\
         the administrator's token is in {token}{made}\n\
         try it: curl -H \"Authorization: Bearer $(cat '{token}')\" {url}/v1/status\n"
    )
}

fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(exec::cores().clamp(2, RUNTIME_THREADS_MAX))
        .max_blocking_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(|source| Error::Io { what: "start the runtime", source })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    async fn told_to_end(&mut self) {
        while let Told::Reload = self.next().await {}
    }
}

/// What a signal means.
enum Told {
    End,
    Reload,
}
