//! Row 6: HTTP. Bytes become calls on [`crate::app`], and what they return becomes bytes.
//!
//! ```text
//!  listener --> [accept]: connection cap, TLS --> [connection]: who is where, deadlines, eviction
//!                                                       |
//!                     hyper (HTTP/1.1) --> [service]: request id, Host, route, token, scope, parameters
//!                                                       |
//!                               [routes]: ROUTES ------> handler(Cx) -> Reply | Problem
//!                                    '---> router, scopes, limits, OpenAPI
//!
//!  [recorder], every 10 s: what /metrics tells --> series
//! ```
//!
//! **Invariants**
//! - There is one table of routes ([`routes::ROUTES`]). What is not in it is refused: a path, a method, a
//!   query parameter; an unknown field of a body is refused by its type.
//! - Every answer is made in one place ([`service`]), a problem document if it is an error, also where
//!   hyper itself refuses to read on.
//! - A body is read once its sender is known and allowed, never beyond the route's limit, and all bodies
//!   together never beyond [`BODIES_BYTES_MAX`]. What nobody wants is dropped.
//! - A handler that panics is answered 500 and counted; its connection and its neighbours go on.
//! - A connection always stands under a deadline: for its head, its body, its answer or its idleness.
//! - When there are as many connections as there may be, the one that has shown least makes room: one that
//!   dribbles before one that is idle, a stranger before somebody with a token.
//!
//! **Failure cases**: no descriptors are left: the accept loop lets an idle connection go and tries again
//! soon; it never sleeps long. A client does not take its answer: closed after a while. The process is told
//! to end: what runs is finished, within [`DRAIN_MAX`](crate::base::limits::DRAIN_MAX); a second word ends
//! at once.
//!
//! Never here: a file, an environment variable, the real clock, SQL.

pub mod accept;
pub mod audit;
pub mod cache;
pub mod compress;
pub mod connection;
pub mod figures;
pub mod host;
pub mod locks;
pub mod machine;
pub mod openapi;
pub mod problem;
pub mod queue;
pub mod queue_bodies;
pub mod recorder;
pub mod reply;
pub mod request;
pub mod routes;
pub mod series;
pub mod server;
pub mod service;
pub mod slow;
pub mod tenants;
pub mod tokens;
pub mod trends;
pub mod wire;

mod body;
mod cache_terms;
mod json;
mod prometheus;
mod query;
pub(crate) mod queue_terms;
pub(crate) mod series_terms;
mod spans;
mod splice;
mod stores;
mod strict;
mod trend_terms;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{Notify, Semaphore};

use self::connection::Registry;
use self::figures::Figures;
use self::host::Hosts;
use self::routes::{Route, Router};
use crate::app::App;
use crate::app::outside::Reload;
use crate::base::limits::{ANSWERS_BYTES_MAX, BODIES_BYTES_MAX};
use crate::base::rng::Rng;
use crate::base::time::Now;
use crate::exec::worker::Workers;

/// What can be changed while we run.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whose names a request may be for.
    pub hosts: Hosts,
    /// Whether `/metrics` is for everybody.
    pub metrics_public: bool,
}

/// The HTTP interface of one process.
pub struct Edge {
    app: Arc<App>,
    workers: Arc<Workers>,
    reload: Arc<dyn Reload>,
    settings: RwLock<Arc<Settings>>,
    router: Router,
    figures: Figures,
    connections: Arc<Registry>,
    /// Space for bodies, in KiB.
    bodies: Semaphore,
    /// Space for large answers that their clients are taking, in KiB.
    answers: Arc<Semaphore>,
    openapi: Bytes,
    started: Now,
    /// Numbers requests that bring no id.
    request_ids: AtomicU64,
    stopping: AtomicBool,
    /// Who waits because a client wished it is told of the end.
    told_to_stop: Notify,
}

/// What an interface is made of.
pub struct Parts {
    /// The application.
    pub app: Arc<App>,
    /// The background workers, for their figures.
    pub workers: Arc<Workers>,
    /// Who reads the settings again.
    pub reload: Arc<dyn Reload>,
    /// The settings in force.
    pub settings: Settings,
    /// The table; [`routes::ROUTES`] but in tests.
    pub routes: &'static [Route],
    /// Connections at one moment.
    pub connections_max: usize,
    /// Where the ids of requests begin.
    pub seed: u64,
}

impl Edge {
    /// Puts it together.
    pub fn new(parts: Parts) -> Edge {
        let started = parts.app.clock().now();
        Edge {
            app: parts.app,
            workers: parts.workers,
            reload: parts.reload,
            settings: RwLock::new(Arc::new(parts.settings)),
            router: Router::new(parts.routes),
            figures: Figures::new(parts.routes.len()),
            connections: Arc::new(Registry::new(parts.connections_max)),
            bodies: Semaphore::new(BODIES_BYTES_MAX >> 10),
            answers: Arc::new(Semaphore::new(ANSWERS_BYTES_MAX >> 10)),
            openapi: Bytes::from(openapi::document_text(parts.routes)),
            started,
            request_ids: AtomicU64::new(parts.seed),
            stopping: AtomicBool::new(false),
            told_to_stop: Notify::new(),
        }
    }

    /// Puts other settings in force.
    pub fn set_settings(&self, settings: Settings) {
        *self.settings.write() = Arc::new(settings);
    }

    /// The application behind it.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The connections, for whoever accepts them.
    pub fn connections(&self) -> &Arc<Registry> {
        &self.connections
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    /// Whether a request for this name is for us.
    fn allows_host(&self, name: &str) -> bool {
        self.settings.read().hosts.allow(name)
    }

    /// An id that no other request of this process has.
    fn new_request_id(&self) -> u64 {
        Rng::from_seed(self.request_ids.fetch_add(1, Relaxed)).next_u64()
    }

    /// A number from 0 to 1, for what must not happen at one moment.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn chance(&self) -> f64 {
        (self.new_request_id() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From now on it is not ready.
    fn begin_to_stop(&self) {
        self.stopping.store(true, SeqCst);
        self.told_to_stop.notify_waiters();
    }

    /// Returns when the process is about to end.
    async fn until_stopping(&self) {
        let mut told = std::pin::pin!(self.told_to_stop.notified());
        // In line first, then the look: whoever is told in between is told.
        told.as_mut().enable();
        if !self.stopping.load(SeqCst) {
            told.await;
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

#[cfg(test)]
mod tests;
