//! Series of thirty days, on real files.

use std::time::Duration;

use holdfast::app::directory::TenantEntry;
use holdfast::base::name::TenantName;
use holdfast::base::time::Clock as _;
use holdfast::series::Kind;
use holdfast::series::memory::{Incoming, Name, OWN_SERIES};
use holdfast::testing::series::Shop;

/// A sample comes so often, until the last hours.
pub(crate) const EVERY: Duration = Duration::from_mins(10);
/// How long everything was recorded.
pub(crate) const DAYS: u64 = 30;

/// A series: its name, its kind, and its value at a moment.
pub(crate) struct Told {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) value: Box<dyn Fn(i64) -> f64>,
}

/// Whose series they are.
pub(crate) fn tenant(shop: &Shop) -> TenantEntry {
    let name = TenantName::parse("default").unwrap();
    TenantEntry::clone(&shop.world.app.directory().tenant(&name).unwrap())
}

/// Writes thirty days of them, the last two hours at ten seconds.
pub(crate) fn record(shop: &mut Shop, all: &[Told]) {
    let moments = DAYS * 24 * 6;
    for moment in 0..moments {
        let is_late = moments - 12 <= moment;
        let every = if is_late { Duration::from_secs(10) } else { EVERY };
        for _ in 0..EVERY.as_secs() / every.as_secs() {
            write(shop, all);
            shop.pass(every);
        }
    }
}

fn write(shop: &Shop, all: &[Told]) {
    let now = shop.world.clock.now();
    let at_ms = now.wall.unix_ms();
    let incoming = |told| {
        let Told { name, kind, value }: &Told = told;
        let metric = name.split('{').next().unwrap();
        Incoming {
            place: 0,
            name: Name::Text { name, metric },
            kind: Some(*kind),
            time_ms: Some(at_ms),
            value: value(at_ms),
        }
    };
    let samples: Vec<Incoming<'_>> = all.iter().map(incoming).collect();
    let written = shop.world.app.series().write(now, tenant(shop).id, OWN_SERIES, &samples);
    let written = written.unwrap();
    assert_eq!(written.refused_count, 0, "{:?}", written.refused.first());
}
