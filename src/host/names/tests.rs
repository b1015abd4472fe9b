//! What is told, and by which names.

use super::{Teller, float, tell, whole_disk};
use crate::host::parse::Counters;
use crate::host::parse::tests::{CONTAINER, OLD_KERNEL, SPACE, VPS, at, raw, silent};
use crate::host::reading::Reading;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that was told, in order.
#[derive(Default)]
struct Told {
    families: Vec<(&'static str, &'static str, &'static str)>,
    samples: Vec<(&'static str, String, f64)>,
}

impl Teller for Told {
    fn family(&mut self, name: &'static str, kind: &'static str, help: &'static str) {
        self.families.push((name, kind, help));
    }

    fn sample(&mut self, labels: &str, value: f64) {
        let (name, _, _) = self.families.last().expect("a family comes before its samples");
        self.samples.push((name, labels.to_owned(), value));
    }
}

impl Told {
    fn value(&self, name: &str, labels: &str) -> Option<f64> {
        let found = self.samples.iter().find(|(its, with, _)| *its == name && with == labels);
        found.map(|(_, _, value)| *value)
    }

    fn labels(&self, name: &str) -> Vec<&str> {
        self.samples.iter().filter(|(its, _, _)| *its == name).map(|(_, it, _)| &**it).collect()
    }
}

fn told_of(before: Option<&Counters>, after: &Counters) -> Told {
    let mut told = Told::default();
    tell(after, &Reading::between(before, after), &mut told);
    told
}

/// What is told of the machine of a fixture in its second reading, ten seconds after the first.
fn told(fixture: &str) -> Told {
    let before = Counters::of(&raw(fixture));
    let mut after = Counters { now: at(110), ..before.clone() };
    if let Some(cpu) = &mut after.cpu {
        cpu.user += 5.0;
        cpu.idle += 15.0;
    }
    told_of(Some(&before), &after)
}

/// The names that `node_exporter` gives to what we tell, and their kinds: collector/fixtures/e2e-output.txt of its
/// repository. What it calls untyped (vmstat) is a counter here, because it is one.
const NODE: &[(&str, &str)] = &[
    ("node_boot_time_seconds", "gauge"),
    ("node_context_switches_total", "counter"),
    ("node_cpu_seconds_total", "counter"),
    ("node_disk_io_time_seconds_total", "counter"),
    ("node_disk_io_time_weighted_seconds_total", "counter"),
    ("node_disk_read_bytes_total", "counter"),
    ("node_disk_read_time_seconds_total", "counter"),
    ("node_disk_reads_completed_total", "counter"),
    ("node_disk_write_time_seconds_total", "counter"),
    ("node_disk_writes_completed_total", "counter"),
    ("node_disk_written_bytes_total", "counter"),
    ("node_filefd_allocated", "gauge"),
    ("node_filefd_maximum", "gauge"),
    ("node_filesystem_avail_bytes", "gauge"),
    ("node_filesystem_files", "gauge"),
    ("node_filesystem_files_free", "gauge"),
    ("node_filesystem_free_bytes", "gauge"),
    ("node_filesystem_readonly", "gauge"),
    ("node_filesystem_size_bytes", "gauge"),
    ("node_forks_total", "counter"),
    ("node_intr_total", "counter"),
    ("node_load1", "gauge"),
    ("node_load15", "gauge"),
    ("node_load5", "gauge"),
    ("node_memory_AnonPages_bytes", "gauge"),
    ("node_memory_Buffers_bytes", "gauge"),
    ("node_memory_Cached_bytes", "gauge"),
    ("node_memory_Dirty_bytes", "gauge"),
    ("node_memory_Mapped_bytes", "gauge"),
    ("node_memory_MemAvailable_bytes", "gauge"),
    ("node_memory_MemFree_bytes", "gauge"),
    ("node_memory_MemTotal_bytes", "gauge"),
    ("node_memory_SReclaimable_bytes", "gauge"),
    ("node_memory_Shmem_bytes", "gauge"),
    ("node_memory_Slab_bytes", "gauge"),
    ("node_memory_SwapCached_bytes", "gauge"),
    ("node_memory_SwapFree_bytes", "gauge"),
    ("node_memory_SwapTotal_bytes", "gauge"),
    ("node_memory_Writeback_bytes", "gauge"),
    ("node_network_receive_bytes_total", "counter"),
    ("node_network_receive_drop_total", "counter"),
    ("node_network_receive_errs_total", "counter"),
    ("node_network_receive_packets_total", "counter"),
    ("node_network_transmit_bytes_total", "counter"),
    ("node_network_transmit_drop_total", "counter"),
    ("node_network_transmit_errs_total", "counter"),
    ("node_network_transmit_packets_total", "counter"),
    ("node_pressure_cpu_waiting_seconds_total", "counter"),
    ("node_pressure_io_stalled_seconds_total", "counter"),
    ("node_pressure_io_waiting_seconds_total", "counter"),
    ("node_pressure_memory_stalled_seconds_total", "counter"),
    ("node_pressure_memory_waiting_seconds_total", "counter"),
    ("node_procs_blocked", "gauge"),
    ("node_procs_running", "gauge"),
    ("node_vmstat_oom_kill", "counter"),
    ("node_vmstat_pgfault", "counter"),
    ("node_vmstat_pgmajfault", "counter"),
    ("node_vmstat_pgpgin", "counter"),
    ("node_vmstat_pgpgout", "counter"),
    ("node_vmstat_pswpin", "counter"),
    ("node_vmstat_pswpout", "counter"),
];

#[test]
fn names_and_kinds_are_those_of_the_exporter_that_everybody_knows() {
    let told = told(VPS);
    let node: Vec<_> = told.families.iter().filter(|it| it.0.starts_with("node_")).collect();
    let names: BTreeMap<_, _> = node.iter().map(|(name, kind, _)| (*name, *kind)).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), NODE);
}

#[test]
fn each_family_comes_once_with_samples_of_which_each_comes_once() {
    for fixture in [VPS, CONTAINER, OLD_KERNEL] {
        let told = told(fixture);
        let mut seen = BTreeSet::new();
        for (name, kind, help) in &told.families {
            assert!(seen.insert(*name), "{name} comes twice");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{name}");
            assert!(name.starts_with("node_") || name.starts_with("server_"), "{name}");
            assert!(["gauge", "counter"].contains(kind), "{name} {kind}");
            let is_total = name.ends_with("_total") || name.starts_with("node_vmstat_");
            assert_eq!(is_total, *kind == "counter", "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
            assert!(!told.labels(name).is_empty(), "{name} has no sample");
        }
        let mut each = BTreeSet::new();
        for (name, labels, value) in &told.samples {
            assert!(each.insert((name, labels)), "{name}{{{labels}}} comes twice");
            assert!(value.is_finite(), "{name}{{{labels}}} {value}");
        }
    }
}

#[test]
fn a_small_machine_is_told_in_figures() {
    let told = told(VPS);
    let check = |name: &str, labels: &str, expected: f64| {
        let value = told.value(name, labels).unwrap_or_else(|| panic!("{name}{{{labels}}}"));
        assert!((value - expected).abs() <= 1e-6 * expected.abs(), "{name}{{{labels}}} {value}");
    };
    check("node_memory_MemTotal_bytes", "", 25_276_502_016.0);
    check("node_boot_time_seconds", "", 1_795_259_473.0);
    let root = "device=\"/dev/vda\",fstype=\"ext4\",mountpoint=\"/\"";
    check("node_filesystem_avail_bytes", root, float(SPACE.available_bytes));
    check("node_filesystem_readonly", root, 0.0);
    check("server_cpu_usage_percent", "", 25.0);
    check("server_cpu_idle_percent", "", 75.0);
    check("server_cpu_cores", "", 2.0);
    check("server_disk_usage_percent", "mountpoint=\"/\"", 200.0 / 3.0);
    check("server_disk_inodes_usage_percent", "mountpoint=\"/\"", 25.0);
    check("server_network_receive_bytes_per_second", "device=\"eth0\"", 0.0);
    check("server_memory_total_bytes", "", 25_276_502_016.0);
    let modes = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];
    let cpus: Vec<String> = ["0", "1"]
        .iter()
        .flat_map(|cpu| modes.map(|mode| format!("cpu=\"{cpu}\",mode=\"{mode}\"")))
        .collect();
    assert_eq!(told.labels("node_cpu_seconds_total"), cpus);
    assert_eq!(told.value("server_swap_usage_percent", ""), None, "there is no swap");
    assert_eq!(told.value("server_swap_total_bytes", ""), Some(0.0));
}

#[test]
fn what_was_not_read_is_not_told() {
    let nothing = told_of(None, &Counters::of(&silent()));
    assert_eq!((nothing.families.len(), nothing.samples.len()), (0, 0));
    let first = told_of(None, &Counters::of(&raw(VPS)));
    for family in first.families.iter().map(|(name, _, _)| *name) {
        assert!(
            !family.ends_with("_per_second") && family != "server_cpu_usage_percent",
            "{family}"
        );
    }
    let old = told(OLD_KERNEL);
    let absent = |told: &Told, word: &str| told.families.iter().all(|it| !it.0.contains(word));
    assert!(absent(&old, "pressure") && absent(&old, "oom_kill") && absent(&old, "MemAvailable"));
    assert!(old.value("server_memory_available_bytes", "").is_some(), "by the formula");
}

#[test]
fn parts_of_disks_are_counted_with_their_disk() {
    let devices = |fixture: &str| -> Vec<String> {
        told(fixture).labels("node_disk_read_bytes_total").iter().map(|&it| it.to_owned()).collect()
    };
    let all = ["dm-0", "dm-1", "sda", "sr0"].map(|name| format!("device=\"{name}\""));
    assert_eq!(devices(OLD_KERNEL), all);
    assert_eq!(devices(CONTAINER), ["device=\"vda\""]);
    assert_eq!(whole_disk("sda1"), Some("sda"));
    assert_eq!(whole_disk("nvme0n1p12"), Some("nvme0n1"));
    assert_eq!(whole_disk("mmcblk0p1"), Some("mmcblk0"));
    assert_eq!(whole_disk("sda"), None);
    // A machine of some clouds has this one without the disk it would be a part of.
    let mut raw = raw(VPS);
    raw.texts.diskstats = raw.texts.diskstats.map(|text| text.replace("vda", "xvda1"));
    let told = told_of(None, &Counters::of(&raw));
    assert_eq!(told.labels("node_disk_read_bytes_total"), ["device=\"xvda1\""]);
}

#[test]
fn labels_are_escaped() {
    let mut raw = raw(VPS);
    raw.mounted[0].mount.path = "/a\\b\"c\nd".to_owned();
    let told = told_of(None, &Counters::of(&raw));
    assert_eq!(told.labels("server_disk_total_bytes"), ["mountpoint=\"/a\\\\b\\\"c\\nd\""]);
}

#[test]
fn there_is_an_end_to_devices() {
    let mut raw = raw(VPS);
    let lines = |line: &dyn Fn(u32) -> String| Some((0..100).map(line).collect::<String>());
    raw.texts.stat = lines(&|n| format!("cpu{n} 1 1 1 1 1 1 1 1 0 0\n"));
    raw.texts.net_dev = lines(&|n| format!("e{n:03}|: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"));
    raw.texts.diskstats = lines(&|n| format!("8 {n} d{n:03}x 1 1 1 1 1 1 1 1 1 1 1\n"));
    let before = Counters::of(&raw);
    let told = told_of(Some(&before), &Counters { now: at(110), ..before.clone() });
    assert_eq!(told.labels("node_cpu_seconds_total").len(), 64 * 8);
    for name in [
        "node_network_receive_bytes_total",
        "server_network_receive_bytes_per_second",
        "node_disk_read_bytes_total",
    ] {
        assert_eq!(told.labels(name).len(), 64, "{name}");
    }
}

#[test]
fn interfaces_of_containers_come_and_go_and_are_no_series() {
    let names = ["veth12ab", "cali0f", "vnet3", "br-0123456789ab", "wlan0", "br-lan", "docker0"];
    let lines = names.map(|name| format!("{name}: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"));
    let net = format!("Inter-|   Receive\n face |bytes\n{}", lines.concat());
    let mut raw = raw(VPS);
    raw.texts.net_dev = Some(net);
    let before = Counters::of(&raw);
    let after = Counters { now: at(110), ..before.clone() };
    let reading = Reading::between(Some(&before), &after);
    assert_eq!(reading.network.map(|all| all.len()), Some(names.len()), "they are shown");
    let told = told_of(Some(&before), &after);
    let lasting = [r#"device="br-lan""#, r#"device="docker0""#, r#"device="wlan0""#];
    assert_eq!(told.labels("node_network_receive_bytes_total"), lasting);
    assert_eq!(told.labels("server_network_receive_bytes_per_second"), lasting);
}
