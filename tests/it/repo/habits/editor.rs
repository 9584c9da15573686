//! `.editorconfig` and the tree: each file is written as the section for it says, and rustfmt says the same.

use std::collections::BTreeMap;

use regex::Regex;

use super::{named, text, tracked};
use crate::repo::{deploy::none, root};

const FILE: &str = ".editorconfig";

/// The properties of a file: later sections win, `unset` takes a property back.
struct Sections(Vec<(Regex, Vec<(String, String)>)>);

impl Sections {
    fn parse(text: &str) -> Self {
        let mut sections: Vec<(Regex, Vec<(String, String)>)> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(glob) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                sections.push((pattern(glob), Vec::new()));
                continue;
            }
            let (key, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{FILE}: `{line}` sets nothing"));
            match sections.last_mut() {
                Some((_, properties)) => properties.push((key.to_owned(), value.to_owned())),
                None => assert_eq!(line, "root = true", "{FILE}: before the first section"),
            }
        }
        Self(sections)
    }

    fn of(&self, path: &str) -> BTreeMap<&str, &str> {
        let fitting = self.0.iter().filter(|(glob, _)| glob.is_match(path));
        let all = fitting.flat_map(|(_, properties)| properties).map(|(key, value)| (key.as_str(), value.as_str()));
        let mut found: BTreeMap<&str, &str> = all.collect();
        found.retain(|_, value| *value != "unset");
        found
    }
}

/// The globs that the file uses: `*`, `**` and `{a,b}`. One without a slash is about the name alone.
fn pattern(glob: &str) -> Regex {
    let mut regex = regex::escape(glob).replace(r"\*\*", ".*").replace(r"\*", "[^/]*");
    regex = regex.replace(r"\{", "(").replace(r"\}", ")").replace(',', "|");
    let start = if glob.contains('/') { "^" } else { "(^|/)" };
    Regex::new(&format!("{start}{regex}$")).unwrap()
}

fn of_bytes(path: &str, bytes: &[u8], properties: &BTreeMap<&str, &str>) -> Vec<String> {
    let asks = |key: &str, value: &str| properties.get(key) == Some(&value);
    let Ok(text) = std::str::from_utf8(bytes) else {
        let wrong = format!("{path}: it is not UTF-8; is it a file that should be in the tree?");
        return if asks("charset", "utf-8") { vec![wrong] } else { Vec::new() };
    };
    let mut problems = Vec::new();
    let mut say = |number: usize, what: &str| problems.push(format!("{path}:{number}: {what}"));
    if asks("insert_final_newline", "true") && !text.is_empty() && !text.ends_with('\n') {
        say(text.lines().count(), "no end of line at its end");
    }
    let mut continued = false;
    for (number, line) in (1..).zip(text.split('\n')) {
        if asks("end_of_line", "lf") && line.ends_with('\r') {
            say(number, "the line ends with a carriage return");
        }
        if asks("trim_trailing_whitespace", "true") && line.ends_with([' ', '\t']) {
            say(number, "blanks at the end of the line");
        }
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        if asks("indent_style", "space") && indent.contains('\t') {
            say(number, "indented by a tab");
        }
        // What goes on from the line before is aligned, not indented.
        if asks("indent_style", "tab") && indent.starts_with(' ') && !continued {
            say(number, "indented by blanks");
        }
        continued = line.ends_with('\\');
    }
    if let Some(size) = properties.get("indent_size").filter(|_| asks("indent_style", "space")) {
        let deep = text.lines().filter(|line| !line.trim_start().is_empty());
        let first = deep.map(|line| line.len() - line.trim_start_matches(' ').len()).find(|depth| *depth > 0);
        // A continued statement goes twice as deep.
        let size: usize = size.parse().unwrap_or_else(|_| panic!("{FILE}: indent_size is `{size}`"));
        if let Some(first) = first.filter(|first| *first != size && *first != 2 * size) {
            say(0, &format!("its first indent is {first} blanks, {FILE} says {size}"));
        }
    }
    problems
}

#[test]
fn every_file_is_written_as_the_editorconfig_says() {
    let sections = Sections::parse(&text(FILE));
    let paths = tracked();
    assert!(paths.len() > 300, "only {} files", paths.len());
    let problems: Vec<String> = paths
        .iter()
        .flat_map(|path| of_bytes(path, &std::fs::read(root().join(path)).unwrap(), &sections.of(path)))
        .collect();
    none(&problems);
}

#[test]
fn rustfmt_and_the_editor_agree() {
    let sections = Sections::parse(&text(FILE));
    let editor = sections.of("src/main.rs");
    let width = text("rustfmt.toml").lines().find_map(|line| line.strip_prefix("max_width = ").map(ToOwned::to_owned));
    assert_eq!(editor.get("max_line_length").map(|width| (*width).to_owned()), width);
    // rustfmt's own, which rustfmt.toml does not change.
    assert!(!text("rustfmt.toml").contains("tab_spaces") && !text("rustfmt.toml").contains("hard_tabs"));
    assert_eq!((editor["indent_style"], editor["indent_size"]), ("space", "4"));
}

#[test]
fn a_file_that_is_written_otherwise_is_caught() {
    let sections = Sections::parse(&text(FILE));
    let look = |path: &str, bytes: &[u8]| of_bytes(path, bytes, &sections.of(path));
    named(&look("config/x.toml", b"a = 1"), "config/x.toml:1: no end of line");
    named(&look("docs/x.md", b"a\r\n"), "docs/x.md:1: the line ends with a carriage return");
    named(&look("scripts/x.sh", b"a \nb\n"), "scripts/x.sh:1: blanks at the end");
    named(&look("scripts/x.sh", b"if a; then\n\tb\nfi\n"), "scripts/x.sh:2: indented by a tab");
    named(&look("src/x.rs", b"fn x() {\n  y();\n}\n"), "its first indent is 2 blanks");
    named(&look("deploy/x.yaml", b"a:\n   b: 1\n"), "its first indent is 3 blanks");
    named(&look("Makefile", b"x:\n  y\n"), "Makefile:2: indented by blanks");
    named(&look("heap.pb.gz", &[0x1f, 0x8b, 0xff]), "it is not UTF-8");
    none(&look("Makefile", b".PHONY: a \\\n  b\na:\n\tb\n"));
    none(&look("tests/fuzz/corpus/redactor/seed-x", &[0xff, b'\t', b' ', b'\r', b'\n', b' ']));
}
