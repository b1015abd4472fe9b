//! Which file systems count, on the mounts of several machines.

use super::{Mount, chosen};
use crate::base::limits::{HOST_MOUNT_DEPTH_MAX, HOST_MOUNTS_MAX};
use crate::base::rng::Rng;
use crate::host::parse::tests::section;
use crate::testing::seeds;
use std::cell::RefCell;

const SANDBOX: &str = include_str!("../fixtures/sandbox.txt");
const CONTAINER: &str = include_str!("../fixtures/container.txt");
const BTRFS: &str = include_str!("../fixtures/btrfs.txt");
const ZFS: &str = include_str!("../fixtures/zfs.txt");
const VPS: &str = include_str!("../fixtures/vps.txt");

/// As `df` would list them: device, kind, path.
fn listed(mounts: &[Mount]) -> Vec<String> {
    mounts.iter().map(|it| format!("{} {} {}", it.device, it.kind, it.path)).collect()
}

/// Those of a text in which everything is a folder.
fn paths(mountinfo: &str) -> Vec<String> {
    chosen(mountinfo, &|_| true).into_iter().map(|mount| mount.path).collect()
}

#[test]
fn in_the_sandbox_of_the_service_the_mounts_are_those_of_the_host() {
    let host = chosen(&section(SANDBOX, "host").unwrap(), &|_| true);
    let is_folder = |path: &str| path != "/usr/bin/holdfast";
    let inside = chosen(&section(SANDBOX, "sandbox").unwrap(), &is_folder);
    assert_eq!(inside, host, "with the same devices, numbers, and what is read-only by itself");
    let all = [
        "/dev/vda1 ext4 /",
        "/dev/vda15 vfat /boot/efi",
        "/dev/mapper/data-home ext4 /home",
        "/dev/vdb xfs /srv",
        "/dev/vdc ext4 /srv old",
        "/dev/mapper/data-var ext4 /var",
    ];
    assert_eq!(listed(&host), all);
    let read_only = host.iter().filter(|it| it.read_only).map(|it| &*it.path);
    assert_eq!(read_only.collect::<Vec<_>>(), ["/srv old"], "the sandbox makes nobody read-only");
}

#[test]
fn a_container_has_its_root_and_a_folder_of_the_disk_below_but_no_files() {
    let files = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    let asked = RefCell::new(Vec::new());
    let mounts = chosen(&section(CONTAINER, "mountinfo").unwrap(), &|path| {
        asked.borrow_mut().push(path.to_owned());
        !files.contains(&path)
    });
    assert_eq!(listed(&mounts), ["overlay overlay /", "/dev/vda1 ext4 /etc/ssl/private"]);
    assert!(asked.borrow().iter().all(|path| path.starts_with("/etc/")), "{asked:?}");
    // Where nothing of a device is a folder, there is no place to show it at.
    let none = chosen(&section(CONTAINER, "mountinfo").unwrap(), &|_| false);
    assert_eq!(listed(&none), ["overlay overlay /"]);
}

#[test]
fn parts_of_one_btrfs_are_one_file_system_at_the_root() {
    let asked = RefCell::new(Vec::new());
    let mounts = chosen(&section(BTRFS, "mountinfo").unwrap(), &|path| {
        asked.borrow_mut().push(path.to_owned());
        true
    });
    let all = [
        "/dev/nvme0n1p3 btrfs /",
        "/dev/nvme0n1p2 ext4 /boot",
        "/dev/nvme0n1p1 vfat /boot/efi",
        "/dev/sda btrfs /srv",
    ];
    assert_eq!(listed(&mounts), all);
    assert_eq!(*asked.borrow(), ["/"], "the far disk, and what lies on it, is never touched");
    // Some kernels give each part another number.
    let numbers =
        "29 1 0:26 /@ / rw - btrfs /dev/vda2 rw\n30 29 0:27 /@home /home rw - btrfs /dev/vda2 rw\n";
    assert_eq!(paths(numbers), ["/"]);
}

#[test]
fn each_file_system_of_a_pool_counts_as_df_has_it() {
    let mounts = chosen(&section(ZFS, "mountinfo").unwrap(), &|_| true);
    let all = [
        "rpool/ROOT/ubuntu_1a2b zfs /",
        "bpool/BOOT/ubuntu_1a2b zfs /boot",
        "/dev/sda1 vfat /boot/efi",
        "rpool/USERDATA/home_1a2b zfs /home",
        "rpool/ROOT/ubuntu_1a2b/var/log zfs /var/log",
    ];
    assert_eq!(listed(&mounts), all, "but no snapshot, which is full by nature");
}

#[test]
fn a_small_machine_has_one_disk() {
    let mounts = chosen(&section(VPS, "mountinfo").unwrap(), &|_| true);
    let root = Mount {
        path: "/".to_owned(),
        device: "/dev/vda".to_owned(),
        kind: "ext4".to_owned(),
        read_only: false,
        number: "254:0".to_owned(),
    };
    assert_eq!(mounts, [root]);
}

#[test]
fn of_several_places_the_root_of_the_device_with_the_shortest_path_is_shown() {
    let root = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
    let check =
        |lines: &str, expected: &[&str]| assert_eq!(paths(&format!("{root}{lines}")), expected);
    // A part with a short path, the whole with a long one.
    let part =
        "2 1 8:2 /sub /a rw - ext4 /dev/sda2 rw\n3 1 8:2 / /mnt/long rw - ext4 /dev/sda2 rw\n";
    check(part, &["/", "/mnt/long"]);
    let twice =
        "2 1 8:2 / /mnt/long rw - ext4 /dev/sda2 rw\n3 1 8:2 / /mnt/b rw - ext4 /dev/sda2 rw\n";
    check(twice, &["/", "/mnt/b"]);
    let same_length = "2 1 8:2 / /b rw - ext4 /dev/sda2 rw\n3 1 8:2 / /a rw - ext4 /dev/sda2 rw\n";
    check(same_length, &["/", "/a"]);
    // The root is mounted whole elsewhere, as a rescue system does.
    check("2 1 8:1 / /host rw - ext4 /dev/sda1 rw\n", &["/"]);
}

#[test]
fn what_is_no_disk_is_left_out() {
    let kinds = [
        "tmpfs",
        "devtmpfs",
        "proc",
        "sysfs",
        "squashfs",
        "erofs",
        "iso9660",
        "udf",
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "ceph",
        "9p",
        "virtiofs",
        "fuse",
        "fuseblk",
        "fuse.sshfs",
        "fuse.s3fs",
        "autofs",
        "overlay",
        "ramfs",
        "rootfs",
        "nobody-knows",
        "EXT4",
        "",
    ];
    for kind in kinds {
        let line = format!("2 1 0:40 / /mnt rw - {kind} /dev/thing rw\n");
        assert_eq!(paths(&line), [""; 0], "{kind}");
    }
    assert_eq!(paths("2 1 7:1 / /mnt ro - ext4 /dev/loop1 ro\n"), [""; 0], "an image");
    assert_eq!(paths("2 1 7:1 / /mnt ro - ext4 /dev/loop1 rw\n"), ["/mnt"], "a disk in a file");
    assert_eq!(paths("2 1 0:4 / / rw - overlay overlay rw\n"), ["/"]);
    assert_eq!(paths("2 1 0:4 / / rw - nfs server:/root rw\n"), [""; 0]);
}

#[test]
fn what_cannot_be_reached_by_its_path_is_left_out() {
    let root = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
    let check = |lines: &str, expected: &[&str]| {
        assert_eq!(paths(&format!("{root}{lines}")), expected, "{lines}");
    };
    let home = "2 1 8:2 / /home rw - ext4 /dev/sda2 rw\n";
    check(home, &["/", "/home"]);
    let tmpfs = |path: &str, parent: u32| format!("9 {parent} 0:9 / {path} rw - tmpfs tmpfs rw\n");
    check(&format!("{home}{}", tmpfs("/home", 2)), &["/"]);
    check(&format!("{home}{}", tmpfs("/home/me", 2)), &["/", "/home"]);
    check(&format!("{home}{}", tmpfs("/homes", 1)), &["/", "/home"]);
    // The folder above was covered later; and earlier, so that this one lies upon it.
    let data = "3 1 8:3 / /srv/data rw - ext4 /dev/sda3 rw\n";
    check(&format!("{data}{}", tmpfs("/srv", 1)), &["/"]);
    let upon = "3 9 8:3 / /srv/data rw - ext4 /dev/sda3 rw\n";
    check(&format!("{}{upon}", tmpfs("/srv", 1)), &["/", "/srv/data"]);
    // A new root upon the first one hides what was mounted below that.
    let new_root = "9 1 8:9 / / rw - xfs /dev/sdb rw\n";
    check(&format!("{home}{new_root}"), &["/"]);
    let mounts = chosen(&format!("{root}{home}{new_root}"), &|_| true);
    assert_eq!(listed(&mounts), ["/dev/sdb xfs /"]);
    // Mounted elsewhere first, and moved here later: the order of the list says nothing.
    let moved = "2 3 8:2 / /home rw - ext4 /dev/sda2 rw\n3 1 8:3 / /home rw - ext4 /dev/sda3 rw\n";
    let mounts = chosen(&format!("{root}{moved}"), &|_| true);
    assert_eq!(listed(&mounts), ["/dev/sda1 ext4 /", "/dev/sda2 ext4 /home"]);
    // The same disk a second time at the same place, as propagation makes it.
    check(&format!("{home}4 2 8:2 / /home rw - ext4 /dev/sda2 rw\n"), &["/", "/home"]);
}

#[test]
fn what_lies_beyond_a_network_is_not_asked() {
    let root = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
    for kind in ["nfs4", "fuse.sshfs", "cifs", "autofs", "9p"] {
        let far = format!("{root}2 1 0:40 / /far rw - {kind} there rw\n");
        let on_it = format!("{far}3 2 7:1 / /far/disk rw - ext4 /dev/loop1 rw\n");
        assert_eq!(paths(&on_it), ["/"], "{kind}");
        let deep = format!("{on_it}4 3 7:2 / /far/disk/more rw - ext4 /dev/loop2 rw\n");
        assert_eq!(paths(&deep), ["/"], "{kind}");
    }
    // With the root itself on a network everything leads through it, and all else hangs as well.
    let root = "1 0 0:40 / / rw - nfs4 there rw\n2 1 8:1 / /var rw - ext4 /dev/sda1 rw\n";
    assert_eq!(paths(root), ["/var"]);
}

#[test]
fn spaces_and_the_like_in_names_are_read() {
    let path = |escaped: &str| {
        paths(&format!("1 0 8:1 / {escaped} rw - ext4 /dev/sda1 rw\n")).pop().unwrap()
    };
    assert_eq!(path("/a\\040b"), "/a b");
    assert_eq!(path("/a\\011b\\012c\\134d\\043e"), "/a\tb\nc\\d#e");
    assert_eq!(path("/caf\\303\\251"), "/caf\u{e9}");
    assert_eq!(path("/\\377"), "/\u{fffd}");
    assert_eq!(path("/a\\"), "/a\\");
    assert_eq!(path("/a\\04"), "/a\\04");
    assert_eq!(path("/a\\999\\0400"), "/a\\999 0", "no octal digits");
    assert_eq!(path("/a\\777"), "/a\\777", "more than a byte");
    let device = chosen("1 0 0:5 / /x rw - zfs tank/my\\040files rw\n", &|_| true);
    assert_eq!(device[0].device, "tank/my files");
}

#[test]
fn there_is_an_end_to_mounts_and_to_their_depth() {
    let many: Vec<String> = (0..200)
        .map(|n| format!("{} 1 8:{n} / /mnt/{n:03} rw - ext4 /dev/sd{n} rw\n", n + 10))
        .collect();
    let found = paths(&many.concat());
    assert_eq!(found.len(), HOST_MOUNTS_MAX);
    assert_eq!(found[0], "/mnt/000");
    let deep = |depth: usize| -> Vec<String> {
        let folders = (1..depth).map(|n| format!("{n} {} 0:9 / /t rw - tmpfs t rw\n", n - 1));
        let last = format!("{depth} {} 8:1 / /t rw - ext4 /dev/sda1 rw\n", depth - 1);
        paths(&folders.chain([last]).collect::<String>())
    };
    assert_eq!(deep(HOST_MOUNT_DEPTH_MAX), ["/t"]);
    assert_eq!(deep(HOST_MOUNT_DEPTH_MAX + 1), [""; 0]);
    // Mounts that lie upon each other are none.
    let circle = "1 2 8:1 / /a rw - ext4 /dev/a rw\n2 1 8:2 / /a/b rw - ext4 /dev/b rw\n";
    assert_eq!(paths(circle), [""; 0]);
    let covered = "1 2 8:1 / /a rw - ext4 /dev/a rw\n2 1 8:2 / /a rw - ext4 /dev/b rw\n";
    assert_eq!(paths(covered), [""; 0]);
    assert_eq!(paths("7 7 8:1 / /a rw - ext4 /dev/a rw\n"), ["/a"]);
}

#[test]
fn nonsense_chooses_nothing_and_never_panics() {
    for text in [
        "",
        "\n",
        " - ",
        "a b c d e f - ext4 x rw",
        "1 2 8:1 / rel rw - ext4 x rw",
        "1 2 8:1 / / rw - ext4",
    ] {
        assert_eq!(paths(text), [""; 0], "{text:?}");
    }
    let pieces = [
        "1 ",
        "2 ",
        "8:1 ",
        "0:4 ",
        "/ ",
        "/a ",
        "/a/b ",
        "rw ",
        "- ",
        "ext4 ",
        "nfs ",
        "overlay ",
        "\\040",
        "\\",
        "\n",
        "\u{e4}",
        "1 2 8:1 / /a rw - ext4 /dev/a rw\n",
        "2 1 8:2 / /a/b rw - btrfs /dev/b rw\n",
        "3 2 0:4 / /a/b/c rw - fuse x rw\n",
    ];
    for seed in seeds(300) {
        let mut rng = Rng::from_seed(seed);
        let text: String = (0..rng.below(60)).map(|_| pieces[rng.index(pieces.len())]).collect();
        let mounts = chosen(&text, &|path| path.len() % 2 == 0);
        assert!(mounts.iter().all(|it| it.path.starts_with('/')), "seed={seed}");
        assert!(mounts.is_sorted_by(|a, b| a.path < b.path), "seed={seed}: each path once");
    }
}
