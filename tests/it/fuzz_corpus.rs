//! What the fuzzers once found interesting, on stable Rust, at every `cargo test`.
//!
//! `HOLDFAST_FUZZ_SECONDS=60 cargo test --release fuzz_corpus -- --nocapture` goes on from there: each
//! target, or the one in `HOLDFAST_FUZZ_TARGET`, gets mutations of its corpus for so long.

use std::fs;
use std::path::Path;
use std::time::Duration;

use holdfast::base::rng::Rng;
use holdfast::testing::fuzz::{TARGETS, Target};
use holdfast::testing::{amount, text_from_environment};

use crate::serving::moment;

#[test]
fn every_input_of_the_corpus_keeps_the_promises() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for target in TARGETS {
        let folder = corpus.join(target.name);
        let mut replayed = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            let data = fs::read(&path).unwrap();
            let run = std::panic::catch_unwind(|| (target.body)(&data));
            assert!(run.is_ok(), "{} breaks {}", path.display(), target.name);
            replayed += 1;
        }
        assert!(10 <= replayed, "{} has a corpus of {replayed}", target.name);
    }
}

#[test]
fn every_target_has_its_folder_and_its_binary() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut folders: Vec<String> = fs::read_dir(fuzz.join("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut names: Vec<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    names.sort();
    assert_eq!(folders, names);
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is in no [[bin]]");
        assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name} has no source");
    }
}

/// The corpus of a target, in an order that does not change.
fn corpus_of(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let mut paths: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Numbers and texts that things go wrong with.
const PIECES: [&[u8]; 16] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b"\xff",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"\"",
    b"{",
    b"[",
    b"%00",
    b": ",
    b"\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"_",
];

/// One input made of others by a few changes.
fn mutation(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut data = corpus[rng.index(corpus.len())].clone();
    for _ in 0..=rng.below(4) {
        let at = rng.index(data.len() + 1);
        let end = at + rng.index((data.len() - at).min(32) + 1);
        match rng.below(7) {
            0 if at < data.len() => data[at] ^= 1 << rng.below(8),
            1 if at < data.len() => data[at] = rng.bytes(1)[0],
            2 => drop(data.drain(at..end)),
            3 => drop(data.splice(at..at, PIECES[rng.index(PIECES.len())].iter().copied())),
            4 => {
                let part = data[at..end].to_vec();
                drop(data.splice(at..at, part));
            }
            5 => {
                let other = &corpus[rng.index(corpus.len())];
                let from = rng.index(other.len() + 1);
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
            _ => {
                let few = 1 + rng.index(8);
                let fresh = rng.bytes(few);
                drop(data.splice(at..end, fresh));
            }
        }
        data.truncate(64 << 10);
    }
    data
}

#[test]
fn mutations_of_the_corpus_keep_the_promises() {
    let seconds = amount("HOLDFAST_FUZZ_SECONDS", 0);
    let seed = amount("HOLDFAST_SEED", 20_261_123);
    let only = text_from_environment("HOLDFAST_FUZZ_TARGET");
    for target in TARGETS.iter().filter(|its| only.as_ref().is_none_or(|name| its.name == name)) {
        let corpus = corpus_of(target);
        let mut rng = Rng::from_seed(seed);
        let until = moment() + Duration::from_secs(seconds);
        let mut executions = 0_u64;
        // A few in any case, so that this is known to work.
        while executions < 20 || moment() < until {
            let data = mutation(&mut rng, &corpus);
            let run = std::panic::catch_unwind(|| (target.body)(&data));
            assert!(run.is_ok(), "seed={seed} {}: \"{}\"", target.name, data.escape_ascii());
            executions += 1;
        }
        println!("{}: {executions} executions from {} inputs", target.name, corpus.len());
    }
}
