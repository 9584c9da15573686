//! Events with any fields: a macro knows them when it is compiled, a fuzzer does not.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use parking_lot::Mutex;
use tracing::{
    Level, Metadata,
    callsite::{Callsite, Identifier},
    field::FieldSet,
    metadata::Kind,
    subscriber::Interest,
};

/// Field sets live as long as the process: beyond this many names only known ones are used.
const MOST_NAMES: usize = 100_000;

struct Here;
static HERE: Here = Here;
static META: Metadata<'static> = metadata(&["message"]);

impl Callsite for Here {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        &META
    }
}

const fn metadata(names: &'static [&'static str]) -> Metadata<'static> {
    let fields = FieldSet::new(names, Identifier(&HERE));
    Metadata::new("event", "fuzz::\"target\"", Level::INFO, None, None, None, fields, Kind::EVENT)
}

/// What an event of these fields is made of, leaked once.
pub fn event_of(names: BTreeSet<String>) -> Option<&'static Metadata<'static>> {
    static KNOWN: LazyLock<Mutex<HashMap<BTreeSet<String>, &'static Metadata<'static>>>> =
        LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock();
    if known.len() >= MOST_NAMES {
        return known.get(&names).copied();
    }
    Some(*known.entry(names.clone()).or_insert_with(|| {
        let all = ["message".to_owned()].into_iter().chain(names);
        let all: Vec<&'static str> = all.map(|name| &*name.leak()).collect();
        Box::leak(Box::new(metadata(all.leak())))
    }))
}
