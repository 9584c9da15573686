//! Typed settings: sections, keys and the reader that reports every fault at once.
//!
//! Where values come from is `source`; what a single value may be is `value`; how the result is
//! printed is `report`. Each section is declared beside its owner with [`section!`].

pub mod report;
pub mod source;
pub mod value;

use std::fmt;

pub use source::{Environment, Sources};
pub use value::{ByteSize, Secret, Setting};

/// One documented key of a section.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: &'static str,
    pub secret: bool,
    pub doc: &'static [&'static str],
}

/// A group of settings with one owner.
pub trait Section: Sized {
    /// Dotted name of the table in the files: `http`, `admin.readiness`.
    const NAME: &'static str;
    const DOC: &'static [&'static str];
    const KEYS: &'static [Key];

    fn read(reader: &mut Reader<'_>) -> Self;
}

/// What a section declares, without its type: for the reference and for the unknown-key check.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    pub name: &'static str,
    pub doc: &'static [&'static str],
    pub keys: &'static [Key],
}

impl Declared {
    pub const fn of<S: Section>() -> Self {
        Self { name: S::NAME, doc: S::DOC, keys: S::KEYS }
    }
}

/// Everything wrong with a configuration, one line each; never holds a secret's value.
#[derive(Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    pub fn add(&mut self, fault: impl Into<String>) {
        self.0.push(fault.into());
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            writeln!(f, "configuration: {fault}")?;
        }
        write!(
            f,
            "configuration: {} fault(s); `keel config reference` lists every key, `keel config show` where each value comes from",
            self.0.len()
        )
    }
}

impl std::error::Error for Faults {}

/// Reads typed values out of merged layers and collects what does not fit.
pub struct Reader<'a> {
    merged: &'a source::Merged,
    pub faults: Faults,
}

impl<'a> Reader<'a> {
    /// Goes on collecting where the layers' own faults end.
    pub fn new(merged: &'a source::Merged, faults: Faults) -> Self {
        Self { merged, faults }
    }

    /// The value of `section.key`; after a fault the built-in default stands in, so that reading goes on.
    pub fn take<T: Setting>(&mut self, section: &str, key: &str, range: Option<std::ops::RangeInclusive<T>>) -> T {
        let path = format!("{section}.{key}");
        let fault = match self.merged.get(&path) {
            None => format!("{path}: missing"),
            Some(found) => match T::parse(&found.value) {
                Ok(value) => match range.filter(|range| !T::within(&value, range)) {
                    None => return value,
                    Some(range) => format!(
                        "{path}: {} is outside {}..={} (from {})",
                        value.show(),
                        range.start().show(),
                        range.end().show(),
                        found.origin
                    ),
                },
                Err(expected) if T::SECRET => format!("{path}: {expected} (from {}; value not shown)", found.origin),
                Err(expected) => {
                    format!("{path}: {expected}, got {} (from {})", value::shown(&found.value), found.origin)
                }
            },
        };
        self.faults.add(fault);
        let default = self.merged.default_of(&path).expect("config/default.toml has every declared key (tested)");
        T::parse(default).expect("config/default.toml parses (tested)")
    }
}

/// Declares a settings struct, its documented keys and how each is read.
///
/// ```ignore
/// section! {
///     /// The public listener.
///     pub struct HttpConfig in "http" {
///         /// Connections accepted at once.
///         pub max_connections: u32 => 1..=100_000,
///     }
/// }
/// ```
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident in $path:literal {
            $( $(#[doc = $key_doc:literal])* pub $key:ident: $type:ty $(=> $range:expr)? ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        pub struct $name { $( $(#[doc = $key_doc])* pub $key: $type ),* }

        impl $crate::platform::config::Section for $name {
            const NAME: &'static str = $path;
            const DOC: &'static [&'static str] = &[$($doc),*];
            const KEYS: &'static [$crate::platform::config::Key] = &[
                $( $crate::platform::config::Key {
                    name: stringify!($key),
                    kind: <$type as $crate::platform::config::Setting>::KIND,
                    secret: <$type as $crate::platform::config::Setting>::SECRET,
                    doc: &[$($key_doc),*],
                } ),*
            ];

            fn read(reader: &mut $crate::platform::config::Reader<'_>) -> Self {
                Self { $( $key: reader.take($path, stringify!($key), $crate::section!(@range $($range)?)) ),* }
            }
        }
    };
    (@range) => { None };
    (@range $range:expr) => { Some($range) };
}
