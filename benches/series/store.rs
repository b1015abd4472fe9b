//! Series on real files, with a clock that is moved by hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast::app::series::{Parts, Series, SeriesSettings};
use holdfast::base::id::TenantId;
use holdfast::base::limits::series_cache_bytes;
use holdfast::base::time::Clock as _;
use holdfast::exec::writer::Options;
use holdfast::series::memory::{Incoming, Name};
use holdfast::series::text;
use holdfast::store::disk::FileLog;
use holdfast::store::redb::Redb;
use holdfast::store::{Commit, Engine};
use holdfast::testing::app::World;
use holdfast::testing::clock::ManualClock;
use holdfast::testing::series::Shop;

/// Whose series they are.
pub(crate) const TENANT: TenantId = TenantId::from_raw(7);
/// A scrape comes so often.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// What a server with 1 GB of memory gives the engine.
const CACHE_BYTES: u64 = series_cache_bytes(1 << 30);

/// Opens what is in the folder; `past` is how far the clock of an earlier process came.
pub(crate) fn open(folder: &Path, past: Duration) -> Shop {
    let clock = Arc::<ManualClock>::default();
    clock.advance(past);
    let path = folder.join("series.redb");
    let mut options = Options::new("series", Box::new(|| panic!("the store failed for good")));
    options.commit = Commit::Quick;
    let series = Series::start(Parts {
        clock: Arc::<ManualClock>::clone(&clock),
        opener: Box::new(move |opening| {
            Ok(Box::new(Redb::open(&path, CACHE_BYTES, opening)?) as Box<dyn Engine>)
        }),
        options,
        log: Box::new(FileLog::open(&folder.join("series.wal")).unwrap()),
        seed: 1,
    });
    Shop::of(World::with_series(1, clock, series.unwrap()), SeriesSettings::default())
}

/// A folder for it, on the disk where everything else is built.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Takes a text, as the server takes it.
pub(crate) fn scrape(shop: &Shop, body: &str) -> u64 {
    let samples: Vec<Incoming<'_>> = text::lines(body)
        .map(|line| line.unwrap())
        .map(|line| Incoming {
            place: line.number,
            name: Name::Text { name: line.name, metric: line.metric },
            kind: line.kind,
            time_ms: line.time_ms,
            value: line.value,
        })
        .collect();
    let now = shop.world.clock.now();
    let written = shop.world.app.series().write(now, TENANT, 100_000, &samples).unwrap();
    assert_eq!(written.refused_count, 0, "{:?}", written.refused.first());
    written.accepted
}

/// Bytes that a file takes of the disk.
pub(crate) fn taken(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).unwrap().blocks() * 512
}
