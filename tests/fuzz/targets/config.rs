//! Configuration out of any file and any variables: no panic, no secret in what is said, and what `config show`
//! prints is read as the same. The input: `NAME=value` lines, a line `---`, and TOML.

use std::{cell::OnceCell, collections::BTreeMap, fs, path::PathBuf};

use keel::{
    config::{DECLARED, FILES, Loaded, load},
    platform::{
        config::{Sources, report, source::WELL_KNOWN},
        telemetry::redact::MASK,
    },
};

/// What stands in the input for the secret.
const PLACEHOLDER: &str = "SECRET";
const SECRET: &str = "s3cr3t-of-the-fuzz-target";

type Variables = BTreeMap<String, String>;

pub fn run(data: &[u8]) {
    let input = String::from_utf8_lossy(data).replace(SECRET, "");
    let (lines, toml) = input.split_once("---\n").unwrap_or((&input, ""));
    let variables: Variables = lines.lines().filter_map(|line| line.split_once('=')).map(variable).collect();
    // In values only: the names of keys are said.
    let toml: String = toml.split_inclusive('\n').map(|line| planted(line, '=')).collect();

    fs::write(directory().join("development.toml"), &toml).expect("the directory is ours");
    let loaded = load(&sources(&variables));
    let shown = report::show(&loaded.merged, DECLARED);
    let debug = format!("{:?}", loaded.config);
    let environment = loaded.config.environment;
    loaded.config.warnings(&variables);
    loaded.config.secrets(&variables);
    let (is_valid, is_secret) = (loaded.faults.is_empty(), stands_under_secrets_names(&loaded));
    let faults = loaded.servable().err();
    if let Some(faults) = &faults {
        assert!(!faults.is_empty() && faults.lines().iter().all(|line| !line.is_empty()), "{faults}");
    }
    if is_secret {
        let said = faults
            .iter()
            .flat_map(|faults| faults.lines())
            .map(|line| line.split_once(": unknown key (").map_or(&**line, |(_, where_from)| where_from));
        said.chain([&*shown, &*debug]).for_each(|text| assert!(!text.contains(SECRET), "{text}\n{input}"));
    }
    if is_valid {
        let environment = directory().join(format!("{}.toml", environment.as_str()));
        reads_as_the_same(&shown, &debug, &variables, &environment);
    }
}

/// A secret's file may be any file, a pipe that nobody writes to as well: ours only.
fn variable((name, value): (&str, &str)) -> (String, String) {
    let value = if name.ends_with("_FILE") {
        let file = directory().join("secret");
        fs::write(&file, format!("{SECRET}\n")).expect("the directory is ours");
        file.to_string_lossy().into_owned()
    } else if is_secrets_variable(name) {
        value.replace(PLACEHOLDER, SECRET)
    } else {
        value.to_owned()
    };
    (name.to_owned(), value)
}

fn is_secrets_variable(name: &str) -> bool {
    secrets().any(|(path, is_secret)| {
        let is_named = WELL_KNOWN.iter().any(|(known, key)| *known == name && *key == path);
        is_secret && (is_named || format!("APP__{}", path.to_uppercase().replace('.', "__")) == name)
    }) || (name.starts_with("OTEL_EXPORTER_OTLP_") && name.ends_with("HEADERS"))
}

/// All keys, and whether they are secrets'.
fn secrets() -> impl Iterator<Item = (String, bool)> {
    DECLARED
        .iter()
        .flat_map(|section| section.keys.iter().map(move |key| (format!("{}.{}", section.name, key.name), key.secret)))
}

fn planted(line: &str, mark: char) -> String {
    let at = line.find(mark).unwrap_or(line.len());
    format!("{}{}", &line[..at], line[at..].replace(PLACEHOLDER, SECRET))
}

/// Whether the secret is one: under another's name it may be said.
fn stands_under_secrets_names(loaded: &Loaded) -> bool {
    let value = |path: &str| loaded.merged.get(path).map(|found| format!("{:?}", found.value)).unwrap_or_default();
    secrets().all(|(path, is_secret)| is_secret || !value(&path).contains(SECRET))
}

fn reads_as_the_same(shown: &str, debug: &str, variables: &Variables, file: &PathBuf) {
    let secret = format!("= {MASK}  # ");
    // Of secrets, those out of variables are still there.
    if shown.contains(&format!("{secret}config/")) {
        return;
    }
    let lines: Vec<&str> = shown.lines().filter(|line| !line.contains(&secret)).collect();
    let text = lines.join("\n");
    if text.contains(MASK) {
        return;
    }
    fs::write(file, &text).expect("the directory is ours");
    let again = load(&sources(variables));
    fs::remove_file(file).expect("the directory is ours");
    assert!(again.faults.is_empty(), "{}\n{text}", again.faults);
    assert_eq!(format!("{:?}", again.config), debug, "{text}");
}

fn sources(variables: &Variables) -> Sources {
    Sources { directory: Some(directory()), variables: variables.clone(), built_in: FILES }
}

fn directory() -> PathBuf {
    thread_local!(static DIRECTORY: OnceCell<tempfile::TempDir> = const { OnceCell::new() });
    DIRECTORY.with(|directory| {
        directory.get_or_init(|| tempfile::tempdir().expect("a temporary directory")).path().to_owned()
    })
}
