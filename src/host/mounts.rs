//! Which file systems count: those of disks, each once.
//!
//! Inside the sandbox of the service the same file system is mounted many times (folders that are read-only, private
//! ones): the device tells them apart. Of several mounts of one device `/` is shown, else the one of its root with the
//! shortest path. What is no disk (tmpfs, images that are full by nature such as squashfs) is left out, and so are those
//! of a network and of FUSE, which may not answer for ever, with all that is mounted below them: the way there leads
//! through them. The kinds that count are listed by name, so that one nobody thought of is left out as well.
//!
//! What is covered by a later mount cannot be reached by its path, and whoever asks there is told about the other one;
//! so it is left out. Single files that are mounted (`/etc/hosts` of a container) are no place to show a disk at.
//!
//! Of a pool of ZFS each file system counts, as `df` has it: each may have a limit of its own.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::base::limits::{HOST_MOUNT_DEPTH_MAX, HOST_MOUNTS_MAX};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub path: String,
    /// What, such as `/dev/vda1`.
    pub device: String,
    /// `ext4`
    pub kind: String,
    /// Whether nothing can be written, by its own options: what a sandbox forbids does not count.
    pub read_only: bool,
    /// `254:0`, to find it in /proc/diskstats.
    pub number: String,
}

/// File systems of disks of this machine.
const DISKS: [&str; 25] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs",
    "reiser4", "nilfs2", "vfat", "msdos", "exfat", "ntfs", "ntfs3", "hfs", "hfsplus", "ufs",
    "minix", "ubifs", "jffs2", "apfs", "simfs",
];

/// Layers over others: they count where a container or a live system has its root on them.
const LAYERS: [&str; 4] = ["overlay", "aufs", "shiftfs", "unionfs"];

/// Kinds that ask somebody else, who may not answer. What begins with `fuse` is another.
const ELSEWHERE: [&str; 22] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "9p",
    "virtiofs",
    "afs",
    "coda",
    "lustre",
    "gfs2",
    "ocfs2",
    "autofs",
    "ncpfs",
    "orangefs",
    "gpfs",
    "beegfs",
    "glusterfs",
    "panfs",
    "vboxsf",
    "prl_fs",
];

fn is_elsewhere(kind: &str) -> bool {
    kind.starts_with("fuse") || ELSEWHERE.contains(&kind)
}

/// A line of mountinfo: `36 35 98:0 ROOT PATH OPTIONS [TAGS..] - KIND DEVICE OPTIONS`.
struct Line<'t> {
    id: u64,
    parent: u64,
    number: &'t str,
    root: &'t str,
    path: Cow<'t, str>,
    kind: &'t str,
    device: &'t str,
    read_only: bool,
}

impl<'t> Line<'t> {
    fn of(line: &'t str) -> Option<Line<'t>> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ');
        let mut right = right.split(' ');
        let (id, parent) = (left.next()?.parse().ok()?, left.next()?.parse().ok()?);
        let (number, root, path) = (left.next()?, left.next()?, unescaped(left.next()?));
        let (kind, device, options) = (right.next()?, right.next()?, right.next()?);
        let read_only = options.split(',').any(|option| option == "ro");
        let absolute = path.starts_with('/');
        absolute.then_some(Line { id, parent, number, root, path, kind, device, read_only })
    }

    /// Whether it is a file system that counts, wherever it is.
    fn counts(&self) -> bool {
        // An image on a loop device that cannot be written is full by nature, whatever its kind, and so is a snapshot.
        let snapshot = self.kind == "zfs" && self.device.contains('@');
        let image = snapshot || self.read_only && self.device.starts_with("/dev/loop");
        let layer = self.path == "/" && LAYERS.contains(&self.kind);
        (DISKS.contains(&self.kind) || layer) && !image
    }

    /// What tells file systems apart. Parts of one of btrfs are the same device.
    fn identity(&self) -> &'t str {
        if self.kind == "btrfs" { self.device } else { self.number }
    }

    /// The less, the better it stands for its device.
    fn rank(&self) -> (bool, bool, usize, &str) {
        (self.path != "/", self.root != "/", self.path.len(), &self.path)
    }

    fn mount(&self) -> Mount {
        Mount {
            path: self.path.clone().into_owned(),
            device: unescaped(self.device).into_owned(),
            kind: self.kind.to_owned(),
            read_only: self.read_only,
            number: self.number.to_owned(),
        }
    }
}

/// Where everything is mounted.
struct Tree<'l> {
    by_id: HashMap<u64, &'l Line<'l>>,
    /// What is found at a path: of what is mounted there, that which nothing else is mounted upon.
    top: HashMap<&'l str, u64>,
}

impl<'l> Tree<'l> {
    fn of(lines: &'l [Line<'l>]) -> Tree<'l> {
        let by_id: HashMap<u64, &Line<'_>> = lines.iter().map(|line| (line.id, line)).collect();
        let covers = |line: &Line<'_>| {
            let below = by_id.get(&line.parent).filter(|below| below.id != line.id)?;
            (below.path == line.path).then_some(below.id)
        };
        let covered: HashSet<u64> = lines.iter().filter_map(covers).collect();
        let open = lines.iter().filter(|line| !covered.contains(&line.id));
        let top = open.map(|line| (&*line.path, line.id)).collect();
        Tree { by_id, top }
    }

    /// Whether the path of this mount leads to it, and through nothing that may not answer.
    fn reaches(&self, line: &Line<'_>) -> bool {
        let mut way = vec![line.id];
        let mut at = line;
        while let Some(parent) = self.by_id.get(&at.parent).filter(|parent| parent.id != at.id) {
            // If the root itself does not answer, nothing on this machine does.
            let waits = is_elsewhere(parent.kind) && parent.path != "/";
            if waits || HOST_MOUNT_DEPTH_MAX <= way.len() {
                return false;
            }
            way.push(parent.id);
            at = parent;
        }
        let open = |folder: &str| self.top.get(folder).is_none_or(|top| way.contains(top));
        let above = line.path.match_indices('/').map(|(end, _)| &line.path[..end.max(1)]);
        open(&line.path) && above.into_iter().all(open)
    }
}

/// Those of `/proc/self/mountinfo` that count, by path; at most [`HOST_MOUNTS_MAX`]. Whether a path is
/// a folder is asked only of what may be a part of a file system, and never through a network.
pub fn chosen(mountinfo: &str, is_folder: &dyn Fn(&str) -> bool) -> Vec<Mount> {
    let lines: Vec<Line<'_>> = mountinfo.lines().filter_map(Line::of).collect();
    let tree = Tree::of(&lines);
    let mut devices: BTreeMap<&str, Vec<&Line<'_>>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.counts() && tree.reaches(line)) {
        devices.entry(line.identity()).or_default().push(line);
    }
    let mut best: Vec<&Line<'_>> = devices
        .into_values()
        .filter_map(|mut mounts| {
            mounts.sort_by(|a, b| a.rank().cmp(&b.rank()));
            mounts.into_iter().find(|line| line.root == "/" || is_folder(&line.path))
        })
        .collect();
    best.sort_by(|a, b| a.path.cmp(&b.path));
    best.into_iter().take(HOST_MOUNTS_MAX).map(Line::mount).collect()
}

/// Spaces and the like are written as three octal digits.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let code = if first == b'\\' { behind.get(..3).and_then(octal) } else { None };
        out.push(code.unwrap_or(first));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn octal(digits: &[u8]) -> Option<u8> {
    let number = digits.iter().try_fold(0_u16, |number, digit| match digit {
        b'0'..=b'7' => Some(number * 8 + u16::from(digit - b'0')),
        _ => None,
    })?;
    u8::try_from(number).ok()
}

#[cfg(test)]
mod tests;
