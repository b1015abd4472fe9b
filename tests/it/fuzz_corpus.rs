//! What the fuzzers once found interesting, on stable Rust, at every `cargo test`.

use std::fs;
use std::path::Path;

use holdfast::testing::fuzz::TARGETS;

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
