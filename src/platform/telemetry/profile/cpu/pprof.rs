//! A profile as a file for `go tool pprof`, Grafana and the like: gzipped protobuf of the messages in
//! <https://github.com/google/pprof/blob/main/proto/profile.proto>, of which the fields used are declared here.

use std::{
    collections::HashMap,
    io::Write as _,
    time::{Duration, SystemTime},
};

use flate2::{Compression, write::GzEncoder};
use prost::Message as _;

use super::Profile;
use crate::platform::error::{Error, Result};

/// `perftools.profiles.Profile`. Texts are positions in `string_table`, whose first is empty.
#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// The string table as it grows.
struct Strings<'a> {
    table: Vec<String>,
    positions: HashMap<&'a str, i64>,
}

impl<'a> Strings<'a> {
    fn new() -> Self {
        Self { table: vec![String::new()], positions: HashMap::from([("", 0)]) }
    }

    fn position(&mut self, text: &'a str) -> i64 {
        *self.positions.entry(text).or_insert_with(|| {
            self.table.push(text.to_owned());
            self.table.len() as i64 - 1
        })
    }
}

impl Profile {
    /// The profile for tools: gzipped protobuf, one location a function (samples don't tell lines apart).
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::platform::error::Kind::Internal) when it can't be compressed.
    pub fn pprof(&self) -> Result<Vec<u8>> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&self.file().encode_to_vec()).map_err(Error::internal)?;
        gzip.finish().map_err(Error::internal)
    }

    fn file(&self) -> File {
        let summary = self.summary();
        let mut strings = Strings::new();
        let period = 1_000_000_000 / i64::from(self.hertz);
        let count = ValueType { r#type: strings.position("samples"), unit: strings.position("count") };
        let time = ValueType { r#type: strings.position("cpu"), unit: strings.position("nanoseconds") };
        // Says that names are in the file: without it tools look for the binary.
        let name = strings.position(env!("CARGO_PKG_NAME"));
        let binary = Mapping { id: 1, filename: name, has_functions: true };
        let thread = strings.position("thread");
        let sample = self.stacks.iter().map(|stack| Sample {
            location_id: stack.functions.iter().map(|function| id(*function)).collect(),
            value: vec![stack.samples as i64, stack.samples as i64 * period],
            label: vec![Label { key: thread, str: strings.position(&stack.thread) }],
        });
        let sample = sample.collect();
        let function = self.functions.iter().enumerate().map(|(position, function)| Function {
            id: id(position),
            name: strings.position(&function.name),
            system_name: strings.position(&function.symbol),
            filename: strings.position(&function.file),
        });
        let function = function.collect();
        let location = (0..self.functions.len()).map(|position| Location {
            id: id(position),
            mapping_id: binary.id,
            line: vec![Line { function_id: id(position) }],
        });
        let since = self.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        File {
            sample_type: vec![count, time],
            sample,
            mapping: vec![binary],
            location: location.collect(),
            function,
            time_nanos: nanos(since),
            duration_nanos: nanos(self.lasted),
            period_type: Some(time),
            period,
            comment: vec![strings.position(&summary), strings.position(super::LEFT_OUT)],
            string_table: strings.table,
        }
    }
}

/// Ids begin with 1; 0 is "none".
fn id(position: usize) -> u64 {
    position as u64 + 1
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn every_reference_leads_to_its_text() {
        let gzipped = super::super::tests::profile().pprof().unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(gzipped.as_slice()).read_to_end(&mut bytes).unwrap();
        let file = File::decode(bytes.as_slice()).unwrap();
        let text = |position: i64| file.string_table[position as usize].as_str();
        assert_eq!(text(0), "");
        let types: Vec<_> = file.sample_type.iter().map(|value| (text(value.r#type), text(value.unit))).collect();
        assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
        let names = |sample: &Sample| {
            let of = |id: &u64| {
                let location = file.location.iter().find(|location| location.id == *id).unwrap();
                let function = file.function.iter().find(|known| known.id == location.line[0].function_id).unwrap();
                text(function.name).to_owned()
            };
            sample.location_id.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(names(&file.sample[0]), ["<[u8; 2] as Sum>::sum", "main"]);
        assert_eq!(file.sample[0].value, [6, 60_606_060]);
        assert_eq!(names(&file.sample[1]), ["walk", "walk", "main"]);
        let label = file.sample[1].label[0];
        assert_eq!((text(label.key), text(label.str)), ("thread", "main"));
        assert_eq!((file.duration_nanos, file.period), (2_000_000_000, 10_101_010));
    }
}
