//! The layers of the configuration, lowest first: `config/default.toml`, `config/<environment>.toml`,
//! environment variables, `*_FILE` secrets. Each value keeps where it came from.

use std::{collections::BTreeMap, path::PathBuf};

use config::{ConfigBuilder, ConfigError, FileFormat, Map, Source, Value, ValueKind, builder::DefaultState};

use super::{Declared, Faults};
use crate::choice;

choice! {
    /// Which `config/<environment>.toml` applies, and how strict the checks are.
    pub enum Environment {
        Development = "development",
        Test = "test",
        Staging = "staging",
        Production = "production",
    }
}

impl Environment {
    pub const ALL: [Self; 4] = [Self::Development, Self::Test, Self::Staging, Self::Production];
    pub const VARIABLE: &str = "APP_ENVIRONMENT";

    /// Staging and production: no defaults for secrets.
    pub const fn is_deployed(self) -> bool {
        matches!(self, Self::Staging | Self::Production)
    }
}

/// Variables honoured under the name their own community gave them; they win over the files.
pub const WELL_KNOWN: &[(&str, &str)] = &[
    ("DATABASE_URL", "database.url"),
    ("DATABASE_SYSTEM_URL", "database.system_url"),
    ("DATABASE_MIGRATION_URL", "database.migration_url"),
    ("REDIS_URL", "redis.url"),
    ("SENTRY_DSN", "sentry.dsn"),
    ("RUST_LOG", "log.filter"),
    ("OTEL_SERVICE_NAME", "service.name"),
    ("TOKIO_WORKER_THREADS", "lifecycle.worker_threads"),
];

const PREFIX: &str = "APP__";

/// Where to look: kept apart from the process so that tests give their own.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A directory whose files replace the built-in copies of `config/*.toml`.
    pub directory: Option<PathBuf>,
    pub variables: BTreeMap<String, String>,
    /// Built-in copies of the files: name without `.toml`, text.
    pub built_in: &'static [(&'static str, &'static str)],
}

impl Sources {
    /// The process environment, and `./config` or `$APP_CONFIG_DIR` if it exists.
    pub fn from_process(built_in: &'static [(&'static str, &'static str)]) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
        let all = std::env::vars_os();
        // Other programs' variables may hold anything; one of ours that is no text is as good as misspelt.
        let variables: BTreeMap<String, String> = all
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        let named = variables.get("APP_CONFIG_DIR").map(PathBuf::from);
        let beside = Some(PathBuf::from("config")).filter(|directory| directory.join("default.toml").is_file());
        Self { directory: named.or(beside), variables, built_in }
    }

    pub fn environment(&self, faults: &mut Faults) -> Environment {
        let Some(name) = self.variables.get(Environment::VARIABLE) else { return Environment::Development };
        Environment::ALL.into_iter().find(|known| known.as_str() == name).unwrap_or_else(|| {
            faults.add(format!(
                "{}: expected development, test, staging or production, got \"{name}\"",
                Environment::VARIABLE
            ));
            Environment::Development
        })
    }

    /// Merges all layers and checks what can be checked before types are known.
    pub fn merge(&self, environment: Environment, declared: &[Declared], faults: &mut Faults) -> Merged {
        if let Some(directory) = self.directory.as_ref().filter(|directory| !directory.is_dir()) {
            faults.add(format!("APP_CONFIG_DIR: {} is not a directory", directory.display()));
        }
        let mut builder = ConfigBuilder::<DefaultState>::default();
        let built_in_defaults = self.built_in.iter().find(|(name, _)| *name == "default").map(|(_, text)| *text);
        let built_in_defaults = parse("built in", built_in_defaults.unwrap_or_default());
        let mut defaults = Map::new();
        // Lowest of all: a file of an older version, or one that leaves out sections, lacks nothing.
        if let Ok(layer) = built_in_defaults {
            defaults = layer.0.clone();
            builder = builder.add_source(layer);
        }
        for name in ["default", environment.as_str()] {
            match self.file(name) {
                Ok(layer) => builder = builder.add_source(layer),
                Err(fault) => faults.add(fault),
            }
        }
        builder = builder.add_source(self.environment_layer(declared, faults));
        let mut merged = Merged { values: BTreeMap::new(), defaults: BTreeMap::new() };
        match builder.build().map(|built| built.cache) {
            Ok(root) => flatten("", &root, &mut merged.values),
            Err(error) => faults.add(error.to_string()),
        }
        flatten("", &Value::new(None, ValueKind::Table(defaults)), &mut merged.defaults);
        merged.check_known(declared, faults);
        merged.check_secrets(environment, declared, faults);
        merged
    }

    fn file(&self, name: &str) -> Result<Layer, String> {
        let origin = format!("config/{name}.toml");
        if let Some(directory) = &self.directory {
            let path = directory.join(format!("{name}.toml"));
            match std::fs::read_to_string(&path) {
                Ok(text) => return parse(&origin, &text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
        let text = self.built_in.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text);
        parse(&origin, text)
    }

    /// `APP__SECTION__KEY`, the well-known names, and the `_FILE` form of both.
    fn environment_layer(&self, declared: &[Declared], faults: &mut Faults) -> Layer {
        let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (name, value) in &self.variables {
            let Some((key, from_file)) = key_of(name, declared) else { continue };
            if value.is_empty() {
                continue;
            }
            let value = if from_file {
                match std::fs::read_to_string(value) {
                    Ok(text) => text.trim_end().to_owned(),
                    Err(error) => {
                        faults.add(format!("{key}: {name} points to a file that can't be read: {error}"));
                        continue;
                    }
                }
            } else {
                value.clone()
            };
            if let Some((other, _)) = found.insert(key.clone(), (name.clone(), value)) {
                faults.add(format!("{key}: set twice, by {other} and by {name}; keep one"));
            }
        }
        Layer(
            found
                .into_iter()
                .map(|(key, (name, value))| {
                    let origin = format!("environment variable {name}");
                    (key, Value::new(Some(&origin), ValueKind::String(value)))
                })
                .collect(),
        )
    }
}

/// The key a variable sets, and whether its value is a file's path.
fn key_of(name: &str, declared: &[Declared]) -> Option<(String, bool)> {
    let well_known = |name: &str| WELL_KNOWN.iter().find(|(known, _)| *known == name).map(|(_, key)| (*key).to_owned());
    let prefixed = |name: &str| name.strip_prefix(PREFIX).map(|rest| rest.to_lowercase().replace("__", "."));
    let is_secret = |key: &String| declared.iter().any(|section| section.has_secret(key));
    let plain = well_known(name).or_else(|| prefixed(name));
    let file =
        name.strip_suffix("_FILE").and_then(|name| well_known(name).or_else(|| prefixed(name))).filter(is_secret);
    file.map(|key| (key, true)).or_else(|| plain.map(|key| (key, false)))
}

/// Values of one layer, with their origin.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

fn parse(origin: &str, text: &str) -> Result<Layer, String> {
    // Only where, not what: the parser quotes the line, and a secret may stand in it.
    let mut table = config::File::from_str(text, FileFormat::Toml).collect().map_err(|error| {
        let place = error.to_string().lines().next().unwrap_or_default().to_owned();
        format!("{origin}: {place} (the line is not shown: it may hold a secret)")
    })?;
    table.values_mut().for_each(|value| mark(value, origin));
    Ok(Layer(table))
}

fn mark(value: &mut Value, origin: &str) {
    if let ValueKind::Table(table) = &mut value.kind {
        table.values_mut().for_each(|value| mark(value, origin));
    }
    *value = Value::new(Some(&origin.to_owned()), value.kind.clone());
}

/// A merged value and where it came from.
#[derive(Debug)]
pub struct Found {
    pub value: Value,
    pub origin: String,
}

/// All layers, merged and flattened to dotted keys.
#[derive(Debug)]
pub struct Merged {
    values: BTreeMap<String, Found>,
    defaults: BTreeMap<String, Found>,
}

fn flatten(path: &str, value: &Value, out: &mut BTreeMap<String, Found>) {
    if let ValueKind::Table(table) = &value.kind {
        for (key, value) in table {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            flatten(&path, value, out);
        }
    } else {
        let origin = value.origin().unwrap_or("built in").to_owned();
        out.insert(path.to_owned(), Found { value: value.clone(), origin });
    }
}

impl Merged {
    pub fn get(&self, path: &str) -> Option<&Found> {
        self.values.get(path)
    }

    pub fn default_of(&self, path: &str) -> Option<&Value> {
        self.defaults.get(path).map(|found| &found.value)
    }

    fn check_known(&self, declared: &[Declared], faults: &mut Faults) {
        let known: Vec<String> = declared.iter().flat_map(Declared::paths).collect();
        for (path, found) in self.values.iter().filter(|(path, _)| !known.contains(path)) {
            let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, path));
            let hint = nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
            faults.add(format!("{path}: unknown key (from {}){hint}", found.origin));
        }
    }

    /// A secret in a file that is committed is a leak waiting; only throw-away ones may stand there.
    fn check_secrets(&self, environment: Environment, declared: &[Declared], faults: &mut Faults) {
        for (path, found) in &self.values {
            let set = !matches!(&found.value.kind, ValueKind::String(text) if text.is_empty());
            let in_file = found.origin.starts_with("config/");
            if set && in_file && environment.is_deployed() && declared.iter().any(|section| section.has_secret(path)) {
                faults.add(format!(
                    "{path}: a secret may not stand in {}; use {}{} or its _FILE form",
                    found.origin,
                    PREFIX,
                    path.to_uppercase().replace('.', "__")
                ));
            }
        }
    }
}

impl Declared {
    fn paths(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(|key| format!("{}.{}", self.name, key.name))
    }

    fn has_secret(&self, path: &String) -> bool {
        self.keys.iter().any(|key| key.secret && *path == format!("{}.{}", self.name, key.name))
    }
}
