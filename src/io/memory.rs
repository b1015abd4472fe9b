//! How much memory this process may use: the least of what its control groups and the machine give.
//!
//! ```text
//!   cgroup v2   memory.max and memory.high      of the process's group and of every one above it
//!   cgroup v1   memory.limit_in_bytes           likewise, and hierarchical_memory_limit
//!   RAM         MemTotal of /proc/meminfo
//! ```
//!
//! A group's path in `/proc/self/cgroup` is seen from the root of the cgroup namespace, and what is
//! mounted may begin elsewhere: in a container the folder of the path is often missing, and the root of
//! the mount is the container's own group. So every folder on the way that does exist is asked, the root
//! included; what is missing says nothing.
//!
//! Reading never fails: without any word of the kernel it is [`MEMORY_BYTES_UNKNOWN`].

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::base::limits::{CGROUP_DEPTH_MAX, KERNEL_FILE_BYTES_MAX, MEMORY_BYTES_UNKNOWN};

/// Who says how much it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A control group, version 2: systemd's `MemoryMax` or `MemoryHigh`, or a container.
    Cgroup2,
    /// A control group, version 1.
    Cgroup1,
    /// The machine has no more.
    Ram,
    /// Nobody.
    Unknown,
}

/// What the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// So many bytes.
    pub bytes: u64,
    /// Who says so.
    pub source: Source,
}

impl Memory {
    /// Asks the kernel.
    pub fn of_process() -> Memory {
        Memory::below(Path::new("/"))
    }

    /// Asks the files below `root`, which stands for `/`.
    pub fn below(root: &Path) -> Memory {
        let limits = [
            (cgroup2(root), Source::Cgroup2),
            (cgroup1(root), Source::Cgroup1),
            (ram(&text(&root.join("proc/meminfo"))), Source::Ram),
        ];
        let known = limits.into_iter().filter_map(|(bytes, source)| Some((bytes?, source)));
        match known.min_by_key(|(bytes, _)| *bytes) {
            Some((bytes, source)) => Memory { bytes, source },
            None => Memory { bytes: MEMORY_BYTES_UNKNOWN, source: Source::Unknown },
        }
    }
}

/// What the file says, as far as it is text; nothing if it cannot be read.
pub(super) fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| file.take(KERNEL_FILE_BYTES_MAX).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cgroup2(root: &Path) -> Option<u64> {
    let limit = |folder: PathBuf| {
        ["memory.max", "memory.high"].into_iter().filter_map(move |name| {
            let said = text(&folder.join(name));
            number(&said)
        })
    };
    Groups::of(root).of_version_2().into_iter().flat_map(limit).min()
}

fn cgroup1(root: &Path) -> Option<u64> {
    let limit = |folder: PathBuf| {
        let own = number(&text(&folder.join("memory.limit_in_bytes")));
        let statistics = text(&folder.join("memory.stat"));
        [own, hierarchical(&statistics)].into_iter().flatten()
    };
    // A page short of 2^63, or anything near it, is how version 1 says "none".
    let folders = Groups::of(root).of_version_1("memory");
    folders.into_iter().flat_map(limit).filter(|bytes| *bytes < UNLIMITED_1).min()
}

/// Where the control groups of this process are.
pub(super) struct Groups<'r> {
    root: &'r Path,
    cgroups: String,
    mountinfo: String,
}

impl<'r> Groups<'r> {
    /// As the files below `root` say, which stands for `/`.
    pub(super) fn of(root: &'r Path) -> Groups<'r> {
        Groups {
            root,
            cgroups: text(&root.join("proc/self/cgroup")),
            mountinfo: text(&root.join("proc/self/mountinfo")),
        }
    }

    /// The folders of its group of version 2 and of those above it.
    pub(super) fn of_version_2(&self) -> Vec<PathBuf> {
        let Some(path) = path2(&self.cgroups) else { return Vec::new() };
        let mounts = mounts(&self.mountinfo, |kind, _| kind == "cgroup2");
        folders(self.root, &mounts, "sys/fs/cgroup", &path)
    }

    /// The same for a controller of version 1, such as `memory`.
    pub(super) fn of_version_1(&self, controller: &str) -> Vec<PathBuf> {
        let Some(path) = path1(&self.cgroups, controller) else { return Vec::new() };
        let mounts = mounts(&self.mountinfo, |kind, options| {
            kind == "cgroup" && options.split(',').any(|option| option == controller)
        });
        folders(self.root, &mounts, &format!("sys/fs/cgroup/{controller}"), &path)
    }
}

/// From here on a number of version 1 is no limit; no machine has so much.
const UNLIMITED_1: u64 = 1 << 60;

/// The group in the unified hierarchy: the line `0::/path`.
fn path2(cgroups: &str) -> Option<String> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The group of a controller: the line `7:memory:/path`.
fn path1(cgroups: &str, controller: &str) -> Option<String> {
    cgroups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|name| name == controller).then(|| path.to_owned())
    })
}

/// A mounted hierarchy: which group is at its root, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    group: String,
    folder: String,
}

/// The mounts in `/proc/self/mountinfo` of which `wanted` likes type and options.
///
/// A line is `36 35 0:30 ROOT FOLDER OPTIONS [TAGS..] - TYPE DEVICE OPTIONS`.
fn mounts(mountinfo: &str, wanted: impl Fn(&str, &str) -> bool) -> Vec<Mount> {
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let (group, folder) = (unescaped(left.next()?), unescaped(left.next()?));
        wanted(kind, options).then_some(Mount { group, folder })
    };
    mountinfo.lines().filter_map(mount).take(CGROUP_DEPTH_MAX).collect()
}

/// Spaces and the like are written as three octal digits.
fn unescaped(text: &str) -> String {
    let mut out = text.to_owned();
    for (code, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(code, plain);
    }
    out
}

/// The folders of the group at `path` and of those above it, in every mount; `usual` is where it is if
/// nothing says where it is mounted.
fn folders(root: &Path, mounts: &[Mount], usual: &str, path: &str) -> Vec<PathBuf> {
    let usual = Mount { group: "/".to_owned(), folder: usual.to_owned() };
    let mounts = if mounts.is_empty() { std::slice::from_ref(&usual) } else { mounts };
    mounts.iter().flat_map(|mount| folders_in(root, mount, path)).collect()
}

fn folders_in(root: &Path, mount: &Mount, path: &str) -> Vec<PathBuf> {
    let top = root.join(mount.folder.trim_start_matches('/'));
    let group = mount.group.trim_end_matches('/');
    // What is mounted may begin below the root; then the path is seen from there.
    let within = match path.strip_prefix(group) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    };
    let mut folders = vec![top.clone()];
    let mut folder = top;
    // A path that leads upwards belongs to a group outside of our namespace: there is nothing to see.
    let names = within.split('/').filter(|name| !name.is_empty()).take(CGROUP_DEPTH_MAX);
    for name in names.take_while(|name| *name != "..") {
        folder.push(name);
        folders.push(folder.clone());
    }
    folders
}

/// A number of bytes. `max` and what is no number say nothing; neither does zero, which would mean that
/// not even this runs.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes != 0)
}

/// The least limit of the group and those above it, as version 1 tells it.
fn hierarchical(statistics: &str) -> Option<u64> {
    let line = |line: &str| number(line.strip_prefix("hierarchical_memory_limit ")?);
    statistics.lines().find_map(line)
}

/// `MemTotal`, in bytes.
fn ram(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes = number(line.trim().strip_suffix("kB")?)?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::{Memory, Source, mounts, number, path1, path2, ram};
    use crate::base::limits::MEMORY_BYTES_UNKNOWN;
    use crate::base::rng::Rng;
    use crate::testing::seeds;
    use std::fs;

    const MEMINFO: &str = "MemTotal:        2048000 kB\nMemFree:  10 kB\n";
    const RAM: u64 = 2_048_000 << 10;
    const MOUNT2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const MOUNT1: &str =
        "33 31 0:28 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n";

    /// What the files of such a machine say.
    fn memory(files: &[(&str, &str)]) -> Memory {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Memory::below(root.path())
    }

    /// The same with RAM and a mounted cgroup of version 2.
    fn memory2(path: &str, files: &[(&str, &str)]) -> Memory {
        let base = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", path),
            ("proc/self/mountinfo", MOUNT2),
        ];
        memory(&[&base, files].concat())
    }

    fn said(bytes: u64, source: Source) -> Memory {
        Memory { bytes, source }
    }

    #[test]
    fn without_a_limit_it_is_the_ram() {
        assert_eq!(memory2("0::/\n", &[]), said(RAM, Source::Ram));
        let all_max = [
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.high", "max\n"),
        ];
        assert_eq!(memory2("0::/a\n", &all_max), said(RAM, Source::Ram));
        let more = [("sys/fs/cgroup/a/memory.max", "999999999999999\n")];
        assert_eq!(memory2("0::/a\n", &more), said(RAM, Source::Ram));
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts() {
        let slice = "sys/fs/cgroup/system.slice";
        let max = format!("{slice}/memory.max");
        let high = format!("{slice}/h.service/memory.high");
        let own = format!("{slice}/h.service/memory.max");
        let beside = format!("{slice}/other.service/memory.max");
        let path = "0::/system.slice/h.service\n";
        let all = [(&*max, "500000000\n"), (&*own, "600000000\n"), (&*beside, "7\n")];
        assert_eq!(memory2(path, &all), said(500_000_000, Source::Cgroup2));
        let with_high = [&all[..], &[(&*high, "400000000\n")]].concat();
        assert_eq!(memory2(path, &with_high), said(400_000_000, Source::Cgroup2));
    }

    #[test]
    fn in_a_container_the_root_of_the_mount_is_its_own_group() {
        let root_says = [("sys/fs/cgroup/memory.max", "268435456\n")];
        // With a namespace of its own; and without, the path of the host is missing below the mount.
        for path in ["0::/\n", "0::/docker/4f\n", "0::/../../x\n"] {
            assert_eq!(memory2(path, &root_says), said(1 << 28, Source::Cgroup2), "{path}");
        }
        // A bind mount whose root is the container's group.
        let bound = "30 23 0:26 /docker/4f /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let files = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/docker/4f/init\n"),
            ("proc/self/mountinfo", bound),
            ("sys/fs/cgroup/init/memory.max", "1048576\n"),
            ("sys/fs/cgroup/docker/4f/init/memory.max", "5\n"),
        ];
        assert_eq!(memory(&files), said(1 << 20, Source::Cgroup2));
    }

    #[test]
    fn the_old_control_groups_are_asked_too() {
        let cgroup = "12:cpu,cpuacct:/x\n7:memory:/user/a\n1:name=systemd:/x\n0::/x\n";
        let base = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", cgroup),
            ("proc/self/mountinfo", MOUNT1),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(memory(&base), said(RAM, Source::Ram), "a huge number is no limit");
        let own = [("sys/fs/cgroup/memory/user/a/memory.limit_in_bytes", "33554432\n")];
        assert_eq!(memory(&[&base[..], &own].concat()), said(1 << 25, Source::Cgroup1));
        let stat = "cache 7\nhierarchical_memory_limit 16777216\nhierarchical_memsw_limit 1\n";
        let above = [("sys/fs/cgroup/memory/memory.stat", stat)];
        assert_eq!(memory(&[&base[..], &above].concat()), said(1 << 24, Source::Cgroup1));
    }

    #[test]
    fn without_a_list_of_mounts_the_usual_places_are_asked() {
        let files = [
            ("proc/self/cgroup", "0::/a\n3:memory:/b\n"),
            ("sys/fs/cgroup/a/memory.max", "3000000\n"),
            ("sys/fs/cgroup/memory/b/memory.limit_in_bytes", "2000000\n"),
        ];
        assert_eq!(memory(&files), said(2_000_000, Source::Cgroup1));
    }

    #[test]
    fn odd_texts_say_nothing() {
        for text in ["", "max", "0", "-1", "1.5", "12 MB", "99999999999999999999", "\u{0}"] {
            assert_eq!(number(text), None, "{text:?}");
        }
        assert_eq!(number(" 12\n"), Some(12));
        for text in ["", "MemTotal:", "MemTotal: 5", "MemTotal: x kB", "memtotal: 5 kB"] {
            assert_eq!(ram(text), None, "{text:?}");
        }
        assert_eq!(ram(&format!("MemTotal: {} kB", u64::MAX)), None);
        for text in ["", "0:", "::", "1:memory", "memory", "2:memoryx:/a"] {
            assert_eq!((path1(text, "memory"), path2(text)), (None, None), "{text:?}");
        }
        assert_eq!(path1("4:cpu,memory:/a:b\n", "memory").as_deref(), Some("/a:b"));
        for text in ["", " - ", "a - b", "1 2 3 4 5 6 - cgroup2", "- cgroup2 x y"] {
            assert_eq!(mounts(text, |_, _| true), [], "{text:?}");
        }
        let spaced = mounts("1 2 3 /a\\040b /c\\134d rw - cgroup2 x rw\n", |_, _| true);
        assert_eq!((&*spaced[0].group, &*spaced[0].folder), ("/a b", "/c\\d"));
    }

    #[test]
    fn when_nobody_says_anything_there_is_a_guess() {
        let unknown = said(MEMORY_BYTES_UNKNOWN, Source::Unknown);
        assert_eq!(memory(&[]), unknown);
        assert_eq!(memory(&[("proc/meminfo", "?"), ("proc/self/cgroup", "?")]), unknown);
        // A folder where a file belongs.
        assert_eq!(memory(&[("proc/meminfo/x", "?")]), unknown);
    }

    #[test]
    fn no_text_of_the_kernel_is_a_panic() {
        let pieces =
            ["0::", ":", "/", "..", "memory", "\n", " ", " - ", "cgroup2", "max", "7", "\u{e4}"];
        for seed in seeds(200) {
            let mut rng = Rng::from_seed(seed);
            let mut text = || -> String {
                (0..rng.below(40)).map(|_| pieces[rng.index(pieces.len())]).collect()
            };
            let (cgroup, mountinfo, max) = (text(), text(), text());
            let files = [
                ("proc/self/cgroup", &*cgroup),
                ("proc/self/mountinfo", &*mountinfo),
                ("sys/fs/cgroup/memory.max", &*max),
            ];
            assert!(memory(&files).bytes != 0, "seed={seed}");
        }
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = Memory::of_process();
        assert!((1 << 20) < memory.bytes && memory.source != Source::Unknown, "{memory:?}");
    }
}
