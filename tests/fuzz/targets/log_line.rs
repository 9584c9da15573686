//! JSON log lines: any event is one line and one object, with the members every line has, each once.

use std::{
    collections::BTreeSet,
    fmt,
    io::Write,
    sync::{Arc, LazyLock},
    time::Duration,
};

use keel::platform::telemetry::{
    context::{self, RequestContext},
    logs::{
        Format,
        json::{Identity, LineCounts, LogLayer},
        limit::Limiter,
        writer::LogWriter,
    },
};
use parking_lot::Mutex;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;
use tracing::{Dispatch, Event, field::Value};
use tracing_subscriber::layer::SubscriberExt as _;

use super::{event::event_of, input::Input};

/// On every line, in this order.
const REQUIRED: [&str; 7] = ["timestamp", "level", "message", "target", "service", "environment", "version"];
/// Names that a line uses itself, and some that are hard to write.
const NAMES: &[&str] = &[
    "timestamp",
    "level",
    "target",
    "service",
    "environment",
    "version",
    "trace_id",
    "span_id",
    "sampled",
    "request_id",
    "correlation_id",
    "tenant_id",
    "method",
    "route",
    "path",
    "job",
    "password",
    "user.email",
    "a\"b",
    "a\nb",
    "a\\",
    "größe",
    "",
    "\u{2028}",
    "\u{0}",
    "log.file",
    "status",
    "error",
];

struct Line {
    written: Arc<Mutex<Vec<u8>>>,
    writer: LogWriter,
    dispatch: Dispatch,
}

static LINE: LazyLock<Mutex<Line>> = LazyLock::new(|| {
    static COUNTS: LazyLock<LineCounts> = LazyLock::new(LineCounts::default);
    let written = Arc::new(Mutex::new(Vec::new()));
    let writer = LogWriter::spawn(Box::new(Sink(Arc::clone(&written))), || {});
    let identity = Identity { service: "a \"service\"\n".to_owned(), environment: "test", version: "0" };
    let layer = LogLayer::new(writer.clone(), Format::Json, &identity, &COUNTS, Arc::new(Limiter::new(0)), None);
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    Mutex::new(Line { written, writer, dispatch })
});

struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let in_request = input.below(2) == 1;
    let mut name = || match input.below(3) {
        0 => input.text().into_owned(),
        _ => input.pick(NAMES).to_owned(),
    };
    let mut names: BTreeSet<String> = (0..4).map(|_| name()).collect();
    names.remove("message");
    let Some(meta) = event_of(names) else { return };
    let message = input.text();
    let values: Vec<Box<dyn Value>> = (0..4).map(|_| value(&mut input)).collect();
    let line = LINE.lock();
    let log = || {
        let fields: Vec<_> = meta.fields().iter().collect();
        let of = |at: usize| (&fields[at.min(fields.len() - 1)], fields.get(at).map(|_| &*values[at - 1]));
        let all = [(&fields[0], Some(&&*message as &dyn Value)), of(1), of(2), of(3), of(4)];
        let values = meta.fields().value_set(&all);
        line.dispatch.event(&Event::new(meta, &values));
    };
    if in_request {
        let path = input.rest().into_owned();
        let request = RequestContext::new("a".to_owned(), "b".to_owned(), "GET", "/v1/{id}", path);
        context::enter(Arc::new(request), log);
    } else {
        log();
    }
    assert!(line.writer.flush(Duration::from_secs(5)), "the writer writes");
    let written = std::mem::take(&mut *line.written.lock());
    drop(line);
    check(&String::from_utf8(written).expect("a line is UTF-8"));
}

fn value(input: &mut Input<'_>) -> Box<dyn Value> {
    match input.below(5) {
        0 => Box::new(i64::from_le_bytes(input.array())),
        1 => Box::new(u64::from_le_bytes(input.array())),
        2 => Box::new(input.float()),
        3 => Box::new(input.below(2) == 1),
        _ => Box::new(input.text().into_owned()),
    }
}

fn check(written: &str) {
    let line = written.strip_suffix('\n').expect("a line ends");
    assert!(!line.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')), "{line:?}");
    let Members(members) = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    assert!(names.starts_with(&REQUIRED), "{line}");
    let once: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(once.len(), names.len(), "a member stands twice: {line}");
    assert!(members[..REQUIRED.len()].iter().all(|(_, value)| value.is_string()), "{line}");
    assert!(members[0].1.as_str().is_some_and(|at| at.len() == 27 && at.ends_with('Z')), "{line}");
}

/// Of an object, in order; a `Map` would hide what stands twice.
struct Members(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
