//! A gigabyte of series, a kill, and how long it takes until they are there again.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast::base::rng::Rng;

use crate::figures::{Limit, median, target};
use crate::rounds;
use crate::store::{EVERY, folder, open, scrape, taken};

const SERIES: usize = 5_000;
/// Values of chance cost eight bytes each: this many hours of them are a gigabyte.
const HOURS: usize = 72;
const BYTES: u64 = 1_000_000_000;

fn child(word: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(word).arg(folder).stdout(Stdio::piped());
    command
}

pub(crate) fn scene() {
    let folder = folder();
    let mut filling = child("child-fill", folder.path()).spawn().unwrap();
    let mut lines = BufReader::new(filling.stdout.take().unwrap()).lines();
    let told = lines.next().expect("the child tells when it is done").unwrap();
    // It goes on to write when it is killed.
    filling.kill().unwrap();
    filling.wait().unwrap();
    let bytes = taken(&folder.path().join("series.redb"));
    println!("  {told}; series.redb takes {} MB", bytes / 1_000_000);
    assert!(BYTES <= bytes, "{bytes}");
    let took: Vec<f64> = (0..rounds())
        .map(|_| {
            let output = child("child-open", folder.path()).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
        })
        .collect();
    target("reopen after kill -9 with 1 GB of series, ms", median(took), Limit::AtMost(200.0));
}

fn text(rng: &mut Rng) -> String {
    let mut text = String::with_capacity(SERIES * 40);
    for series in 0..SERIES {
        let value = f64::from_bits(0x3ff0_0000_0000_0000 | rng.next_u64() >> 12);
        writeln!(text, "noise{{n=\"{series}\"}} {value}").unwrap();
    }
    text
}

/// Fills it, says so, and goes on until it is killed.
pub(crate) fn fill(path: &str) {
    let mut shop = open(Path::new(path), Duration::ZERO);
    let mut rng = Rng::from_seed(11);
    for moment in 0.. {
        scrape(&shop, &text(&mut rng));
        shop.pass(EVERY);
        if moment == HOURS * 360 + 180 {
            println!("{SERIES} series, {HOURS} hours and a half, killed while it writes");
        }
    }
}

/// Opens it, and says how long that took.
pub(crate) fn open_timed(path: &str) {
    let began = Instant::now();
    let shop = open(Path::new(path), Duration::from_hours(HOURS as u64 + 1));
    let took = began.elapsed();
    assert_eq!(shop.world.app.series().figures().series, SERIES);
    println!("{}", took.as_secs_f64() * 1e3);
    // Killed again: what it would do at an end in order is not wanted.
    std::process::abort();
}
