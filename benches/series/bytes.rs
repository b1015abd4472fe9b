//! What a sample and a point cost on disk, on real host readings.

use std::time::Duration;

use holdfast::series::Tier;

use crate::figures::{Limit, target};
use crate::fleet::Fleet;
use crate::host;
use crate::store::{EVERY, folder, open, scrape, taken};

/// The recorded stretch is told again and again for so many scrapes: three days and a half.
const SCRAPES: usize = 30_240;

pub(crate) fn scene() {
    let (names, rows) = host::load();
    println!("recorded: {} series, {} scrapes", names.len(), rows.len());
    let fleet = Fleet::of(names.len());
    let folder = folder();
    let mut shop = open(folder.path(), Duration::ZERO);
    let mut samples = 0;
    for moment in 0..SCRAPES {
        samples += scrape(&shop, &fleet.text(moment));
        shop.pass(EVERY);
    }
    shop.pass(Duration::from_hours(30));
    let figures = shop.world.app.series().figures();
    let held = |tier: Tier| figures.tiers.iter().find(|its| its.tier == tier).unwrap().held;
    let all: u64 = figures.tiers.iter().map(|its| its.held.bytes).sum();
    let file = taken(&folder.path().join("series.redb")) + taken(&folder.path().join("series.wal"));
    let raw = held(Tier::Raw).bytes as f64;
    let share = raw / all as f64;
    let per_sample = file as f64 * share / samples as f64;
    println!(
        "  samples {samples}, file {file} bytes, of it for raw samples {:.1} %",
        100.0 * share
    );
    println!("  blocks alone, bytes a sample {:>24.3}", raw / samples as f64);
    target("bytes per sample, file overhead included", per_sample, Limit::AtMost(0.5));
    target("  the same, stretch", per_sample, Limit::AtMost(0.3));
    let whole = file as f64 / samples as f64;
    println!("  with the points of all tiers, bytes a sample {whole:>9.3}");
    for (tier, limit) in [(Tier::FiveMinutes, None), (Tier::Hour, Some(10.0)), (Tier::Day, None)] {
        let days = SCRAPES as f64 / 8_640.0;
        let points = names.len() as f64 * days * 86_400_000.0 / tier.step_ms() as f64;
        let each = held(tier).bytes as f64 * (file as f64 / all as f64) / points;
        let name = format!("bytes per point of {}, file overhead included", tier.as_str());
        match limit {
            Some(limit) => target(&name, each, Limit::AtMost(limit)),
            None => println!("{name:<54} {each:>9.2}"),
        }
    }
}
