//! docs/ADDING.md: its diffs are the files of docs/adding, these apply to this tree, and its table counts what they
//! touch; and `make new-resource` makes what the page says. That what they make compiles and is green, the clones show.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use super::{File, files, root, scratch::Scratch};
use crate::support::process::text;

const PAGE: &str = "docs/ADDING.md";
/// Begins a block of the page that shows the file named behind it.
const FENCE: &str = "```diff ";

fn page() -> String {
    std::fs::read_to_string(root().join(PAGE)).unwrap()
}

fn recipes() -> Vec<File> {
    let mut recipes = files(&["docs/adding"]);
    recipes.retain(|file| file.path.ends_with(".patch"));
    assert!(recipes.len() >= 8, "{}", recipes.len());
    recipes
}

/// The page with each block as its file has it, and the files that are shown.
fn shown(page: &str, recipes: &[File]) -> (String, BTreeSet<String>) {
    let (mut fresh, mut seen, mut inside) = (String::new(), BTreeSet::new(), false);
    for line in page.lines() {
        if inside && line != "```" {
            continue;
        }
        inside = false;
        fresh += &format!("{line}\n");
        if let Some(path) = line.strip_prefix(FENCE) {
            let recipe = recipes.iter().find(|recipe| recipe.path == path);
            fresh += &recipe.unwrap_or_else(|| panic!("{PAGE} shows {path}, which is not there")).text;
            seen.insert(path.to_owned());
            inside = true;
        }
    }
    (fresh, seen)
}

#[test]
fn the_page_shows_each_recipe_as_its_file_has_it() {
    let (page, recipes) = (page(), recipes());
    let (fresh, seen) = shown(&page, &recipes);
    assert!(fresh == page, "{PAGE} shows other diffs than docs/adding has: run `make docs`");
    let all: BTreeSet<String> = recipes.iter().map(|recipe| recipe.path.clone()).collect();
    assert_eq!(seen, all, "{PAGE} shows each of them");
    // One letter more in a block, and it is seen.
    let planted = page.replacen("\n+    ", "\n+     ", 1);
    assert!(planted != page && shown(&planted, &recipes).0 != planted);
}

#[test]
#[ignore = "make docs"]
fn write_the_recipes() {
    std::fs::write(root().join(PAGE), shown(&page(), &recipes()).0).unwrap();
}

/// Whether the patch applies to the tree, or what git says. A tree to which it has been applied is good, too.
fn applies(patch: &str) -> Result<(), String> {
    let apply = |reverse: &[&str]| {
        let mut git = Command::new("git")
            .args(["apply", "--check"])
            .args(reverse)
            .current_dir(root())
            // In a folder of a larger repository git would leave out all files, and say that it is well.
            .env("GIT_CEILING_DIRECTORIES", root().parent().unwrap())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("git is there");
        git.stdin.take().unwrap().write_all(patch.as_bytes()).unwrap();
        let output = git.wait_with_output().unwrap();
        if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
    };
    apply(&[]).or_else(|why| apply(&["--reverse"]).map_err(|_| why))
}

#[test]
fn each_recipe_applies_to_this_tree() {
    let recipes = recipes();
    for recipe in &recipes {
        if let Err(why) = applies(&recipe.text) {
            panic!(
                "{} no longer applies; make the change anew and keep its diff (git diff -U2), then `make docs`:\n{why}",
                recipe.path
            );
        }
    }
    let context = recipes[0].text.lines().find(|line| line.starts_with(" ") && line.len() > 20).unwrap();
    let planted = recipes[0].text.replacen(context, &format!("{context}x"), 1);
    assert!(applies(&planted).is_err(), "a line that is not in the tree is seen");
}

/// What the table says of a recipe: files changed, files new, and lines added to the changed ones.
fn counts(patch: &str) -> String {
    let (mut changed, mut new, mut added) = (0, 0, 0);
    for file in patch.split("\ndiff --git ") {
        let is_new = file.contains("\nnew file mode ");
        let lines = file.lines().filter(|line| line.starts_with('+') && !line.starts_with("+++ ")).count();
        (changed, new, added) = if is_new { (changed, new + 1, added) } else { (changed + 1, new, added + lines) };
    }
    format!("| {changed} | {new} | {added} |")
}

#[test]
fn the_table_counts_what_each_recipe_touches() {
    let page = page();
    for recipe in recipes() {
        let link = format!("({})", recipe.path.trim_start_matches("docs/"));
        let row = page.lines().find(|line| line.starts_with('|') && line.contains(&link));
        let row = row.unwrap_or_else(|| panic!("{PAGE}: its table has no row with {link}"));
        assert!(row.contains(&counts(&recipe.text)), "{row}\nexpected {}", counts(&recipe.text));
    }
}

// --- make new-resource --------------------------------------------------------------------------------------------

const NAME: &str = "margin-notes";
const MODULE: &str = "margin_notes";

/// What the script reads and writes.
struct Copy(Scratch);

impl Copy {
    fn of_the_tree() -> Self {
        let places =
            ["Cargo.toml", "rustfmt.toml", "deploy/grafana/", "docs/", "migrations/", "scripts/", "src/", "tests/it/"];
        Self(Scratch::of(|path| places.iter().any(|place| path.starts_with(place))))
    }

    fn texts(&self) -> BTreeMap<String, String> {
        fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, found);
                } else {
                    let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                    found.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.0.root(), self.0.root(), &mut found);
        found
    }

    fn run(&self, variables: &[(&str, &str)]) -> Output {
        self.0.run("scripts/new-resource.sh", &[&[("DOCS", "no")], variables].concat())
    }
}

#[test]
fn a_new_resource_is_a_folder_a_migration_a_test_and_three_lines() {
    let tree = Copy::of_the_tree();
    let before = tree.texts();
    let made = tree.run(&[("NAME", NAME)]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let after = tree.texts();
    let new: Vec<&str> = after.keys().filter(|path| !before.contains_key(*path)).map(String::as_str).collect();
    let domain = new.iter().find_map(|path| path.strip_prefix("src/")?.split('/').next()).unwrap();
    let mut expected: BTreeSet<String> = ["http", "metrics", "mod", "model", "store"]
        .map(|room| format!("src/{domain}/{MODULE}/{room}.rs"))
        .into_iter()
        .chain([format!("tests/it/{domain}/{MODULE}.rs"), format!("scripts/lib/traffic-{domain}-{NAME}.sh")])
        .collect();
    let dashboard = format!("deploy/grafana/source/{domain}.yaml");
    if !before.contains_key(&dashboard) {
        expected.insert(dashboard.clone());
    }
    let (migrations, rest): (Vec<&str>, Vec<&str>) = new.iter().partition(|path| path.starts_with("migrations/"));
    assert_eq!(rest.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    assert!(
        matches!(migrations[..], [one] if one.starts_with("migrations/2")),
        "the clone's own numbers: {migrations:?}"
    );

    // A line that names it in each list, and its panels.
    let lists = [format!("src/{domain}/mod.rs"), format!("tests/it/{domain}/mod.rs")];
    let named = lists.iter().flat_map(|path| after[path].lines()).filter(|line| line.contains(MODULE));
    assert_eq!(named.count(), 3);
    let changed: Vec<&String> =
        after.iter().filter(|(path, text)| before.get(*path).is_some_and(|old| old != *text)).map(|it| it.0).collect();
    let others = changed.into_iter().filter(|path| !lists.contains(path) && **path != dashboard);
    let others: Vec<&String> = others.filter(|path| *path != "deploy/grafana/kustomization.yaml").collect();
    assert!(others.is_empty(), "{others:?}");
    for (path, text) in after.iter().filter(|(path, _)| new.contains(&path.as_str())) {
        let left = ["widget", "Widget", "crate::domain", "a item"].iter().find(|word| text.contains(**word));
        let left = left.filter(|word| domain != "domain" || **word != "crate::domain");
        assert!(left.is_none(), "{path} still says {left:?}");
        assert!(!path.starts_with("src") || text.starts_with("//!"), "{path}");
    }

    let again = tree.run(&[("NAME", NAME)]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("exists already; nothing was written"), "{}", text(&again.stderr));
    assert_eq!(tree.texts(), after, "the second time changes nothing");
}

#[test]
fn a_name_that_can_not_be_is_refused_with_the_reason() {
    let tree = Copy::of_the_tree();
    let before = tree.texts();
    let refused = [
        ("", "", "which resource?"),
        ("Invoices", "", "lower-case words"),
        ("line items", "", "lower-case words"),
        ("../invoices", "", "lower-case words"),
        ("invoice", "", "named by its plural"),
        ("statuses", "statuses", "one and many need two names"),
        ("references", "", "keyword of SQL"),
        ("types", "", "keyword of Rust"),
        ("lines", "", "calls something of its own"),
        ("jobs", "", "the table jobs exists already"),
    ];
    for (name, singular, reason) in refused {
        let output = tree.run(&[("NAME", name), ("SINGULAR", singular)]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(text(&output.stderr).contains(reason), "{name}: {}", text(&output.stderr));
    }
    assert_eq!(tree.texts(), before, "nothing was written");
}
