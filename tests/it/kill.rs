//! `kill -9`: a child process writes through the writer from eight threads and tells over a pipe what
//! was acknowledged; it is killed at random moments, and the file is held against what it said.
//!
//! The file is kept from kill to kill, so that recovery meets what recovery left. Some children are
//! killed while they open it. `HOLDFAST_KILLS=10000 cargo test --release kill` for more.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use holdfast::base::rng::Rng;
use holdfast::base::time::Clock;
use holdfast::exec::CallError;
use holdfast::exec::writer::{Effect, Options, Terms, Writer};
use holdfast::store::redb::Redb;
use holdfast::store::sqlite::Sqlite;
use holdfast::store::{self, Engine, Opening, Table};
use holdfast::testing::clock::SystemClock;
use holdfast::testing::{Content, amount, content, ledger, text_from_environment};

const CACHE_BYTES: u64 = 4 << 20;
const WRITERS: u8 = 8;
const KILLS: u64 = 100;
/// In the child's environment: the file to write to.
const CHILD_FILE: &str = "HOLDFAST_KILL_CHILD_FILE";

/// The engine that the name of the file asks for.
fn open(path: &Path, opening: Opening) -> store::Result<Box<dyn Engine>> {
    if path.extension().is_some_and(|ending| ending == "sqlite") {
        Ok(Box::new(Sqlite::open(path, CACHE_BYTES, opening)?))
    } else {
        Ok(Box::new(Redb::open(path, CACHE_BYTES, opening)?))
    }
}

fn content_of(path: &Path) -> Content {
    content(&*open(path, Opening::Start).unwrap()).unwrap()
}

/// Writes from eight threads, each `steps` steps or for ever, and tells `tell` what is acknowledged.
fn write_and_tell(path: &Path, steps: u64, tell: &(dyn Fn(u8, u64) + Sync)) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let its = path.to_owned();
    let options = Options {
        // Short, so that quick commits are killed, too.
        idle: Duration::from_millis(2),
        ..Options::new("jobs", Box::new(|| ()))
    };
    let opener = Box::new(move |opening| open(&its, opening));
    let writer = Writer::start(options, opener, Arc::clone(&clock)).unwrap();
    let terms = || {
        let until = clock.mono().plus(Duration::from_mins(1));
        Terms { until, bytes: 2_000, effect: Effect::Grows }
    };
    #[expect(clippy::disallowed_methods, reason = "eight callers")]
    std::thread::scope(|scope| {
        for thread in 0..WRITERS {
            let (writer, terms) = (&writer, &terms);
            scope.spawn(move || {
                let came_to = writer.read(|view| {
                    let mut found = 0;
                    let key = ledger::counter_key(thread);
                    if let Some(bytes) = view.get(Table::Meta, &key)? {
                        found = u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
                    }
                    Ok::<u64, store::Error>(found)
                });
                let came_to = came_to.expect("the file can be read");
                for step in came_to + 1..=came_to.saturating_add(steps) {
                    // Every few steps one that is refused after it wrote; it must leave nothing.
                    if step % 7 == 0 {
                        let refused = writer.call(terms(), move |tx| {
                            ledger::step(tx, thread, step + 1_000_000)?;
                            Err::<(), _>(store::Error::TooManyRows)
                        });
                        assert!(matches!(refused, Err(CallError::Refused(_))), "{refused:?}");
                    }
                    writer
                        .call(terms(), move |tx| ledger::step(tx, thread, step))
                        .expect("a healthy disk stores everything");
                    tell(thread, step);
                }
            });
        }
    });
}

/// The child. Started by hand, without a file in the environment, it checks its own half: what it
/// tells is in the file.
#[test]
fn the_child_tells_what_is_stored() {
    if let Some(path) = text_from_environment(CHILD_FILE) {
        // The pipe is standard error: the test harness writes to standard output.
        let tell = |thread, step| {
            // One write, shorter than what a pipe keeps in one piece.
            let line = format!("{thread} {step}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        };
        std::io::stderr().write_all(b"opening\n").unwrap();
        write_and_tell(Path::new(&path), u64::MAX, &tell);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    let told = parking_lot::Mutex::new(vec![0; usize::from(WRITERS)]);
    write_and_tell(&path, 50, &|thread, step| told.lock()[usize::from(thread)] = step);
    let found = ledger::check(&content_of(&path), &told.lock()).unwrap();
    assert_eq!(found, vec![50; usize::from(WRITERS)]);
}

fn start_child(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::the_child_tells_what_is_stored", "--nocapture"])
        .env(CHILD_FILE, path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a child write until it has told `lines` lines, kills it, and notes all it had told.
fn write_and_kill(path: &Path, lines: u64, acknowledged: &mut [u64]) -> u64 {
    let mut child = start_child(path);
    let mut pipe = BufReader::new(child.stderr.take().unwrap());
    let (mut told, mut line) = (0, String::new());
    loop {
        if told == lines {
            child.kill().unwrap();
        }
        line.clear();
        if pipe.read_line(&mut line).unwrap() == 0 {
            break;
        }
        told += 1;
        if line == "opening\n" {
            continue;
        }
        // A line that was cut by the kill is not an acknowledgement.
        let Some((thread, step)) = line.strip_suffix('\n').and_then(|line| line.split_once(' '))
        else {
            assert!(lines <= told, "the child said {line:?}");
            continue;
        };
        let (Ok(thread), Ok(step)) = (thread.parse::<usize>(), step.parse::<u64>()) else {
            panic!("the child said {line:?}");
        };
        acknowledged[thread] = step;
    }
    child.wait().unwrap();
    told
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    kill_again_and_again("jobs.redb", amount("HOLDFAST_KILLS", KILLS));
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_from_sqlite() {
    kill_again_and_again("jobs.sqlite", amount("HOLDFAST_KILLS", KILLS) / 4);
}

#[expect(clippy::print_stdout, reason = "how much was tried belongs to the verdict")]
fn kill_again_and_again(file: &str, kills: u64) {
    let seed = amount("HOLDFAST_SEED", 20_261_120);
    let mut rng = Rng::from_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    let mut acknowledged = vec![0; usize::from(WRITERS)];
    let mut told = 0;
    for kill in 0..kills {
        // One in eight is killed as soon as it says that it is going to open the file.
        let lines = if rng.one_in(8) { 1 } else { 1 + rng.below(400) };
        told += write_and_kill(&path, lines, &mut acknowledged);
        acknowledged = ledger::check(&content_of(&path), &acknowledged)
            .unwrap_or_else(|error| panic!("seed={seed} kill={kill}: {error}"));
    }
    let steps: u64 = acknowledged.iter().sum();
    println!("{file}: {kills} kills, {told} acknowledgements, {steps} steps stored, 0 lost");
    assert!(kills < steps);
}
