//! The example can be taken out of the suite: `make strip-example` takes away the files with its name and the lines
//! with its name, so that nothing else may need it. Goes with the example itself.

use regex::Regex;

use super::{File, files};

/// Files of other rooms that name it, each with the reason.
const ALLOWED: &[(&str, &str)] = &[(
    "tests/it/repo/deploy/collector/contents.rs",
    "log lines and addresses as samples for the collector's patterns",
)];

fn is_example(file: &File) -> bool {
    file.path.to_lowercase().contains("shop")
}

#[test]
fn outside_its_own_files_no_test_needs_the_example() {
    let names = Regex::new(concat!(
        r"/v1/(products|orders|users)\b|keel::shop",
        r"|\b(from|into|update|table|truncate|insert on|update on) (products|orders|order_lines|users)\b",
    ))
    .unwrap();
    let (mut found, mut unused) = (Vec::new(), ALLOWED.iter().map(|(path, _)| *path).collect::<Vec<_>>());
    for file in files(&["tests/it"]).iter().filter(|file| !is_example(file)) {
        for line in file.text.lines().filter(|line| names.is_match(line)) {
            unused.retain(|path| *path != file.path);
            if !ALLOWED.iter().any(|(path, _)| *path == file.path) {
                found.push(format!("{}: {}", file.path, line.trim()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "what is shown of the platform needs no example: take `support::things` or `/v1/tenant`, or put the test into \
         tests/it/shop\n{}",
        found.join("\n")
    );
    assert!(unused.is_empty(), "allowed for nothing: {unused:?}");
}

#[test]
fn a_line_with_its_name_ends_what_it_begins() {
    let mut found = Vec::new();
    // `repo`, `drills` and `dashboards` go by what they check, which is taken apart with them.
    let rooms = ["platform", "security", "chaos", "harness", "support"].map(|room| format!("tests/it/{room}"));
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    for file in files(&rooms).iter().filter(|file| !is_example(file) && !file.is_in("tests/it/support/stack")) {
        for line in file.code().into_iter().filter(|line| line.to_lowercase().contains("shop")) {
            let balance = |open: char, close: char| line.matches(open).count() == line.matches(close).count();
            let is_whole =
                balance('(', ')') && balance('[', ']') && balance('{', '}') && line.ends_with([',', ';', ')']);
            if !is_whole {
                found.push(format!("{}: {line}", file.path));
            }
        }
    }
    assert!(found.is_empty(), "without this line the rest is no code:\n{}", found.join("\n"));
}
