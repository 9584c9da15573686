//! No fuzz target is an orphan: each has a body, a program for libFuzzer, seeds and a bounded run.

use std::collections::BTreeSet;

use super::{files, root};

#[test]
fn every_fuzz_target_is_whole() {
    let all = files(&["tests/fuzz/fuzz_targets", "tests/fuzz/targets"]);
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (manifest, bounded) = (text("tests/fuzz/Cargo.toml"), text("tests/it/fuzz.rs"));
    let (bodies, about) = (text("tests/fuzz/targets/mod.rs"), text("tests/fuzz/README.md"));
    let targets: BTreeSet<&str> =
        all.iter().filter_map(|file| file.path.strip_prefix("tests/fuzz/fuzz_targets/")?.strip_suffix(".rs")).collect();
    assert!(targets.len() >= 7, "{targets:?}");
    for target in &targets {
        let program = text(&format!("tests/fuzz/fuzz_targets/{target}.rs"));
        assert!(program.contains(&format!("targets::{target}(data)")), "{target}: runs its body");
        assert!(bodies.contains(&format!("pub use {target}::run as {target};")), "{target}: has a body");
        assert!(
            manifest.contains(&format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n")),
            "{target}: is a [[bin]] of tests/fuzz/Cargo.toml"
        );
        assert!(bounded.contains(&format!("run(\"{target}\", ")), "{target}: runs in tests/it/fuzz.rs");
        assert!(bounded.contains(&format!("targets::{target})")), "{target}: runs its own body in tests/it/fuzz.rs");
        assert!(about.contains(&format!("| `{target}` |")), "{target}: tests/fuzz/README.md says what must hold");
        let seeds = std::fs::read_dir(root().join("tests/fuzz/corpus").join(target)).unwrap();
        let kept = seeds.filter(|seed| seed.as_ref().unwrap().file_name().to_string_lossy().starts_with("seed-"));
        assert!(kept.count() >= 3, "{target}: has seeds in tests/fuzz/corpus");
    }
    assert_eq!(bodies.matches("::run as ").count(), targets.len(), "a body has a program");
    assert_eq!(manifest.matches("[[bin]]").count(), targets.len(), "a [[bin]] has a program");
    let folders = std::fs::read_dir(root().join("tests/fuzz/corpus")).unwrap();
    let folders: BTreeSet<String> =
        folders.map(|folder| folder.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(folders.iter().map(String::as_str).eq(targets), "seeds of no target: {folders:?}");
}
