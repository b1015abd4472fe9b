//! A day of 5,000 series: memory over an idle process, and everything that is written to disk.

use std::process::Command;
use std::time::Duration;

use crate::figures::{Limit, target};
use crate::fleet::Fleet;
use crate::store::{EVERY, folder, open, scrape};

const SERIES: usize = 5_000;
const SCRAPES: usize = 26 * 360;

pub(crate) fn scene() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["child-day", &SERIES.to_string()])
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let text = String::from_utf8(child.stdout).unwrap();
    let figure = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {text}")).trim().parse().unwrap()
    };
    let idle = figure("idle");
    println!("  {SERIES} series at 10 s; resident when idle {idle:.1} MB");
    target("resident over idle at most, MB", figure("most") - idle, Limit::AtMost(40.0));
    println!("  written to the log {:>35.1} MB", figure("log"));
    println!("  written to series.redb {:>31.1} MB", figure("store"));
    target("written in a day, MB", figure("log") + figure("store"), Limit::AtMost(120.0));
    println!("  syncs {:>48}", figure("syncs"));
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// The day, in a process of its own. What the fleet itself takes is there when it is idle.
pub(crate) fn child(series: &str) {
    let fleet = Fleet::of(series.parse().unwrap());
    let text = fleet.text(0);
    let folder = folder();
    let mut shop = open(folder.path(), Duration::ZERO);
    shop.pass(EVERY);
    println!("idle {}", resident_mb());
    drop(text);
    let mut most: f64 = 0.0;
    let before = written(&shop);
    let mut day = (0, 0, 0);
    for moment in 0..SCRAPES {
        scrape(&shop, &fleet.text(moment));
        shop.pass(EVERY);
        most = most.max(resident_mb());
        // The first hours have no day before them to be rolled up: the last 24 are a day like any other.
        if moment == SCRAPES - 8_640 - 1 {
            day = written(&shop);
        }
    }
    let (log, store, syncs) = written(&shop);
    assert!(before.0 <= day.0);
    let mb = |from: u64, to: u64| (to - from) as f64 / 1e6;
    println!("most {most}\nlog {}\nstore {}", mb(day.0, log), mb(day.1, store));
    println!("syncs {}", syncs - day.2);
}

fn written(shop: &holdfast::testing::series::Shop) -> (u64, u64, u64) {
    let series = shop.world.app.series();
    let (log, engine) = (series.figures().log, series.writer().figures().engine.unwrap());
    (log.write_bytes, engine.write_bytes, log.syncs + engine.syncs)
}
