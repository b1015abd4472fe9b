//! A machine whose files say what a test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::app::outside::{Machine, Unit};
use crate::base::time::{Mono, Now, Timestamp};
use crate::host::mounts::Mount;
use crate::host::raw::{Mounted, Own, Raw, Space, Texts};

/// A machine that says nothing at first.
#[derive(Clone)]
pub struct FakeMachine {
    raw: Arc<Mutex<Raw>>,
    panics: Arc<AtomicBool>,
    units: Arc<Mutex<Option<Vec<Unit>>>>,
}

impl Default for FakeMachine {
    fn default() -> FakeMachine {
        let raw = Raw {
            now: Now { wall: Timestamp::MIN, mono: Mono::default() },
            texts: Texts::default(),
            mounted: Vec::new(),
            own: Own::default(),
            page_bytes: 4096,
            quota_cores: None,
        };
        FakeMachine {
            raw: Arc::new(Mutex::new(raw)),
            panics: Arc::default(),
            units: Arc::default(),
        }
    }
}

impl FakeMachine {
    /// What systemd says of units; nothing at first.
    pub fn set_units(&self, units: Option<Vec<Unit>>) {
        *self.units.lock() = units;
    }

    /// Changes what it says from the next reading on.
    pub fn change(&self, change: impl FnOnce(&mut Raw)) {
        change(&mut self.raw.lock());
    }

    /// One processor, which was busy and idle for so many hundredths of a second since it started.
    pub fn set_busy(&self, busy: u64, idle: u64) {
        let stat =
            format!("cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\n");
        self.change(|raw| raw.texts.stat = Some(stat));
    }

    /// 1,000 MiB of memory, of which so many are left.
    pub fn set_available(&self, available: u64) {
        let kib = |mib: u64| mib * 1024;
        let meminfo = format!(
            "MemTotal: {} kB\nMemFree: 0 kB\nMemAvailable: {} kB\nBuffers: 0 kB\nCached: 0 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
            kib(1_000),
            kib(available)
        );
        self.change(|raw| raw.texts.meminfo = Some(meminfo));
    }

    /// One disk of 1,000,000 bytes, of which so many are used.
    pub fn set_disk(&self, used: u64) {
        let mount = Mount {
            path: "/".to_owned(),
            device: "/dev/vda1".to_owned(),
            kind: "ext4".to_owned(),
            read_only: false,
            number: "254:1".to_owned(),
        };
        let total_bytes = 1_000_000;
        let free_bytes = total_bytes - used;
        let (inodes, inodes_free) = (1_000, 900);
        let space =
            Space { total_bytes, free_bytes, available_bytes: free_bytes, inodes, inodes_free };
        let mountinfo = "21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n";
        self.change(|raw| {
            raw.texts.mountinfo = Some(mountinfo.to_owned());
            raw.mounted = vec![Mounted { mount, space: Some(space) }];
        });
    }

    /// Two interfaces, `lo` and `eth0`, which received so many bytes each.
    pub fn set_received(&self, lo: u64, eth0: u64) {
        let line = |name: &str, bytes: u64| {
            format!("{name:>6}: {bytes} 1 0 0 0 0 0 0 {bytes} 1 0 0 0 0 0 0\n")
        };
        let head = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";
        let text = format!("{head}{}{}", line("lo", lo), line("eth0", eth0));
        self.change(|raw| raw.texts.net_dev = Some(text));
    }

    /// Whether reading it panics.
    pub fn set_panics(&self, panics: bool) {
        self.panics.store(panics, Relaxed);
    }
}

impl Machine for FakeMachine {
    fn read(&self, now: Now) -> Raw {
        assert!(!self.panics.load(Relaxed), "a test wants this reading to panic");
        Raw { now, ..self.raw.lock().clone() }
    }

    fn units(&self, names: &[String]) -> Option<Vec<Unit>> {
        let told = self.units.lock().clone()?;
        Some(told.into_iter().filter(|unit| names.contains(&unit.name)).collect())
    }
}
