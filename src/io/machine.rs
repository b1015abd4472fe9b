//! What the kernel says about this process and its disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::outside::{Disk, Probe, Process};

/// Asks the kernel.
#[derive(Debug)]
pub struct SystemProbe {
    data_dir: PathBuf,
}

impl SystemProbe {
    /// For the file system that holds `data_dir`.
    pub fn new(data_dir: &Path) -> SystemProbe {
        SystemProbe { data_dir: data_dir.to_owned() }
    }
}

impl Probe for SystemProbe {
    fn process(&self) -> Process {
        process(Path::new("/"))
    }

    fn disk(&self) -> Option<Disk> {
        let found = rustix::fs::statvfs(&self.data_dir).ok()?;
        Some(Disk {
            total_bytes: found.f_frsize.saturating_mul(found.f_blocks),
            free_bytes: found.f_frsize.saturating_mul(found.f_bavail),
        })
    }
}

/// This process, by the files below `root`, which stands for `/`.
pub(super) fn process(root: &Path) -> Process {
    let own = root.join("proc/self");
    let status = std::fs::read_to_string(own.join("status")).unwrap_or_default();
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Process {
        resident_bytes: kilobytes(&status, "VmRSS:"),
        cpu: std::fs::read_to_string(own.join("stat")).ok().and_then(|stat| cpu_of(&stat)),
        descriptors: descriptors(&own.join("fd")),
        descriptors_max: limits.current,
        threads: field(&status, "Threads:").and_then(|text| text.parse().ok()),
    }
}

/// How many descriptors are open. Since Linux 6.2 that is the size of the folder; before, they are counted.
fn descriptors(folder: &Path) -> Option<u64> {
    let found = std::fs::metadata(folder).ok()?;
    if found.len() != 0
        && rustix::fs::statfs(folder).is_ok_and(|it| it.f_type == rustix::fs::PROC_SUPER_MAGIC)
    {
        return Some(found.len());
    }
    // The one that lists them is not counted.
    let listed = std::fs::read_dir(folder).ok()?.count();
    u64::try_from(listed).ok()?.checked_sub(1)
}

/// The first word behind `name` in a file of `name: value` lines.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// User and kernel time in `/proc/self/stat`. The command's name in brackets may hold anything.
fn cpu_of(stat: &str) -> Option<Duration> {
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    let ms = (user + system).checked_mul(1000)?.checked_div(ticks)?;
    Some(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::{SystemProbe, cpu_of, kilobytes};
    use crate::app::outside::Probe as _;
    use std::path::Path;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t  5120 kB\n", "VmRSS:"), Some(5 << 20));
        assert_eq!(kilobytes("Name:\tx\n", "VmRSS:"), None);
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0";
        let cpu = cpu_of(stat).unwrap();
        assert_eq!(
            cpu.as_millis(),
            u128::from(200 * 1000 / rustix::param::clock_ticks_per_second())
        );
        assert_eq!(cpu_of("nonsense"), None);
    }

    #[test]
    fn this_process_has_memory_and_a_disk() {
        let probe = SystemProbe::new(Path::new("/"));
        let process = probe.process();
        assert!(process.resident_bytes.is_some_and(|bytes| 1 << 20 < bytes));
        assert!(process.descriptors.is_some_and(|n| 2 < n) && process.threads.is_some());
        assert!(probe.disk().is_some_and(|disk| disk.free_bytes <= disk.total_bytes));
    }
}
