//! What the machine can do, beside which all other figures stand.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::at;

const SYNCS: usize = 200;

/// A file of its own, where the data directories are.
pub(crate) struct Disk {
    file: File,
    _folder: TempDir,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("log");
        let file = OpenOptions::new().create_new(true).append(true).open(path).unwrap();
        Disk { file, _folder: folder }
    }

    /// How long it takes to append 4 KiB that stay.
    pub(crate) fn sync(&mut self) -> Duration {
        let began = Instant::now();
        self.file.write_all(&[0x5a; 4096]).unwrap();
        self.file.sync_data().unwrap();
        began.elapsed()
    }
}

/// What was measured of the machine.
pub(crate) struct Machine {
    sync_p50_ms: f64,
    sync_p99_ms: f64,
    cores: usize,
}

impl Machine {
    pub(crate) fn measure() -> Machine {
        let mut disk = Disk::new();
        let mut took: Vec<Duration> = (0..SYNCS).map(|_| disk.sync()).collect();
        took.sort_unstable();
        let cores = std::thread::available_parallelism().unwrap().get();
        Machine { sync_p50_ms: at(&took, 500), sync_p99_ms: at(&took, 990), cores }
    }

    pub(crate) fn print(&self) {
        println!(
            "machine: {} cores; 4 KiB appended and fdatasync: {:.3} ms, median of {SYNCS}; p99 {:.3} ms",
            self.cores, self.sync_p50_ms, self.sync_p99_ms
        );
    }
}
