//! What lies between two moments.
#![expect(
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "amounts of tests are small, and what is exact is compared exactly"
)]

use super::{Cpu, Reading};
use crate::base::rng::Rng;
use crate::base::time::{Mono, Now, Timestamp};
use crate::host::mounts::Mount;
use crate::host::parse::tests::{CONTAINER, OLD_KERNEL, OWN, SPACE, VPS, at, raw, silent};
use crate::host::parse::{Counters, CpuTime, DiskCounters, NetCounters};
use crate::host::raw::{Mounted, Own, Space};
use crate::testing::seeds;

/// The machine of a fixture, and the same ten seconds later.
fn pair(fixture: &str) -> (Counters, Counters) {
    let before = Counters::of(&raw(fixture));
    let after = Counters { now: at(110), ..before.clone() };
    (before, after)
}

fn near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= 1e-9 * expected.abs().max(1.0)
}

fn parts(cpu: &Cpu) -> [f64; 5] {
    [cpu.user, cpu.system, cpu.iowait, cpu.steal, cpu.idle]
}

/// What the processors did when these seconds were added to what they had.
fn cpu_of(add: CpuTime) -> Option<Cpu> {
    let (before, mut after) = pair(VPS);
    let had = before.cpu.unwrap();
    after.cpu = Some(CpuTime {
        user: had.user + add.user,
        nice: had.nice + add.nice,
        system: had.system + add.system,
        idle: had.idle + add.idle,
        iowait: had.iowait + add.iowait,
        irq: had.irq + add.irq,
        softirq: had.softirq + add.softirq,
        steal: had.steal + add.steal,
    });
    Reading::between(Some(&before), &after).cpu
}

#[test]
fn processors_are_told_in_percent_of_the_interval() {
    let add = CpuTime {
        user: 3.0,
        nice: 1.0,
        system: 2.0,
        idle: 10.0,
        iowait: 1.0,
        irq: 0.5,
        softirq: 0.5,
        steal: 2.0,
    };
    let cpu = cpu_of(add).unwrap();
    for (value, expected) in parts(&cpu).iter().zip([20.0, 15.0, 5.0, 10.0, 50.0]) {
        assert!((value - expected).abs() < 1e-6, "{cpu:?}");
    }
    assert!((cpu.usage - 45.0).abs() < 1e-6 && (cpu.busy - 35.0).abs() < 1e-6, "{cpu:?}");
}

#[test]
fn what_guests_took_is_not_counted_twice() {
    let stat =
        |user: u64, idle: u64, guest: u64| format!("cpu  {user} 0 100 {idle} 0 0 0 0 {guest} 0\n");
    let counters = |seconds: u64, text: String| {
        let mut raw = raw(VPS);
        raw.now = at(seconds);
        raw.texts.stat = Some(text);
        Counters::of(&raw)
    };
    let (before, after) = (counters(0, stat(0, 0, 0)), counters(10, stat(600, 400, 600)));
    let cpu = Reading::between(Some(&before), &after).cpu.unwrap();
    assert!(near(cpu.user, 60.0) && near(cpu.idle, 40.0), "{cpu:?}");
}

#[test]
fn times_that_go_back_never_make_a_share_negative() {
    let idle = CpuTime { idle: 10.0, ..CpuTime::default() };
    let cpu = cpu_of(CpuTime { iowait: -3.0, ..idle }).unwrap();
    assert!(near(cpu.iowait, 0.0) && near(cpu.idle, 100.0), "{cpu:?}");
    let cpu = cpu_of(CpuTime { steal: -3.0, ..idle }).unwrap();
    assert!(near(cpu.usage, 0.0) && near(cpu.idle, 100.0), "{cpu:?}");
    let cpu = cpu_of(CpuTime { idle: -1.0, user: 5.0, ..idle }).unwrap();
    assert!(near(cpu.user, 100.0) && near(cpu.idle, 0.0), "{cpu:?}");
    // What programs took does not go back: these are other counters.
    assert_eq!(cpu_of(CpuTime { user: -1.0, ..idle }), None);
    assert_eq!(cpu_of(CpuTime { softirq: -1.0, ..idle }), None);
    assert_eq!(cpu_of(CpuTime::default()), None, "nothing was counted");
}

#[test]
fn the_first_reading_has_no_rates_and_lacks_nothing() {
    let reading = Reading::between(None, &Counters::of(&raw(VPS)));
    assert_eq!((reading.interval_ms, reading.cpu, reading.own_cpu), (None, None, None));
    assert_eq!(reading.unavailable, [""; 0], "what comes later is not unavailable");
    assert!(reading.memory.is_some() && reading.load.is_some());
    assert_eq!((reading.cores, reading.usable_cores), (Some(2), Some(2.0)));
    let disk = &reading.disks.unwrap()[0];
    assert_eq!((disk.read, disk.written, disk.busy), (None, None, None));
    assert!(disk.usage.is_some());
    let network = reading.network.unwrap();
    assert_eq!(network.len(), 4);
    assert!(network.iter().all(|it| it.bytes.is_none() && it.drops.is_none()));
    assert_eq!(reading.booted, Timestamp::from_unix_ms(1_795_259_473_000));
}

#[test]
fn the_interval_is_that_of_the_stop_watch() {
    let (before, mut after) = pair(VPS);
    after.now = Now { wall: at(100_000).wall, mono: Mono::from_ns(104_000_000_000) };
    after.network.as_mut().unwrap().get_mut("eth0").unwrap().bytes[0] += 4000;
    let reading = Reading::between(Some(&before), &after);
    assert_eq!(reading.interval_ms, Some(4000));
    let eth0 = reading.network.unwrap().into_iter().find(|it| it.interface == "eth0").unwrap();
    assert_eq!(eth0.bytes, Some([1000.0, 0.0]));
    // No time, or less than none, gives no rates.
    for ns in [100_000_000_000, 100_000_999_999, 1] {
        after.now.mono = Mono::from_ns(ns);
        let reading = Reading::between(Some(&before), &after);
        assert_eq!((reading.interval_ms, reading.own_cpu), (None, None), "{ns}");
        assert!(reading.network.unwrap().iter().all(|it| it.bytes.is_none()), "{ns}");
        assert_eq!(reading.unavailable, [""; 0], "{ns}");
    }
}

#[test]
fn a_counter_that_went_back_has_no_rate_and_the_others_have() {
    let (mut before, mut after) = pair(OLD_KERNEL);
    let eth0 = after.network.as_mut().unwrap().get_mut("eth0").unwrap();
    *eth0 = NetCounters {
        bytes: [4, eth0.bytes[1] + 100],
        packets: [eth0.packets[0] + 50, eth0.packets[1]],
        ..*eth0
    };
    before.network.as_mut().unwrap().remove("lo");
    let disk = after.disks.as_mut().unwrap().get_mut("dm-0").unwrap();
    *disk = DiskCounters {
        read_bytes: 0,
        written_bytes: disk.written_bytes + 5120,
        busy_seconds: disk.busy_seconds + 2.5,
        ..*disk
    };
    let reading = Reading::between(Some(&before), &after);
    let network = reading.network.unwrap();
    let of = |name: &str| network.iter().find(|it| it.interface == name).unwrap();
    assert_eq!((of("eth0").bytes, of("eth0").packets), (None, Some([5.0, 0.0])));
    assert_eq!(of("lo").bytes, None, "it has just come");
    assert_eq!(of("eth0:1").bytes, Some([0.0, 0.0]));
    let root = &reading.disks.unwrap()[0];
    assert_eq!((root.read, root.written, root.busy), (None, Some(512.0), Some(25.0)));
}

#[test]
fn a_device_is_never_busy_for_longer_than_there_was_time() {
    let (before, mut after) = pair(VPS);
    after.disks.as_mut().unwrap().get_mut("vda").unwrap().busy_seconds += 10.2;
    assert_eq!(Reading::between(Some(&before), &after).disks.unwrap()[0].busy, Some(100.0));
}

#[test]
fn a_disk_is_as_full_as_df_says() {
    let (before, mut after) = pair(VPS);
    let space = |total_bytes, free_bytes, available_bytes| Space {
        total_bytes,
        free_bytes,
        available_bytes,
        inodes: 0,
        inodes_free: 0,
    };
    let mut full = |space| {
        after.mounted.as_mut().unwrap()[0].space = Some(space);
        let disk = Reading::between(Some(&before), &after).disks.unwrap().remove(0);
        (disk.used.unwrap(), disk.usage, disk.inodes_usage)
    };
    // 6 of 10 are used, 3 may be had, one is the administrator's: 6 of 9.
    let (used, usage, inodes) = full(SPACE);
    assert_eq!((used, inodes), (6 << 30, Some(25.0)));
    assert!(near(usage.unwrap(), 200.0 / 3.0), "{usage:?}");
    assert_eq!(
        full(space(100, 5, 0)),
        (95, Some(100.0), None),
        "full for all but the administrator"
    );
    assert_eq!(full(space(100, 100, 90)), (0, Some(0.0), None));
    assert_eq!(
        full(space(100, 200, 0)),
        (0, None, None),
        "more free than there is: none of nothing"
    );
    assert_eq!(full(space(u64::MAX, 0, u64::MAX)).1, Some(100.0));
}

#[test]
fn a_disk_that_cannot_be_asked_is_named_and_one_without_a_device_of_its_own_is_not() {
    let mut raw = raw(VPS);
    let mount = |path: &str, kind: &str, number: &str| Mount {
        path: path.to_owned(),
        device: "/dev/sda1".to_owned(),
        kind: kind.to_owned(),
        read_only: false,
        number: number.to_owned(),
    };
    raw.mounted.push(Mounted { mount: mount("/home", "btrfs", "0:31"), space: Some(SPACE) });
    raw.mounted.push(Mounted { mount: mount("/srv", "ext4", "8:1"), space: None });
    let before = Counters::of(&raw);
    let after = Counters { now: at(110), ..before.clone() };
    let reading = Reading::between(Some(&before), &after);
    assert_eq!(reading.unavailable, ["disk:/srv"]);
    let disks = reading.disks.unwrap();
    assert_eq!((disks[1].read, disks[1].busy), (None, None), "it may lie on several devices");
    assert!(disks[1].usage.is_some());
    assert_eq!((disks[2].used, disks[2].usage, disks[2].space), (None, None, None));
}

#[test]
fn memory_is_what_is_not_available() {
    let (_, counters) = pair(VPS);
    let told = |change: &dyn Fn(&mut Counters)| {
        let mut counters = counters.clone();
        change(&mut counters);
        Reading::between(None, &counters).memory
    };
    let set = |name: &'static str, bytes: u64| {
        move |counters: &mut Counters| {
            counters.memory.as_mut().unwrap().insert(name.to_owned(), bytes);
        }
    };
    let memory = told(&|_| ()).unwrap();
    assert_eq!(memory.used, memory.total - memory.available);
    assert!(near(memory.usage, 100.0 * memory.used as f64 / memory.total as f64), "{memory:?}");
    let memory = told(&set("MemAvailable", u64::MAX)).unwrap();
    assert_eq!((memory.available, memory.used, memory.usage), (memory.total, 0, 0.0));
    assert_eq!(told(&set("MemAvailable", 0)).unwrap().usage, 100.0);
    assert_eq!(told(&set("MemTotal", 0)), None);
}

#[test]
fn kernels_that_do_not_say_what_is_available_get_the_formula_of_later_ones() {
    let counters = Counters::of(&raw(OLD_KERNEL));
    let memory = Reading::between(None, &counters).memory.unwrap();
    // sqrt(16 * 1914420) = 5534 KiB of reserve, five quarters of it: 6917.5 KiB.
    let kib = 231_116.0 - 6917.5 + (505_768.0 + 516_304.0 - 6917.5) + (184_532.0 - 6917.5);
    assert_eq!(memory.available as f64, kib * 1024.0);
    let mut without = counters.clone();
    without.memory.as_mut().unwrap().remove("Inactive(file)");
    let reading = Reading::between(None, &without);
    assert_eq!(reading.memory, None);
    assert!(reading.unavailable.contains(&"memory".to_owned()));
}

#[test]
fn a_machine_without_swap_lacks_nothing() {
    let (before, after) = pair(VPS);
    let swap = Reading::between(Some(&before), &after).swap.unwrap();
    assert_eq!((swap.total, swap.used, swap.usage), (0, 0, None));
    let (before, mut after) = pair(CONTAINER);
    *after.vm.as_mut().unwrap().get_mut("pswpout").unwrap() += 50;
    let reading = Reading::between(Some(&before), &after);
    let swap = reading.swap.unwrap();
    assert_eq!((swap.used, swap.usage), ((1_048_572 - 786_429) << 10, Some(25.0)));
    assert_eq!((swap.read, swap.written), (Some(0.0), Some(50.0 * 4096.0 / 10.0)));
    assert_eq!(reading.swapped_out, Some(35_095 * 4096));
    assert_eq!(reading.oom_kills, Some(2));
}

#[test]
fn processors_are_as_many_as_we_may_use() {
    let (_, mut counters) = pair(VPS);
    for (quota, expected) in [(None, 2.0), (Some(0.5), 0.5), (Some(16.0), 2.0)] {
        counters.quota_cores = quota;
        let reading = Reading::between(None, &counters);
        assert_eq!((reading.cores, reading.usable_cores), (Some(2), Some(expected)), "{quota:?}");
    }
}

#[test]
fn our_own_share_is_of_one_processor() {
    let (before, mut after) = pair(VPS);
    after.own = Own { cpu_seconds: Some(6.5), ..OWN };
    assert_eq!(Reading::between(Some(&before), &after).own_cpu, Some(50.0));
    after.own.cpu_seconds = Some(1.0);
    assert_eq!(Reading::between(Some(&before), &after).own_cpu, None);
    after.own.cpu_seconds = None;
    let reading = Reading::between(Some(&before), &after);
    assert_eq!((reading.own_cpu, &*reading.unavailable), (None, &["process".to_owned()][..]));
}

#[test]
fn what_cannot_be_read_is_listed_in_order() {
    let reading = Reading::between(None, &Counters::of(&silent()));
    let all = [
        "cpu",
        "load",
        "memory",
        "swap",
        "disks",
        "network",
        "pressure_cpu",
        "pressure_memory",
        "pressure_io",
        "oom_kills",
        "files",
        "uptime",
        "process",
    ];
    assert_eq!(reading.unavailable, all);
    assert!(reading.disks.is_none() && reading.cores.is_none() && reading.booted.is_none());
    let old = Reading::between(None, &Counters::of(&raw(OLD_KERNEL)));
    let missing = ["pressure_cpu", "pressure_memory", "pressure_io", "oom_kills"];
    assert_eq!(old.unavailable, missing);
    // Where no file system counts, nobody looks after any.
    let mut none = raw(VPS);
    none.mounted.clear();
    assert_eq!(Reading::between(None, &Counters::of(&none)).unavailable, ["disks"]);
}

#[test]
fn whatever_is_counted_shares_are_shares() {
    for seed in seeds(300) {
        let mut rng = Rng::from_seed(seed);
        let mut time = |most: u64| {
            let mut next = || rng.below(most) as f64 / 100.0;
            CpuTime {
                user: next(),
                nice: next(),
                system: next(),
                idle: next(),
                iowait: next(),
                irq: next(),
                softirq: next(),
                steal: next(),
            }
        };
        let (mut before, mut after) = pair(CONTAINER);
        let (a, b) = (time(1000), time(3000));
        (before.cpu, after.cpu) = (Some(a), Some(b));
        let mut any = || if rng.below(4) == 0 { rng.next_u64() } else { rng.below(1 << 40) };
        for counters in [&mut before, &mut after] {
            for (_, disk) in counters.disks.iter_mut().flatten() {
                (disk.read_bytes, disk.written_bytes) = (any(), any());
            }
            for mounted in counters.mounted.iter_mut().flatten() {
                mounted.space = Some(Space {
                    total_bytes: any(),
                    free_bytes: any(),
                    available_bytes: any(),
                    inodes: any(),
                    inodes_free: any(),
                });
            }
            for (_, bytes) in counters.memory.iter_mut().flatten() {
                *bytes = any();
            }
        }
        let reading = Reading::between(Some(&before), &after);
        let disks = reading.disks.iter().flatten();
        let shares = disks.flat_map(|it| [it.usage, it.inodes_usage, it.busy]);
        let shares = shares.chain([
            reading.memory.as_ref().map(|it| it.usage),
            reading.swap.and_then(|it| it.usage),
        ]);
        let cpu = reading.cpu.map(|cpu| parts(&cpu));
        let shares: Vec<f64> = shares.flatten().chain(cpu.into_iter().flatten()).collect();
        assert!(shares.iter().all(|it| (0.0..=100.0).contains(it)), "seed={seed} {shares:?}");
        let sum = cpu.map_or(100.0, |cpu| cpu.iter().sum());
        assert!(near(sum, 100.0), "seed={seed} {sum}");
        let rates = reading.disks.iter().flatten().flat_map(|it| [it.read, it.written]).flatten();
        assert!(rates.into_iter().all(|it| it.is_finite() && 0.0 <= it), "seed={seed}");
    }
}
