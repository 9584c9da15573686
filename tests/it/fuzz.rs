//! The fuzz targets of tests/fuzz, bounded: random bytes, every seed, and seeds that were changed. More cases with
//! KEEL_FUZZ_CASES.

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};
use tracing::subscriber::{NoSubscriber, with_default};

use crate::repo::root;

// Two crates run the bodies: libFuzzer's, whose library they are, and this one.
#[path = "../fuzz/targets/mod.rs"]
mod targets;

/// What a target gets; a second or two in a debug build.
const CASES: u32 = 2_000;

/// One change to a seed.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index),
    /// A stretch of the seed again, somewhere else.
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    use prop::sample::Index;
    // What texts are made of, more often than chance would have it.
    let marks = prop::sample::select(vec!["\n", "\"", "'", "\\", "=", ":", "{", "}", "[", "]", "ö", "\u{200b}", "%00"]);
    let piece = prop_oneof![vec(any::<u8>(), 1..8), marks.prop_map(|mark| mark.as_bytes().to_vec())];
    prop_oneof![
        3 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        3 => (any::<Index>(), piece).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
    ]
}

fn changed(mut data: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        let length = data.len() + 1;
        match change {
            Change::Set(at, byte) if length > 1 => data[at.index(length - 1)] = byte,
            Change::Set(..) => {}
            Change::Insert(at, bytes) => drop(data.splice(at.index(length)..at.index(length), bytes)),
            Change::Cut(at) => data.truncate(at.index(length)),
            Change::Repeat(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                let stretch = data[from..data.len().min(from + 32)].to_vec();
                data.splice(to..to, stretch);
            }
        }
    }
    data
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = root().join("tests/fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| std::fs::read(file).unwrap()).collect()
}

#[expect(clippy::disallowed_methods, reason = "a setting of the tests, not of the service")]
fn cases(share: u32) -> u32 {
    std::env::var("KEEL_FUZZ_CASES").map_or(CASES / share, |text| text.parse().expect("KEEL_FUZZ_CASES is a number"))
}

/// Runs a target on its seeds and on `CASES / share` other inputs.
fn run(target: &str, share: u32, body: fn(&[u8])) {
    let seeds = seeds(target);
    // What the targets provoke would drown the log of the suite.
    let quiet = |data: &[u8]| with_default(NoSubscriber::default(), || body(data));
    seeds.iter().for_each(|seed| quiet(seed));
    let mutated = (prop::sample::select(seeds), vec(change(), 1..6)).prop_map(|(seed, changes)| changed(seed, changes));
    let data = prop_oneof![1 => vec(any::<u8>(), 0..384), 2 => mutated];
    let config = Config { failure_persistence: None, ..Config::with_cases(cases(share)) };
    let found = TestRunner::new(config).run(&data, |data| {
        quiet(&data);
        Ok(())
    });
    match found {
        Ok(()) => {}
        Err(TestError::Fail(reason, data)) => panic!(
            "{target}: {reason}\nkeep the input as tests/fuzz/corpus/{target}/seed-<what it shows>: b\"{}\"",
            data.escape_ascii()
        ),
        Err(TestError::Abort(reason)) => panic!("{target}: {reason}"),
    }
}

#[test]
fn cursor() {
    run("cursor", 1, targets::cursor);
}

#[test]
fn api_key() {
    run("api_key", 1, targets::api_key);
}

#[test]
fn trace_headers() {
    run("trace_headers", 1, targets::trace_headers);
}

#[test]
fn redactor() {
    run("redactor", 1, targets::redactor);
}

#[test]
fn log_line() {
    run("log_line", 1, targets::log_line);
}

#[test]
fn openmetrics() {
    run("openmetrics", 1, targets::openmetrics);
}

#[test]
fn config() {
    run("config", 2, targets::config);
}
