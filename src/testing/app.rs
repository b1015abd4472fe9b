//! An application in memory, for tests of what stands in front of it: a catalog that nothing outlives, a
//! clock moved by hand, entropy from a seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::ManualClock;
use super::machine::FakeMachine;
use super::processes::FakeProcesses;
use super::series::SharedLog;
use crate::app::directory::Directory;
use crate::app::jobs::{self, Jobs};
use crate::app::kept::{self, Kept};
use crate::app::outside::{Disk, Entropy, Probe, Process, Reload, ReloadRefused, Reloaded};
use crate::app::past::Past;
use crate::app::series::{self, Series};
use crate::app::slow::SlowLog;
use crate::app::{App, CacheSettings, Parts, Settings};
use crate::base::quota::Quotas;
use crate::base::rng::Rng;
use crate::base::secret::Secret;
use crate::base::time::Clock;
use crate::cache::entry::Life;
use crate::cache::space::Cache;
use crate::catalog::Catalog;
use crate::catalog::history::History;
use crate::exec::keeper::{Keeper, Options};
use crate::exec::pool::Pool;
use crate::exec::worker::Workers;
use crate::exec::writer;
use crate::http::accept::{Server, Tls};
use crate::http::routes::Route;
use crate::http::{self, Edge};
use crate::store::Engine;
use crate::store::redb::Redb;

/// An application, its clock, and the token of its administrator.
pub struct World {
    /// The application.
    pub app: Arc<App>,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// The first administrator's token.
    pub admin: Secret,
    /// The processes of its machine.
    pub processes: FakeProcesses,
    /// Its machine.
    pub machine: FakeMachine,
}

fn history(clock: &Arc<dyn Clock>) -> Past {
    let options = Options::new("history", Box::new(|| ()));
    let keeper = Keeper::start(options, Box::new(|_| History::in_memory()), Arc::clone(clock));
    Past { writer: keeper.expect("a history in memory opens"), reader: None }
}

struct SeededEntropy(Mutex<Rng>);

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let drawn = self.0.lock().bytes(bytes.len());
        bytes.copy_from_slice(&drawn);
    }
}

/// The class `dashboard`, as it is shipped.
fn dashboard() -> Life {
    let life = Life::new(Some(Duration::from_mins(1)), Duration::from_mins(4));
    life.expect("BUG: it is a life")
}

struct NoMachine;

impl Probe for NoMachine {
    fn process(&self) -> Process {
        Process::default()
    }

    fn disk(&self) -> Option<Disk> {
        None
    }
}

struct NothingToReload;

impl Reload for NothingToReload {
    fn reload(&self) -> Result<Reloaded, ReloadRefused> {
        Err(ReloadRefused(vec!["there is nothing to read here".to_owned()]))
    }
}

impl World {
    /// A new application after its first start, with tiers `standard` and `small`.
    pub fn new(seed: u64) -> World {
        let clock = Arc::new(ManualClock::default());
        let series = Series::start(series::Parts {
            clock: Arc::<ManualClock>::clone(&clock),
            opener: Box::new(|_| {
                Redb::in_memory(4 << 20).map(|engine| Box::new(engine) as Box<dyn Engine>)
            }),
            options: writer::Options::new("series", Box::new(|| ())),
            log: Box::new(SharedLog::default()),
            seed: 1,
        });
        World::with_series(seed, clock, series.expect("a store in memory opens"))
    }

    /// The same with a clock and series that were there before.
    pub fn with_series(seed: u64, manual: Arc<ManualClock>, series: Arc<Series>) -> World {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&manual);
        let opener = Box::new(|_| Catalog::in_memory());
        let options = Options::new("catalog", Box::new(|| ()));
        let keeper = Keeper::start(options, opener, Arc::clone(&clock));
        let tiers = ["standard", "small"].map(|tier| (tier.to_owned(), Quotas::default()));
        let cache = CacheSettings {
            enabled: true,
            budget: 64 << 20,
            kept_budget: 16 << 20,
            classes: [("dashboard".to_owned(), dashboard())].into(),
            ..CacheSettings::default()
        };
        let directory = Arc::<Directory>::default();
        let memory = Cache::new(seed, clock.mono(), cache.space(), cache.kept.clone());
        let memory = Arc::new(memory);
        let tiers: BTreeMap<_, _> = tiers.into();
        let kept = Kept::start(kept::Parts {
            clock: Arc::clone(&clock),
            cache: Arc::clone(&memory),
            tenant_max: kept::tenant_max(Arc::clone(&directory), tiers.clone()),
            opener: Box::new(|_| {
                Redb::in_memory(4 << 20).map(|engine| Box::new(engine) as Box<dyn Engine>)
            }),
            options: writer::Options::new("kept", Box::new(|| ())),
        });
        let processes = FakeProcesses::default();
        let jobs = Jobs::start(jobs::Parts {
            clock: Arc::clone(&clock),
            entropy: Box::new(SeededEntropy(Mutex::new(Rng::from_seed(seed ^ 1)))),
            processes: Arc::new(processes.clone()),
            opener: Box::new(|_| {
                Redb::in_memory(4 << 20).map(|engine| Box::new(engine) as Box<dyn Engine>)
            }),
            options: writer::Options::new("jobs", Box::new(|| ())),
        });
        let machine = FakeMachine::default();
        let app = App::new(Parts {
            series,
            jobs: jobs.expect("a store in memory opens"),
            history: history(&clock),
            cache: memory,
            kept: kept.expect("a store in memory opens"),
            clock: Arc::clone(&clock),
            directory,
            keeper: keeper.expect("a catalog in memory opens"),
            pool: Pool::start(1, 16, clock).expect("there is a thread"),
            slow: Arc::new(SlowLog::default()),
            settings: Settings { tiers, cache, ..Settings::default() },
            entropy: Box::new(SeededEntropy(Mutex::new(Rng::from_seed(seed)))),
            probe: Box::new(NoMachine),
            machine: Box::new(machine.clone()),
        });
        let mut admin = None;
        let keep = |secret: &Secret| {
            admin = Some(secret.clone());
            Ok(())
        };
        app.ensure_admin(manual.now(), false, keep).expect("the first start succeeds");
        let admin = admin.expect("the first start makes a token");
        World { app: Arc::new(app), clock: manual, admin, processes, machine }
    }

    /// An interface to it, with these routes.
    pub fn edge(&self, routes: &'static [Route]) -> Arc<Edge> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        Arc::new(Edge::new(http::Parts {
            app: Arc::clone(&self.app),
            workers: Arc::new(Workers::new(clock)),
            reload: Arc::new(NothingToReload),
            settings: http::Settings::default(),
            routes,
            connections_max: 64,
            seed: 1,
        }))
    }

    /// A server of that interface, to which connections are given one by one.
    pub fn server(&self, routes: &'static [Route]) -> Arc<Server> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        Server::new(self.edge(routes), clock, Tls::default())
    }
}
