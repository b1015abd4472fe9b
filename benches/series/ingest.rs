//! Text to durable tick, on one thread.

use std::time::Instant;

use crate::figures::{Limit, median, target};
use crate::fleet::Fleet;
use crate::rounds;
use crate::store::{EVERY, folder, open, scrape};

const SERIES: usize = 5_000;
/// Texts that are made before the clock runs.
const TEXTS: usize = 60;

pub(crate) fn scene() {
    let fleet = Fleet::of(SERIES);
    let texts: Vec<String> = (0..TEXTS).map(|moment| fleet.text(moment)).collect();
    let folder = folder();
    let mut shop = open(folder.path(), std::time::Duration::ZERO);
    scrape(&shop, &texts[0]);
    shop.pass(EVERY);
    let mut rates = Vec::new();
    let (mut read, mut synced) = (0.0, 0.0);
    for _ in 0..rounds() {
        let mut samples = 0;
        let began = Instant::now();
        for text in &texts {
            let here = Instant::now();
            samples += scrape(&shop, text);
            read += here.elapsed().as_secs_f64();
            let here = Instant::now();
            shop.pass(EVERY);
            synced += here.elapsed().as_secs_f64();
        }
        rates.push(samples as f64 / began.elapsed().as_secs_f64());
    }
    let share = 100.0 * synced / (read + synced);
    println!("  {SERIES} series a scrape; of the time, for the tick and its sync: {share:.0} %");
    target("samples per second, text to durable tick", median(rates), Limit::AtLeast(500_000.0));
}
