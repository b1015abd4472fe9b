//! What is read of this machine, against what its files and its tools say, while it is made to work.
//!
//! Others use the machine meanwhile: what moves is looked at again until it is as it should be, for a minute or so, and
//! amounts are made large against what a quiet machine does by itself.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use holdfast::app::outside::Machine as _;
use holdfast::base::time::Clock as _;
use holdfast::host::mounts::chosen;
use holdfast::host::parse::Counters;
use holdfast::host::reading::{Disk, Reading};
use holdfast::io::host::SystemMachine;
use holdfast::testing::clock::SystemClock;
use holdfast::testing::text_from_environment;

use crate::support::wait_until;

/// How often something is looked at before it is not so.
const LOOKS: u32 = 60;

/// Looks until there is something to be seen.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    panic!("not seen in {LOOKS} looks: {what}");
}

/// Looks until it is so.
fn wait_so(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// This machine, and its clock.
struct Machine {
    machine: SystemMachine,
    clock: SystemClock,
}

impl Machine {
    fn new() -> Machine {
        Machine { machine: SystemMachine::new(), clock: SystemClock::new() }
    }

    fn counters(&self) -> Counters {
        Counters::of(&self.machine.read(self.clock.now()))
    }

    /// What the time since `before` was, when it was at least so long.
    fn since(&self, before: &Counters, least: Duration) -> Reading {
        wait_until("time passes", || least <= self.clock.now().mono.since(before.now.mono));
        Reading::between(Some(before), &self.counters())
    }

    fn first(&self) -> Reading {
        Reading::between(None, &self.counters())
    }
}

/// A text of `/proc`.
fn proc(name: &str) -> String {
    fs::read_to_string(Path::new("/proc").join(name)).unwrap()
}

/// The words of the line that begins with `name`.
fn words(text: &str, name: &str) -> Vec<u64> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect()
}

/// What a tool says.
fn said(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "amounts of a test")]
fn float(number: u64) -> f64 {
    number as f64
}

/// Rates in amounts of the whole interval.
fn amount(rate: f64, reading: &Reading) -> f64 {
    rate * float(reading.interval_ms.unwrap()) / 1000.0
}

#[test]
fn what_programs_do_is_seen_in_the_time_of_the_processors() {
    let machine = Machine::new();
    let cores = machine.first().cores.unwrap();
    let text = proc("stat");
    let counted = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    assert_eq!(counted.count(), usize::try_from(cores).unwrap());
    let done = AtomicBool::new(false);
    #[expect(clippy::disallowed_methods, reason = "somebody has to work")]
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // While every processor has something to do, none is idle: whoever else is there.
        let busy = || {
            let before = machine.counters();
            let reading = machine.since(&before, Duration::from_millis(400));
            let cpu = reading.cpu?;
            let seen = 90.0 < cpu.usage && cpu.idle < 10.0 && 5.0 < reading.own_cpu?;
            seen.then_some(cpu)
        };
        let cpu = wait_for("processors are busy", busy);
        done.store(true, Relaxed);
        let sum = cpu.user + cpu.system + cpu.iowait + cpu.steal + cpu.idle;
        assert!((sum - 100.0).abs() < 1e-6, "{cpu:?}");
    });
    // And the counters are those of the file.
    let ticks = |text: &str| words(text, "cpu");
    let (before, counters, after) = (proc("stat"), machine.counters(), proc("stat"));
    let cpu = counters.cpu.unwrap();
    for (at, seconds) in [(0, cpu.user), (1, cpu.nice), (2, cpu.system), (7, cpu.steal)] {
        let (least, most) = (float(ticks(&before)[at]), float(ticks(&after)[at]));
        assert!(
            (least..=most).contains(&(seconds * 100.0).round()),
            "{at}: {least} {seconds} {most}"
        );
    }
}

#[test]
fn memory_that_is_taken_is_seen() {
    const BYTES: u64 = 200 << 20;
    let machine = Machine::new();
    let taken_and_seen = || {
        let (before, own_before) = (machine.first().memory?, machine.first().own.resident_bytes?);
        let mut block = vec![1_u8; usize::try_from(BYTES).unwrap()];
        for page in block.chunks_mut(4096) {
            page[0] = 2;
        }
        let (after, own_after) = (machine.first().memory?, machine.first().own.resident_bytes?);
        assert_eq!(
            block.iter().step_by(4096).map(|&byte| u64::from(byte)).sum::<u64>(),
            2 * (BYTES / 4096)
        );
        drop(block);
        let moved = float(after.used) - float(before.used);
        let own = float(own_after) - float(own_before);
        let near = |bytes: f64| (0.5 * float(BYTES)..1.5 * float(BYTES)).contains(&bytes);
        let percent = after.usage - before.usage;
        let as_many = (percent / 100.0 * float(after.total) - moved).abs() < 1e6;
        (near(moved) && near(own) && as_many).then_some(())
    };
    wait_for("memory is in use", taken_and_seen);
    let (text, memory) = (proc("meminfo"), machine.first().memory.unwrap());
    let bytes = |name: &str| words(&text, name)[0] * 1024;
    assert_eq!(memory.total, bytes("MemTotal:"));
    assert!(memory.available <= memory.total && memory.used == memory.total - memory.available);
    wait_so("memory is what the file says", || {
        let (text, memory) = (proc("meminfo"), machine.first().memory.unwrap());
        let apart = |said: u64, name: &str| said.abs_diff(words(&text, name)[0] * 1024);
        apart(memory.available, "MemAvailable:") < 32 << 20
            && memory.free.is_some_and(|free| apart(free, "MemFree:") < 32 << 20)
            && memory.cached.is_some_and(|cached| apart(cached, "Cached:") < 32 << 20)
            && memory.buffers.is_some_and(|buffers| apart(buffers, "Buffers:") < 32 << 20)
    });
    let swap = machine.first().swap.unwrap();
    assert_eq!(swap.total, bytes("SwapTotal:"));
    assert_eq!(swap.usage.is_none(), swap.total == 0);
}

/// The disk that holds `folder`.
fn disk_of<'r>(reading: &'r Reading, folder: &Path) -> Option<&'r Disk> {
    let device = fs::metadata(folder).unwrap().dev();
    let same = |disk: &&Disk| fs::metadata(&disk.mount.path).is_ok_and(|it| it.dev() == device);
    reading.disks.as_ref()?.iter().find(same)
}

#[test]
fn what_is_written_is_seen_on_its_disk() {
    const BYTES: u64 = 64 << 20;
    let machine = Machine::new();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let first = machine.first();
    let Some(disk) = disk_of(&first, folder.path()) else {
        // A build on a network or in memory: no disk of this machine is there to be written to.
        let kinds = chosen(&proc("self/mountinfo"), &|_| true);
        println!("no disk is below {}: {kinds:?}", folder.path().display());
        assert!(kinds.iter().all(|mount| fs::metadata(&mount.path).is_ok()));
        return;
    };
    let has_device = machine.counters().disk_numbers.contains_key(&disk.mount.number);
    let written_and_seen = || {
        let (before, first) = (machine.counters(), machine.first());
        let path = folder.path().join("file");
        let mut file = File::create(&path).unwrap();
        for n in 0..BYTES >> 20 {
            // Nothing that a file system could make smaller.
            let mut rng = holdfast::base::rng::Rng::from_seed(n);
            file.write_all(&rng.bytes(1 << 20)).unwrap();
        }
        file.sync_all().unwrap();
        let reading = machine.since(&before, Duration::from_millis(10));
        fs::remove_file(&path).unwrap();
        let (old, new) = (disk_of(&first, folder.path())?, disk_of(&reading, folder.path())?);
        let grown = float(new.used?) - float(old.used?);
        let rate = new.written.map(|rate| amount(rate, &reading));
        let arrived = rate.is_none_or(|bytes| 0.9 * float(BYTES) < bytes);
        assert_eq!(rate.is_some(), has_device, "{new:?}");
        assert!(!has_device || new.busy.is_some_and(|busy| 0.0 < busy), "{new:?}");
        (0.5 * float(BYTES) < grown && arrived).then_some(())
    };
    wait_for("a file is on its disk", written_and_seen);
}

/// A line of `df -P`: device, total, used, available, share in percent, path.
fn df(arguments: &[&str]) -> Vec<(String, [u64; 3], Option<u64>, String)> {
    let text = said("df", arguments);
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let device = words.next()?.to_owned();
        let amounts = [(); 3].map(|()| words.next().and_then(|word| word.parse().ok()));
        let [Some(total), Some(used), Some(available)] = amounts else { return None };
        let share = words.next()?.trim_end_matches('%').parse().ok();
        Some((device, [total, used, available], share, words.collect::<Vec<_>>().join(" ")))
    };
    text.lines().skip(1).filter_map(line).collect()
}

#[test]
fn disks_are_as_df_lists_them() {
    let machine = Machine::new();
    let near = |said: u64, read: u64| said.abs_diff(read) <= (64 << 20);
    let problem = || -> Option<String> {
        let (space, inodes) = (df(&["-l", "-P", "-B1"]), df(&["-l", "-P", "-i"]));
        let reading = machine.first();
        let disks = reading.disks.unwrap();
        assert!(!disks.is_empty());
        for disk in &disks {
            let path = &disk.mount.path;
            let own = disk.space?;
            let line = space.iter().find(|line| line.3 == *path)?;
            let [total, used, available] = line.1;
            assert_eq!((total, &line.0), (own.total_bytes, &disk.mount.device), "{path}");
            let share = line.2?;
            let is_share =
                disk.usage.is_some_and(|usage| (usage.ceil() - float(share)).abs() <= 1.0);
            if !near(used, disk.used?) || !near(available, own.available_bytes) || !is_share {
                return Some(format!("{line:?} {disk:?}"));
            }
            let Some((_, [all, taken, _], _, _)) = inodes.iter().find(|line| line.3 == *path)
            else {
                assert_eq!(disk.inodes_usage, None, "{path}");
                continue;
            };
            if *all != own.inodes || (own.inodes - own.inodes_free).abs_diff(*taken) > 10_000 {
                return Some(format!("{taken} of {all} {disk:?}"));
            }
        }
        None
    };
    wait_so("df says the same", || problem().is_none());
    // Every disk that df lists is there, under this path or another.
    let disks = machine.first().disks.unwrap();
    for (device, _, _, path) in df(&["-l", "-P", "-B1", "-x", "squashfs", "-x", "iso9660"]) {
        let is_disk = device.starts_with("/dev/") && !device.starts_with("/dev/loop");
        let layered = disks[0].mount.kind == "overlay";
        let listed = disks.iter().any(|disk| disk.mount.device == device);
        assert!(!is_disk || layered || listed, "{device} at {path} is missing");
    }
}

#[test]
fn what_goes_through_an_interface_is_seen() {
    const BYTES: u64 = 8 << 20;
    let machine = Machine::new();
    let before = machine.counters();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let piece = vec![7_u8; 64 << 10];
    let mut read = vec![0_u8; piece.len()];
    for _ in 0..BYTES / piece.len() as u64 {
        sender.write_all(&piece).unwrap();
        receiver.read_exact(&mut read).unwrap();
    }
    let reading = machine.since(&before, Duration::from_millis(20));
    let interfaces = reading.network.as_ref().unwrap();
    let lo = interfaces.iter().find(|it| it.interface == "lo").unwrap();
    for rate in lo.bytes.unwrap() {
        // The interval is told in whole milliseconds.
        assert!(0.9 * float(BYTES) < amount(rate, &reading), "{lo:?}");
    }
    assert!(lo.packets.unwrap().iter().all(|rate| 0.0 < *rate), "{lo:?}");
    let text = proc("net/dev");
    let names = text.lines().filter_map(|line| Some(line.rsplit_once(':')?.0.trim()));
    assert!(
        names.eq(interfaces.iter().map(|it| &*it.interface)) || {
            let mut names: Vec<_> =
                text.lines().filter_map(|line| Some(line.rsplit_once(':')?.0.trim())).collect();
            names.sort_unstable();
            interfaces.iter().map(|it| &*it.interface).eq(names)
        }
    );
}

#[test]
fn uptime_load_and_descriptors_are_those_of_the_files() {
    let machine = Machine::new();
    let number = |text: String| -> f64 { text.split_whitespace().next().unwrap().parse().unwrap() };
    let before = number(proc("uptime"));
    let reading = machine.first();
    let after = number(proc("uptime"));
    let uptime = reading.uptime.unwrap();
    assert!((before..=after).contains(&uptime), "{before} {uptime} {after}");
    let booted = float(u64::try_from(reading.booted.unwrap().unix_ms()).unwrap()) / 1000.0;
    let now = float(u64::try_from(reading.now.wall.unix_ms()).unwrap()) / 1000.0;
    assert!((now - uptime - booted).abs() < 5.0, "{now} {uptime} {booted}");
    wait_so("the load is that of the file", || {
        let (before, load, after) =
            (proc("loadavg"), machine.first().load.unwrap(), proc("loadavg"));
        let words: Vec<f64> = before.split(' ').take(3).map(|word| word.parse().unwrap()).collect();
        before == after && words == load
    });
    let (open, most) = reading.files.unwrap();
    assert!(0 < open && open <= most);
    // A file that is opened is one more: of the machine, and of this process.
    wait_so("open files are counted", || {
        let before = machine.first().own.descriptors.unwrap();
        let files: Vec<File> = (0..200).map(|_| File::open("/proc/self/stat").unwrap()).collect();
        let after = machine.first().own.descriptors.unwrap();
        let listed = fs::read_dir("/proc/self/fd").unwrap().count();
        drop(files);
        // Other tests of this process open and close some, too.
        (before + 150..before + 250).contains(&after)
            && listed.abs_diff(usize::try_from(after).unwrap()) < 30
    });
    for (name, at) in [("cpu", 0), ("memory", 1), ("io", 2)] {
        let is_there = fs::read_to_string(format!("/proc/pressure/{name}")).is_ok();
        assert_eq!(reading.pressure[at].is_some(), is_there, "{name}");
    }
}

/// Set for the child that reads inside of the sandbox.
const INSIDE: &str = "HOLDFAST_READ_INSIDE";
/// What the child's lines begin with.
const MARK: &str = "reading: ";

/// What has to be the same inside and outside: one line for each thing.
fn standing(machine: &Machine) -> Vec<String> {
    let reading = machine.first();
    let mut lines = vec![
        format!("{:?} cores", reading.cores),
        format!("{:?} bytes of memory", reading.memory.map(|memory| memory.total)),
        format!("{:?} bytes of swap", reading.swap.map(|swap| swap.total)),
        format!("unavailable: {:?}", reading.unavailable),
    ];
    lines.extend(reading.network.iter().flatten().map(|it| it.interface.clone()));
    for disk in reading.disks.iter().flatten() {
        let space = disk.space.unwrap();
        let size = (space.total_bytes, space.inodes, disk.usage.unwrap().round());
        lines.push(format!("{:?} {size:?}", disk.mount));
    }
    lines
}

/// The child. Started by hand it reads twice, and the same.
#[test]
fn what_stands_is_read_alike_each_time() {
    let machine = Machine::new();
    if text_from_environment(INSIDE).is_some() {
        for line in standing(&machine) {
            println!("{MARK}{line}");
        }
        return;
    }
    wait_so("two readings are alike", || standing(&machine) == standing(&machine));
}

/// What systemd does for the lines of packaging/systemd/holdfast.service, as far as it can be done without it. `$0` is a
/// folder of its own; the rest is run inside.
const SANDBOX: &str = r#"
set -e
mount --make-rslave /
mkdir -p "$0/private" "$0/state" "$0/hidden"
# PrivateTmp, of which one will do: the test itself may lie in the other.
mount --bind "$0/private" /var/tmp
# StateDirectory and ReadWritePaths.
mount --bind "$0/state" "$0/state"
# ProtectHome=read-only, ProtectSystem=strict.
for folder in /home /root /usr /etc; do
    if [ -d "$folder" ]; then
        mount --rbind "$folder" "$folder"
        mount -o remount,bind,ro "$folder"
    fi
done
# What may be run, and what is hidden: single files, and an empty file system upon a folder.
: > "$0/hidden/sh"
mount --bind /bin/sh "$0/hidden/sh"
if [ -f /etc/hostname ]; then
    mount --bind /etc/hostname /etc/hostname
fi
mount -t tmpfs -o size=64k tmpfs /mnt
# PrivateDevices.
mount -t tmpfs -o size=4m tmpfs /dev/shm
mount -o remount,bind,ro /
exec "$@"
"#;

/// What a child in such a sandbox reads; none where none can be made.
fn inside_of_a_sandbox(folder: &Path) -> Option<Vec<String>> {
    let possible = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(arguments).args(["mount", "--make-rslave", "/"]);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    // As root; else as a root that is one in its own eyes.
    let ways: [&[&str]; 2] = [&["-m"], &["-m", "-r"]];
    let way = ways.into_iter().find(|way| possible(way))?;
    let run = Command::new("unshare")
        .args(way)
        .args(["/bin/sh", "-c", SANDBOX])
        .arg(folder)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "host_readings::what_stands_is_read_alike_each_time", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{out}{}", String::from_utf8_lossy(&run.stderr));
    Some(out.lines().filter_map(|line| line.split_once(MARK)).map(|it| it.1.to_owned()).collect())
}

#[test]
fn inside_a_sandbox_as_that_of_the_unit_the_readings_are_those_of_the_host() {
    let machine = Machine::new();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(first) = inside_of_a_sandbox(folder.path()) else {
        println!("no namespace can be made here: only the stored mounts of one are compared");
        let stored = include_str!("../../src/host/fixtures/sandbox.txt");
        let (host, inside) = stored.split_once("== sandbox").unwrap();
        let is_folder = |path: &str| path != "/usr/bin/holdfast";
        assert_eq!(chosen(inside, &is_folder), chosen(host, &is_folder));
        return;
    };
    assert!(5 < first.len(), "{first:?}");
    // The share in use moves by itself; all else stands.
    let mut inside = Some(first);
    wait_so("inside it is as outside", || {
        let outside = standing(&machine);
        let read = inside.take().or_else(|| inside_of_a_sandbox(folder.path())).unwrap();
        if read != outside {
            println!("outside {outside:#?}\ninside {read:#?}");
        }
        read == outside
    });
}
