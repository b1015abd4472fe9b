//! Texts of several machines, and texts of none.

use super::{Counters, CpuTime, DiskCounters, NetCounters, Pressure};
use crate::base::rng::Rng;
use crate::base::time::{Mono, Now, Timestamp};
use crate::host::mounts::{Mount, chosen};
use crate::host::raw::{Mounted, Own, Raw, Space, Texts};
use crate::testing::seeds;

pub(in crate::host) const VPS: &str = include_str!("../fixtures/vps.txt");
pub(in crate::host) const OLD_KERNEL: &str = include_str!("../fixtures/old_kernel.txt");
pub(in crate::host) const CONTAINER: &str = include_str!("../fixtures/container.txt");

/// A part of a fixture: what follows the line `== name`.
pub(in crate::host) fn section(fixture: &str, name: &str) -> Option<String> {
    let title = format!("== {name}\n");
    let mut lines = fixture.split_inclusive('\n').skip_while(|line| *line != title);
    lines.next()?;
    Some(lines.take_while(|line| !line.starts_with("== ")).collect())
}

pub(in crate::host) fn texts(fixture: &str) -> Texts {
    let section = |name| section(fixture, name);
    Texts {
        stat: section("stat"),
        loadavg: section("loadavg"),
        meminfo: section("meminfo"),
        vmstat: section("vmstat"),
        diskstats: section("diskstats"),
        net_dev: section("net_dev"),
        mountinfo: section("mountinfo"),
        pressure_cpu: section("pressure_cpu"),
        pressure_memory: section("pressure_memory"),
        pressure_io: section("pressure_io"),
        file_nr: section("file_nr"),
        uptime: section("uptime"),
    }
}

pub(in crate::host) const OWN: Own = Own {
    resident_bytes: Some(20 << 20),
    cpu_seconds: Some(1.5),
    descriptors: Some(12),
    descriptors_max: Some(65_536),
    threads: Some(9),
};

/// 10 GiB with 4 of them free, 3 for everybody.
pub(in crate::host) const SPACE: Space = Space {
    total_bytes: 10 << 30,
    free_bytes: 4 << 30,
    available_bytes: 3 << 30,
    inodes: 1000,
    inodes_free: 750,
};

pub(in crate::host) fn at(seconds: u64) -> Now {
    let ms = i64::try_from(1_700_000_000_000 + seconds * 1000).unwrap();
    Now { wall: Timestamp::from_unix_ms(ms).unwrap(), mono: Mono::from_ns(seconds * 1_000_000_000) }
}

/// What was read of the machine of a fixture, with file systems of one size.
pub(in crate::host) fn raw(fixture: &str) -> Raw {
    let texts = texts(fixture);
    let files = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    let mounts = chosen(texts.mountinfo.as_deref().unwrap_or(""), &|path| !files.contains(&path));
    let mounted = |mount| Mounted { mount, space: Some(SPACE) };
    Raw {
        now: at(100),
        mounted: mounts.into_iter().map(mounted).collect(),
        texts,
        own: OWN,
        page_bytes: 4096,
        quota_cores: None,
    }
}

/// A machine that says nothing.
pub(in crate::host) fn silent() -> Raw {
    Raw {
        now: at(100),
        texts: Texts::default(),
        mounted: Vec::new(),
        own: Own::default(),
        page_bytes: 4096,
        quota_cores: None,
    }
}

fn mount(path: &str, device: &str, kind: &str, number: &str) -> Mount {
    Mount {
        path: path.to_owned(),
        device: device.to_owned(),
        kind: kind.to_owned(),
        read_only: false,
        number: number.to_owned(),
    }
}

#[test]
fn the_files_of_a_small_machine_are_read() {
    let counters = Counters::of(&raw(VPS));
    let ticks = section(VPS, "stat").unwrap();
    let line: Vec<f64> = ticks
        .lines()
        .next()
        .unwrap()
        .split(' ')
        .skip(2)
        .map(|word| word.parse().unwrap())
        .collect();
    let cpu = counters.cpu.unwrap();
    let read =
        [cpu.user, cpu.nice, cpu.system, cpu.idle, cpu.iowait, cpu.irq, cpu.softirq, cpu.steal];
    for (seconds, ticks) in read.iter().zip(&line) {
        assert!((seconds * 100.0 - ticks).abs() < 1e-6, "{seconds} {ticks}");
    }
    assert_eq!(counters.cpus.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1]);
    assert!(counters.contexts.is_some() && counters.interrupts.is_some());
    assert_eq!(counters.booted, Some(1_795_259_473));
    assert_eq!(counters.memory.as_ref().unwrap()["MemTotal"], 24_684_084 << 10);
    assert!(!counters.memory.as_ref().unwrap().contains_key("HugePages_Total"), "no bytes");
    assert_eq!(counters.vm.as_ref().unwrap()["oom_kill"], 0);
    assert_eq!(counters.disks.as_ref().unwrap().keys().collect::<Vec<_>>(), ["vda"]);
    assert_eq!(counters.disk_numbers["254:0"], "vda");
    let interfaces: Vec<_> = counters.network.as_ref().unwrap().keys().collect();
    assert_eq!(interfaces, ["eth0", "ifb0", "ifb1", "lo"]);
    assert_eq!(counters.pressure_cpu.unwrap().full, None, "said to be zero, and means nothing");
    assert!(counters.pressure_memory.unwrap().full.is_some());
    assert!(counters.uptime.is_some() && counters.load.is_some());
    assert_eq!(counters.files.unwrap().1, 2_466_170);
    assert_eq!((counters.own, counters.page_bytes), (OWN, 4096));
}

#[test]
fn an_old_kernel_says_less_and_what_it_says_is_read() {
    let counters = Counters::of(&raw(OLD_KERNEL));
    assert!(counters.pressure_cpu.is_none() && counters.pressure_io.is_none());
    assert!(!counters.vm.as_ref().unwrap().contains_key("oom_kill"));
    assert_eq!(counters.vm.as_ref().unwrap()["pswpout"], 35_045);
    let cpu = CpuTime {
        user: 3018.54,
        nice: 6.12,
        system: 1119.22,
        idle: 89_790.04,
        iowait: 35.52,
        irq: 0.02,
        softirq: 39.44,
        steal: 0.17,
    };
    assert_eq!(counters.cpu, Some(cpu));
    let disk = DiskCounters {
        reads: 25_354_637,
        read_bytes: 1_003_346_126 * 512,
        read_seconds: 18_492.372,
        writes: 28_444_756,
        written_bytes: 505_697_032 * 512,
        write_seconds: 63_877.96,
        busy_seconds: 9653.88,
        weighted_seconds: 4_294_967.29,
    };
    let disks = counters.disks.unwrap();
    assert_eq!(disks["sda"], disk);
    assert_eq!(disks.keys().collect::<Vec<_>>(), ["dm-0", "dm-1", "sda", "sda1", "sda2", "sr0"]);
    let eth0 = NetCounters {
        bytes: [4_294_967_290, 9_315_587_528],
        packets: [520_993_275, 43_451_486],
        errors: [3, 2],
        drops: [7, 5],
    };
    let network = counters.network.unwrap();
    assert_eq!(network["eth0"], eth0, "without a space behind the colon");
    assert_eq!(network["eth0:1"].bytes, [648, 1_943_284], "a name with a colon");
    let paths: Vec<_> = counters.mounted.unwrap().into_iter().map(|it| it.mount.path).collect();
    assert_eq!(paths, ["/", "/boot"]);
}

#[test]
fn pressure_is_read_as_percent_and_seconds() {
    let counters = Counters::of(&raw(CONTAINER));
    let memory = Pressure {
        some: [0.2, 3.0, 4.95],
        some_seconds: 18.0,
        full: Some(([0.3, 4.0, 5.05], 21.0)),
    };
    assert_eq!(counters.pressure_memory, Some(memory));
    let mut raw = raw(CONTAINER);
    for text in [
        "",
        "some",
        "some avg10=x avg60=0 avg300=0 total=1\n",
        "some avg10=0.00 avg60=0.00\n",
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    ] {
        raw.texts.pressure_io = Some(text.to_owned());
        assert_eq!(Counters::of(&raw).pressure_io, None, "{text:?}");
    }
    raw.texts.pressure_io =
        Some("some avg10=1.00 avg60=2.00 avg300=3.00 total=4000000\n".to_owned());
    let only_some = Pressure { some: [1.0, 2.0, 3.0], some_seconds: 4.0, full: None };
    assert_eq!(Counters::of(&raw).pressure_io, Some(only_some));
}

#[test]
fn what_is_missing_or_nonsense_is_none_and_nothing_else_suffers() {
    let counters = Counters::of(&silent());
    assert!(counters.cpu.is_none() && counters.cpus.is_empty() && counters.load.is_none());
    assert!(counters.memory.is_none() && counters.vm.is_none() && counters.disks.is_none());
    assert!(counters.network.is_none() && counters.mounted.is_none() && counters.files.is_none());
    let full = raw(VPS);
    for nonsense in
        ["", "\n", "\u{0}", "cpu", "cpu 1 2 3\n", "-1 -1 -1", "NaN inf 1e999", "x: y\n|\n"]
    {
        let text = || Some(nonsense.to_owned());
        let texts = Texts { stat: text(), loadavg: text(), uptime: text(), ..full.texts.clone() };
        let counters = Counters::of(&Raw { texts, ..full.clone() });
        assert!(counters.cpu.is_none() && counters.booted.is_none(), "{nonsense:?}");
        assert!(counters.load.is_none() && counters.uptime.is_none(), "{nonsense:?}");
        assert!(counters.memory.is_some() && counters.files.is_some(), "{nonsense:?}");
        let texts =
            Texts { meminfo: text(), vmstat: text(), file_nr: text(), ..full.texts.clone() };
        let counters = Counters::of(&Raw { texts, ..full.clone() });
        assert!(counters.memory.is_none() && counters.vm.is_none(), "{nonsense:?}");
        assert!(counters.files.is_none() && counters.cpu.is_some(), "{nonsense:?}");
    }
}

#[test]
fn processors_that_nobody_counts_are_not_idle() {
    let mut raw = raw(VPS);
    raw.texts.stat =
        Some("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\nbtime 5\n".to_owned());
    let counters = Counters::of(&raw);
    assert_eq!((counters.cpu, counters.cpus.len(), counters.booted), (None, 0, Some(5)));
}

#[test]
fn sizes_that_cannot_be_are_left_out() {
    let mut raw = raw(VPS);
    raw.texts.meminfo = Some(format!("MemTotal: 100 kB\nHuge: {} kB\nPages: 7\n", u64::MAX));
    let memory = Counters::of(&raw).memory.unwrap();
    assert_eq!(memory.into_iter().collect::<Vec<_>>(), [("MemTotal".to_owned(), 102_400)]);
    for (quota, expected) in [(0.5, Some(0.5)), (0.0, None), (f64::NAN, None), (-1.0, None)] {
        raw.quota_cores = Some(quota);
        assert_eq!(Counters::of(&raw).quota_cores, expected, "{quota}");
    }
}

#[test]
fn the_root_device_has_its_name_and_file_systems_without_a_size_are_no_disks() {
    let mut raw = raw(VPS);
    let nothing = Space::default();
    raw.mounted = vec![
        Mounted { mount: mount("/", "/dev/root", "ext4", "254:0"), space: Some(SPACE) },
        Mounted { mount: mount("/a", "/dev/root", "ext4", "9:9"), space: None },
        Mounted { mount: mount("/b", "/dev/vdb", "ext4", "254:16"), space: Some(nothing) },
    ];
    let mounted = Counters::of(&raw).mounted.unwrap();
    let named: Vec<_> = mounted.iter().map(|it| (&*it.mount.path, &*it.mount.device)).collect();
    assert_eq!(named, [("/", "/dev/vda"), ("/a", "/dev/root")]);
}

#[test]
fn the_disk_below_the_root_of_a_container_is_counted_once() {
    let mut raw = raw(CONTAINER);
    let paths = |raw: &Raw| -> Vec<String> {
        Counters::of(raw).mounted.unwrap().into_iter().map(|it| it.mount.path).collect()
    };
    assert_eq!(raw.mounted.len(), 2, "the root, and a folder of the disk of the host");
    assert_eq!(paths(&raw), ["/"]);
    // What is free changes between two questions.
    raw.mounted[1].space.as_mut().unwrap().free_bytes -= 4096;
    assert_eq!(paths(&raw), ["/"]);
    raw.mounted[1].space.as_mut().unwrap().total_bytes += 4096;
    assert_eq!(paths(&raw), ["/", "/etc/ssl/private"], "another disk");
    // Two disks of one size on a machine without layers are two.
    raw.mounted[1].space = Some(SPACE);
    raw.mounted[0].mount = mount("/", "/dev/vdb", "ext4", "254:16");
    assert_eq!(paths(&raw), ["/", "/etc/ssl/private"]);
}

/// A text with a few changes.
fn spoiled(rng: &mut Rng, text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=rng.below(6) {
        let start = rng.index(bytes.len() + 1);
        let end = start + rng.index((bytes.len() - start).min(40) + 1);
        match rng.below(4) {
            0 => bytes.truncate(start),
            1 => drop(bytes.drain(start..end)),
            2 => drop(bytes.splice(start..end, *b"18446744073709551615")),
            _ => drop(bytes.splice(start..end, rng.bytes(3))),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn no_text_is_a_panic_and_every_amount_is_finite() {
    for seed in seeds(150) {
        let mut rng = Rng::from_seed(seed);
        let fixture = [VPS, OLD_KERNEL, CONTAINER][rng.index(3)];
        let fixture = spoiled(&mut rng, fixture);
        let counters = Counters::of(&raw(&fixture));
        let time = counters.cpus.iter().map(|(_, cpu)| cpu).chain(&counters.cpu);
        let finite = |cpu: &CpuTime| (cpu.user + cpu.idle + cpu.steal).is_finite();
        assert!(time.into_iter().all(finite), "seed={seed}");
        assert!(
            counters.load.is_none_or(|load| load.iter().all(|it| it.is_finite())),
            "seed={seed}"
        );
        assert!(counters.uptime.is_none_or(|uptime| 0.0 <= uptime), "seed={seed}");
    }
}
