//! Power cuts: every sync point of a workload is cut in ten ways, and each image must open as exactly
//! the old or the new commit; also when the power fails again while it is being opened.
//!
//! `HOLDFAST_IMAGES=100000 cargo test --release torn` makes that many, at least.

use std::sync::Arc;

use holdfast::base::rng::Rng;
use holdfast::store::redb::Redb;
use holdfast::store::{Commit, Engine, Finish, Opening, Table};
use holdfast::testing::contract::random_change;
use holdfast::testing::disk::{CrashImage, SimDisk, crash_images};
use holdfast::testing::model::Model;
use holdfast::testing::{Content, amount, content, put_one};

const CACHE_BYTES: u64 = 4 << 20;
const COMMITS: usize = 20;
/// What half of the test below makes at least.
const IMAGES: u64 = 1_200;

fn open(disk: &Arc<SimDisk>) -> Result<Redb, String> {
    let disk = Arc::<SimDisk>::clone(disk);
    Redb::on_disk(disk, CACHE_BYTES, Opening::Start).map_err(|error| format!("UNOPENABLE: {error}"))
}

/// A workload on a disk that began with a new file, and the content after each of its commits.
struct History {
    start: Vec<u8>,
    disk: Arc<SimDisk>,
    contents: Vec<Content>,
}

/// A file as it gets its name: made and closed. (How it is made is tested beside the engine.)
fn new_file() -> Vec<u8> {
    let disk = Arc::new(SimDisk::default());
    drop(open(&disk).unwrap());
    disk.after_power_cut()
}

/// Random commits, some of them quick ones, on a disk that syncs or only says so.
fn history(seed: u64, honest: bool) -> History {
    let mut rng = Rng::from_seed(seed);
    let start = new_file();
    let disk = Arc::new(SimDisk::holding(start.clone()));
    if !honest {
        disk.lie_about_syncs();
    }
    let engine = open(&disk).unwrap();
    let model = Model::default();
    let mut contents = vec![Content::new()];
    for commit in 1..=COMMITS {
        let batch_seed = rng.next_u64();
        let how = if rng.one_in(4) { Commit::Quick } else { Commit::Plain };
        for engine in [&engine as &dyn Engine, &model] {
            let mut rng = Rng::from_seed(batch_seed);
            let changes = [1, 3, 30][rng.index(3)];
            let write = engine.write(how, &mut |batch| {
                batch.begin()?;
                for _ in 0..changes {
                    random_change(batch, &mut rng)?;
                }
                batch.put(Table::Meta, b"commit", &commit.to_be_bytes())?;
                batch.keep()?;
                Ok(Finish::Commit)
            });
            write.unwrap();
        }
        disk.acknowledged(commit);
        contents.push(content(&model).unwrap());
    }
    // Closing writes as well, and may be cut as well.
    drop(engine);
    History { start, disk, contents }
}

/// What an image opens as: the number of the commit.
fn opens_as(disk: &Arc<SimDisk>, contents: &[Content]) -> Result<usize, String> {
    let engine = open(disk)?;
    let found = content(&engine).map_err(|error| format!("UNREADABLE: {error}"))?;
    let commit = found.get(&(Table::Meta, b"commit".to_vec()));
    let commit = commit.map_or(0, |bytes| {
        usize::from_be_bytes(bytes.as_slice().try_into().expect("a number was written"))
    });
    if contents.get(commit) != Some(&found) {
        return Err(format!("MIXED: the rows are not those of commit {commit}"));
    }
    // It must be a store to go on with.
    put_one(&engine, Table::Outbox, b"after", b"the crash");
    Ok(commit)
}

/// Checks one image; with `again`, also the images of a second power cut while it is opened.
fn check(image: CrashImage, contents: &[Content], again: Option<&mut Rng>) -> Result<u64, String> {
    let CrashImage { bytes, acknowledged, how } = image;
    let context = |error: String| format!("{error} ({how}, {acknowledged} acknowledged)");
    let disk = Arc::new(SimDisk::holding(bytes.clone()));
    let commit = opens_as(&disk, contents).map_err(context)?;
    if commit < acknowledged {
        return Err(context(format!("LOST: it opened as commit {commit}")));
    }
    if acknowledged + 1 < commit {
        return Err(context(format!("it opened as commit {commit}, which had not begun")));
    }
    let Some(rng) = again else {
        return Ok(1);
    };
    let recovering = Arc::new(SimDisk::holding(bytes.clone()));
    drop(open(&recovering).map_err(context)?);
    let (mut images, mut failure) = (1, None);
    crash_images(&bytes, &recovering.trace(), rng, &mut |image| {
        images += 1;
        let disk = Arc::new(SimDisk::holding(image.bytes));
        let verdict = opens_as(&disk, contents);
        if verdict != Ok(commit) && failure.is_none() {
            failure = Some(format!("second cut, {}: {verdict:?}, not {commit}", image.how));
        }
    });
    failure.map_or(Ok(images), |error| Err(context(error)))
}

/// Cuts histories until there are `images`; the first failure, with its seed.
fn cut(first_seed: u64, images: u64, honest: bool) -> Result<u64, String> {
    let (mut made, mut seed) = (0, first_seed);
    while made < images {
        let History { start, disk, contents } = history(seed, honest);
        let mut rng = Rng::from_seed(seed ^ 0x7042);
        let mut failure = None;
        let mut cut_rng = rng.fork();
        crash_images(&start, &disk.trace(), &mut cut_rng, &mut |image| {
            let again = if rng.one_in(15) { Some(&mut rng) } else { None };
            match check(image, &contents, again) {
                Ok(checked) => made += checked,
                Err(error) if failure.is_none() => failure = Some(format!("seed {seed}: {error}")),
                Err(_) => {}
            }
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        seed += 2;
    }
    Ok(made)
}

// Two tests, so that they run beside each other.
#[test]
fn a_power_cut_leaves_the_old_commit_or_the_new_one() {
    let made = cut(0, amount("HOLDFAST_IMAGES", 2 * IMAGES) / 2, true).unwrap();
    assert!(IMAGES.min(amount("HOLDFAST_IMAGES", IMAGES) / 2) <= made, "{made}");
}

#[test]
fn a_power_cut_leaves_the_old_commit_or_the_new_one_also_in_other_histories() {
    let made = cut(1, amount("HOLDFAST_IMAGES", 2 * IMAGES) / 2, true).unwrap();
    assert!(IMAGES.min(amount("HOLDFAST_IMAGES", IMAGES) / 2) <= made, "{made}");
}

#[test]
fn a_disk_that_only_says_it_synced_is_caught() {
    let verdict = cut(0, 1_000, false);
    let error = verdict.expect_err("a disk that does not sync loses commits");
    assert!(error.contains("LOST"), "{error}");
}
