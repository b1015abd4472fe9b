//! The server's own figures as series: what `/metrics` tells, every ten seconds.
//!
//! ```text
//!   the machine is read --> prometheus::tell --> Samples --by tenant--> series
//! ```
//!
//! **Invariants**
//! - A series is called as its line in `/metrics` is; what belongs to a tenant is in its series, without the label that says so,
//!   and the rest in those of tenant `default`. Buckets of histograms are left out.
//! - Moments are whole tens of seconds. A moment is written once; one that was missed is a gap.
//! - The machine is read at each moment, before it is told, and once at the start: rates need a moment before.
//! - The quota of a tenant does not count: it did not write them. The bounds of the server do.
//!
//! **Failure cases**: the machine cannot be read: what it would have told is missing. Reading it does not come back (a
//! disk that answers nobody; nothing else is waited for here, systemd is asked by the watcher): nothing is recorded until
//! it does. Samples that are refused are counted where all are, and the next ones are tried.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::prometheus::{self, Figure, Jobs, Sink};
use super::{Edge, stores};
use crate::app::DEFAULT_TENANT;
use crate::base::limits::{QUEUES_TOLD_MAX, RECORD_EVERY, WRITE_CHUNK_SAMPLES};
use crate::base::name::TenantName;
use crate::base::time::Now;
use crate::exec::worker::{Next, Worker};
use crate::series::Kind;
use crate::series::memory::{Incoming, Name, OWN_SERIES};

/// The worker that stores them.
pub struct Recorder {
    edge: Weak<Edge>,
    /// The last moment that was begun, in tens of seconds.
    last: Option<i64>,
}

impl Recorder {
    /// Of this interface, as long as it is there.
    pub fn new(edge: &Arc<Edge>) -> Recorder {
        Recorder { edge: Arc::downgrade(edge), last: None }
    }
}

impl Worker for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn step(&mut self, now: Now) -> Next {
        let every = i64::try_from(RECORD_EVERY.as_millis()).expect("BUG: it is ten seconds");
        let wall = now.wall.unix_ms();
        let moment = wall / every;
        // The first moment is the next whole one: this one belongs to who was here before.
        if self.last.is_none_or(|last| last < moment)
            && let Some(edge) = self.edge.upgrade()
        {
            edge.app.host_sample(now);
            if self.last.is_some() {
                record(&edge, now, moment * every);
            }
        }
        self.last = self.last.max(Some(moment));
        let wait = u64::try_from(every - wall % every).unwrap_or_default();
        Next::At(now.mono.plus(Duration::from_millis(wait)))
    }
}

fn record(edge: &Edge, now: Now, at_ms: i64) {
    edge.app.workers_tick();
    let jobs = Jobs {
        queues: edge.app.queues_told(QUEUES_TOLD_MAX),
        figures: stores::jobs_waiting(&edge.app),
    };
    let mut samples = Samples::default();
    prometheus::tell(edge, &jobs, &mut samples);
    for (tenant, samples) in &samples.by_tenant {
        let name = TenantName::parse(tenant).ok();
        // One that was deleted a moment ago.
        let Some(tenant) = name.and_then(|name| edge.app.directory().tenant(&name)) else {
            continue;
        };
        for chunk in samples.chunks(WRITE_CHUNK_SAMPLES) {
            let samples: Vec<_> = chunk.iter().map(|sample| sample.incoming(at_ms)).collect();
            let written = edge.app.series().write(now, tenant.id, OWN_SERIES, &samples);
            if let Err(error) = written {
                tracing::debug!(%error, tenant = %tenant.name, "own figures were not recorded");
            }
        }
    }
}

/// A figure on its way to the series.
#[derive(Debug, PartialEq)]
struct Recorded {
    /// `metric{...}`
    name: String,
    /// How long the metric is.
    metric_bytes: usize,
    kind: Kind,
    value: f64,
}

impl Recorded {
    fn incoming(&self, at_ms: i64) -> Incoming<'_> {
        let metric = &self.name[..self.metric_bytes];
        Incoming {
            place: 0,
            name: Name::Text { name: &self.name, metric },
            kind: Some(self.kind),
            time_ms: Some(at_ms),
            value: self.value,
        }
    }
}

/// Figures as samples.
#[derive(Default)]
struct Samples {
    by_tenant: BTreeMap<String, Vec<Recorded>>,
    histogram: bool,
    counter: bool,
}

impl Sink for Samples {
    fn family(&mut self, _: &str, kind: &str, _: &str) {
        self.histogram = kind == "histogram";
        // Sum and count of a histogram go up as counters do.
        self.counter = self.histogram || kind == "counter";
    }

    fn sample(&mut self, name: &str, labels: &str, value: Figure) {
        if self.histogram && name.ends_with("_bucket") {
            return;
        }
        let (tenant, labels) = owner(labels);
        let text = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") };
        let recorded = Recorded {
            name: text,
            metric_bytes: name.len(),
            kind: if self.counter { Kind::Counter } else { Kind::Gauge },
            value: value.value(),
        };
        // Most are of tenants that are known already.
        match self.by_tenant.get_mut(tenant) {
            Some(all) => all.push(recorded),
            None => drop(self.by_tenant.insert(tenant.to_owned(), vec![recorded])),
        }
    }
}

/// Whose figures these are, and the other labels. The tenant stands first, and its name needs no escapes.
fn owner(labels: &str) -> (&str, &str) {
    let named = labels.strip_prefix("tenant=\"").and_then(|rest| rest.split_once('"'));
    named.map_or((DEFAULT_TENANT, labels), |(tenant, rest)| {
        (tenant, rest.strip_prefix(',').unwrap_or(rest))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{Recorded, Recorder, Samples, owner};
    use crate::app::App;
    use crate::base::id::TenantId;
    use crate::base::name::TenantName;
    use crate::base::time::Clock as _;
    use crate::exec::worker::{Next, Worker as _};
    use crate::http::prometheus::{Figure, Sink};
    use crate::http::routes::ROUTES;
    use crate::series::Kind;
    use crate::testing::app::World;

    #[test]
    fn the_label_of_the_tenant_says_whose_series_it_is() {
        assert_eq!(owner(""), ("default", ""));
        assert_eq!(owner("store=\"jobs\""), ("default", "store=\"jobs\""));
        assert_eq!(owner("tenant=\"a\""), ("a", ""));
        assert_eq!(owner("tenant=\"a\",queue=\"q\""), ("a", "queue=\"q\""));
    }

    /// The series of a tenant, as they are written.
    fn series_of(app: &App, tenant: TenantId) -> BTreeSet<String> {
        let page = app.series_page(tenant, None, None, 10_000);
        page.iter().map(|listed| listed.labels.to_string()).collect()
    }

    fn default_tenant(app: &App) -> TenantId {
        app.directory().tenant(&TenantName::parse("default").unwrap()).unwrap().id
    }

    #[test]
    fn what_metrics_tell_is_recorded_at_every_tenth_second_and_once() {
        let world = World::new(1);
        let edge = world.edge(ROUTES);
        let tenant = default_tenant(&world.app);
        let mut recorder = Recorder::new(&edge);
        let now = world.clock.now();
        let Next::At(first) = recorder.step(now) else { panic!("it goes by the clock") };
        let wait = first.since(now.mono);
        assert!(Duration::ZERO < wait && wait <= Duration::from_secs(10), "{wait:?}");
        let taken = || world.app.series().figures().counts;
        assert_eq!(taken().accepted, 0, "it begins with the next whole moment");

        world.clock.advance(wait);
        let now = world.clock.now();
        assert_eq!(recorder.step(now), Next::At(now.mono.plus(Duration::from_secs(10))));
        let accepted = taken().accepted;
        assert!(50 < accepted, "{accepted}");
        let series = series_of(&world.app, tenant);
        for name in
            ["holdfast_tenants", "holdfast_store_commits_total{store=\"jobs\"}", "holdfast_series"]
        {
            assert!(series.contains(name), "{name} is missing: {series:?}");
        }
        assert!(series.iter().all(|name| !name.contains("tenant=") && !name.contains("_bucket")));

        world.clock.advance(Duration::from_secs(3));
        recorder.step(world.clock.now());
        assert_eq!(taken().accepted, accepted, "a moment is written once");
        world.clock.advance(Duration::from_secs(7));
        recorder.step(world.clock.now());
        assert!(accepted < taken().accepted);
        assert_eq!(taken().replaced, 0);
        let refused = taken();
        assert_eq!((refused.malformed, refused.too_old, refused.too_many), (0, 0, 0));

        drop(edge);
        let accepted = taken().accepted;
        world.clock.advance(Duration::from_secs(10));
        recorder.step(world.clock.now());
        assert_eq!(taken().accepted, accepted, "nobody is left to tell of");
    }

    #[test]
    fn histograms_are_recorded_without_their_buckets() {
        let mut samples = Samples::default();
        samples.family("x_seconds", "histogram", "");
        samples.sample("x_seconds_bucket", "tenant=\"a\",le=\"1\"", Figure::Whole(3));
        samples.sample("x_seconds_sum", "tenant=\"a\"", Figure::Real(0.5));
        samples.family("y_bucket", "gauge", "");
        samples.sample("y_bucket", "", Figure::Whole(7));
        let recorded = |name: &str, kind, value| {
            let metric_bytes = name.len();
            vec![Recorded { name: name.to_owned(), metric_bytes, kind, value }]
        };
        let expected = [
            ("a".to_owned(), recorded("x_seconds_sum", Kind::Counter, 0.5)),
            ("default".to_owned(), recorded("y_bucket", Kind::Gauge, 7.0)),
        ];
        assert_eq!(samples.by_tenant, expected.into());
    }
}
