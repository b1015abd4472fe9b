//! Reads the machine: texts of `/proc`, and the size of each file system that [`mounts::chosen`] chose.
//!
//! A sample opens some twenty small files, each read at most as far as [`HOST_TEXT_BYTES_MAX`], and asks each file
//! system once; nothing is kept from one to the next. None of a network is asked, nor of FUSE: they may never answer.
//!
//! **Failure cases**: a file that is missing, or that the sandbox hides, is `None`; a file system that may not be
//! asked (a folder on the way is closed to us) has no size. Neither makes the others fail.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::machine::process;
use super::memory::{Groups, text};
use super::units;
use crate::app::outside::{Machine, Unit};
use crate::base::limits::HOST_TEXT_BYTES_MAX;
use crate::base::time::Now;
use crate::host::mounts;
use crate::host::raw::{Mounted, Own, Raw, Space, Texts};

/// This machine.
#[derive(Debug)]
pub struct SystemMachine {
    root: PathBuf,
}

impl SystemMachine {
    /// The one that we run on.
    pub fn new() -> SystemMachine {
        SystemMachine::below(Path::new("/"))
    }

    /// One whose files are below `root`, which stands for `/`.
    pub fn below(root: &Path) -> SystemMachine {
        SystemMachine { root: root.to_owned() }
    }

    /// A text of the kernel. What lies beyond the limit is left out by whole lines: half a number is another.
    fn text(&self, path: &str) -> Option<String> {
        let file = File::open(self.root.join(path)).ok()?;
        let limit = u64::try_from(HOST_TEXT_BYTES_MAX).ok()?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).ok()?;
        if bytes.len() == HOST_TEXT_BYTES_MAX {
            let lines = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            bytes.truncate(lines);
        }
        Some(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(other) => String::from_utf8_lossy(other.as_bytes()).into_owned(),
        })
    }

    fn texts(&self) -> Texts {
        Texts {
            stat: self.text("proc/stat"),
            loadavg: self.text("proc/loadavg"),
            meminfo: self.text("proc/meminfo"),
            vmstat: self.text("proc/vmstat"),
            diskstats: self.text("proc/diskstats"),
            net_dev: self.text("proc/net/dev"),
            mountinfo: self.text("proc/self/mountinfo"),
            pressure_cpu: self.text("proc/pressure/cpu"),
            pressure_memory: self.text("proc/pressure/memory"),
            pressure_io: self.text("proc/pressure/io"),
            file_nr: self.text("proc/sys/fs/file-nr"),
            uptime: self.text("proc/uptime"),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn mounted(&self, mountinfo: &str) -> Vec<Mounted> {
        let is_folder = |path: &str| std::fs::metadata(self.at(path)).is_ok_and(|it| it.is_dir());
        let asked = mounts::chosen(mountinfo, &is_folder).into_iter();
        asked.map(|mount| Mounted { space: space(&self.at(&mount.path)), mount }).collect()
    }
}

impl Default for SystemMachine {
    fn default() -> SystemMachine {
        SystemMachine::new()
    }
}

impl Machine for SystemMachine {
    fn read(&self, now: Now) -> Raw {
        let texts = self.texts();
        let own = process(&self.root);
        Raw {
            now,
            mounted: texts.mountinfo.as_deref().map(|it| self.mounted(it)).unwrap_or_default(),
            texts,
            own: Own {
                resident_bytes: own.resident_bytes,
                cpu_seconds: own.cpu.map(|cpu| cpu.as_secs_f64()),
                descriptors: own.descriptors,
                descriptors_max: own.descriptors_max,
                threads: own.threads,
            },
            page_bytes: u64::try_from(rustix::param::page_size()).unwrap_or_default(),
            quota_cores: quota(&self.root),
        }
    }

    fn units(&self, names: &[String]) -> Option<Vec<Unit>> {
        let told = units::states(&self.at(units::SYSTEM_BUS), names);
        told.inspect_err(
            |error| tracing::debug!(%error, "systemd does not say how its units stand"),
        )
        .ok()
    }
}

fn space(path: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| found.f_frsize.saturating_mul(blocks);
    Some(Space {
        total_bytes: bytes(found.f_blocks),
        free_bytes: bytes(found.f_bfree),
        available_bytes: bytes(found.f_bavail),
        inodes: found.f_files,
        inodes_free: found.f_ffree,
    })
}

/// The least that the control groups of this process, and those above them, give it of the processors.
fn quota(root: &Path) -> Option<f64> {
    let groups = Groups::of(root);
    let second = groups.of_version_2().into_iter().filter_map(|folder| {
        let said = text(&folder.join("cpu.max"));
        let (quota, period) = said.trim().split_once(' ')?;
        cores(quota, period)
    });
    let first = groups.of_version_1("cpu").into_iter().filter_map(|folder| {
        let said = |name: &str| text(&folder.join(name));
        cores(&said("cpu.cfs_quota_us"), &said("cpu.cfs_period_us"))
    });
    second.chain(first).min_by(f64::total_cmp)
}

/// Microseconds of processors in so many microseconds of time. `max` and -1 say that there is no limit.
fn cores(quota: &str, period: &str) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number != 0);
    Some(f64::from(number(quota)?) / f64::from(number(period)?))
}

#[cfg(test)]
mod tests {
    use super::{SystemMachine, cores};
    use crate::app::outside::Machine as _;
    use crate::base::limits::HOST_TEXT_BYTES_MAX;
    use crate::base::time::{Mono, Now, Timestamp};
    use crate::host::parse::Counters;
    use crate::host::raw::{Raw, Texts};
    use crate::host::reading::Reading;
    use std::fs;

    const NOW: Now = Now { wall: Timestamp::MIN, mono: Mono::from_ns(1) };

    /// What is read of a machine with these files.
    fn raw(files: &[(&str, &[u8])]) -> Raw {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        SystemMachine::below(root.path()).read(NOW)
    }

    #[test]
    fn a_machine_without_files_says_nothing() {
        let raw = raw(&[]);
        let Texts { stat, meminfo, mountinfo, pressure_cpu, uptime, .. } = &raw.texts;
        assert!([stat, meminfo, mountinfo, pressure_cpu, uptime].iter().all(|it| it.is_none()));
        assert_eq!((raw.quota_cores, raw.own.resident_bytes, raw.own.threads), (None, None, None));
        assert_eq!(raw.own.descriptors, None);
        assert!(raw.page_bytes.is_power_of_two());
        let reading = Reading::between(None, &Counters::of(&raw));
        assert_eq!(reading.unavailable.len(), 13, "{:?}", reading.unavailable);
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_and_odd_bytes_hurt_nobody() {
        let raw =
            raw(&[("proc/stat/x", b"?"), ("proc/meminfo", b"MemTotal: 5 kB\n\xff\xfe: 7 kB\n")]);
        assert_eq!(raw.texts.stat, None);
        assert_eq!(Counters::of(&raw).memory.unwrap()["MemTotal"], 5120);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_at_the_end_of_a_line() {
        let line = b"pgfault 1234567\n";
        let mut long = b"oom_kill 3\n".to_vec();
        while long.len() <= HOST_TEXT_BYTES_MAX {
            long.extend_from_slice(line);
        }
        let text = raw(&[("proc/vmstat", &long)]).texts.vmstat.unwrap();
        assert!(text.ends_with("1234567\n") && text.len() < HOST_TEXT_BYTES_MAX);
        assert!(HOST_TEXT_BYTES_MAX - text.len() <= line.len());
        let endless = vec![b'1'; HOST_TEXT_BYTES_MAX + 5];
        assert_eq!(raw(&[("proc/vmstat", &endless)]).texts.vmstat.as_deref(), Some(""));
    }

    #[test]
    fn file_systems_are_asked_at_their_paths() {
        let mountinfo = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 8:2 / /gone rw - ext4 /dev/sda2 rw\n\
            3 1 8:3 /file /etc/hosts rw - ext4 /dev/sda3 rw\n";
        let raw = raw(&[("proc/self/mountinfo", mountinfo), ("etc/hosts", b"?")]);
        let paths: Vec<_> =
            raw.mounted.iter().map(|it| (&*it.mount.path, it.space.is_some())).collect();
        assert_eq!(paths, [("/", true), ("/gone", false)], "and a file is no place for a disk");
    }

    #[test]
    fn processors_are_limited_by_the_groups_on_the_way() {
        let mount2: &[u8] = b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let path: &[u8] = b"0::/system.slice/h.service\n";
        let quota = |files: &[(&str, &[u8])]| {
            let base = [("proc/self/mountinfo", mount2), ("proc/self/cgroup", path)];
            raw(&[&base, files].concat()).quota_cores
        };
        assert_eq!(quota(&[]), None);
        let own = "sys/fs/cgroup/system.slice/h.service/cpu.max";
        let parent = "sys/fs/cgroup/system.slice/cpu.max";
        assert_eq!(quota(&[(own, b"max 100000\n")]), None);
        assert_eq!(quota(&[(own, b"150000 100000\n")]), Some(1.5));
        assert_eq!(quota(&[(own, b"max 100000\n"), (parent, b"50000 100000\n")]), Some(0.5));
        assert_eq!(quota(&[(own, b"150000 100000\n"), (parent, b"300000 100000\n")]), Some(1.5));
        assert_eq!(quota(&[("sys/fs/cgroup/other/cpu.max", b"1000 100000\n")]), None);
        let mount1: &[u8] =
            b"33 31 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let old = |quota: &[u8]| {
            let folder = "sys/fs/cgroup/cpu,cpuacct/docker/4f";
            raw(&[
                ("proc/self/mountinfo", mount1),
                ("proc/self/cgroup", b"4:cpu,cpuacct:/docker/4f\n2:memory:/x\n"),
                (&format!("{folder}/cpu.cfs_quota_us"), quota),
                (&format!("{folder}/cpu.cfs_period_us"), b"100000\n"),
            ])
            .quota_cores
        };
        assert_eq!((old(b"-1\n"), old(b"25000\n")), (None, Some(0.25)));
    }

    #[test]
    fn odd_limits_are_none() {
        for (quota, period) in
            [("", ""), ("max", "100000"), ("-1", "1"), ("0", "5"), ("5", "0"), ("1e3", "5")]
        {
            assert_eq!(cores(quota, period), None, "{quota} {period}");
        }
        assert_eq!(cores(" 5\n", "10\n"), Some(0.5));
    }
}
