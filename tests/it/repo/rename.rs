//! `make rename`, on copies of this tree: what it refuses, that no trace of the old name stays, that it can be taken
//! back to the byte. That a renamed tree builds and passes its own checks is scripts/clones.sh.

use std::process::Output;

use regex::Regex;

use super::scratch::Scratch;

const NAME: &str = env!("CARGO_PKG_NAME");

/// The tree as it is now, changes included, in a repository of its own with one commit.
pub struct Copy(Scratch);

impl std::ops::Deref for Copy {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.0
    }
}

impl Copy {
    pub fn new(planted: &[(&str, &[u8])]) -> Self {
        let copy = Scratch::of(|_| true);
        for (path, bytes) in planted {
            copy.write(path, bytes);
        }
        copy.commit();
        Self(copy)
    }

    fn rename(&self, variables: &[(&str, &str)]) -> Output {
        self.run("scripts/rename.sh", variables)
    }

    /// It works; what it said.
    fn renames(&self, variables: &[(&str, &str)]) -> String {
        let output = self.rename(variables);
        assert!(output.status.success(), "{variables:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// It refuses, says all of this, and has changed nothing.
    pub fn refuses(&self, variables: &[(&str, &str)], reasons: &[&str]) {
        let before = self.git(&["status", "--porcelain", "--untracked-files=all"]);
        let output = self.rename(variables);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{variables:?} was taken: {}", text(&output.stdout));
        for reason in reasons {
            assert!(said.contains(reason), "{variables:?}: `{reason}` is not said: {said}");
        }
        assert_eq!(self.git(&["status", "--porcelain", "--untracked-files=all"]), before, "{variables:?}");
    }

    fn tracked(&self) -> Vec<String> {
        self.git(&["ls-files", "-z"]).split_terminator('\0').map(ToOwned::to_owned).collect()
    }

    /// Where a name still is, in whatever case and with whatever between its words: in files and their names.
    fn traces(&self, name: &str) -> Vec<String> {
        let word = name.replace('-', "[-_ ]?");
        let word = Regex::new(&format!(r"(?i)(?:^|[^a-z0-9]|\\[bnrt]){word}(?:[^a-z0-9]|$)")).unwrap();
        let kept = |path: &str| path == "CHANGELOG.md" || path.starts_with("LICENSE-");
        let mut found = Vec::new();
        for path in self.tracked().into_iter().filter(|path| !kept(path)) {
            let bytes = std::fs::read(self.path(&path)).unwrap();
            let content = String::from_utf8_lossy(&bytes);
            found.extend(content.lines().filter(|line| word.is_match(line)).map(|line| format!("{path}: {line}")));
            found.extend(word.is_match(&path).then_some(path));
        }
        found
    }
}

/// Packages and dependencies in the order of their names, as cargo writes them.
fn is_sorted(lock: &str) -> bool {
    let packages: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
    let mut dependencies = lock.split("dependencies = [\n").skip(1).map(|list| list.split(']').next().unwrap());
    let by_name = |line: &str| line.trim_matches([' ', '"', ',']).to_owned();
    packages.len() > 100 && packages.is_sorted() && dependencies.all(|list| list.lines().is_sorted_by_key(by_name))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Names for the tests, put together here: as words of the tree they could be no one's new name.
pub fn two_words() -> String {
    ["quay", "side"].join("-")
}

fn prose() -> String {
    ["Quay", "Side"].join(" ")
}

fn snake() -> String {
    two_words().replace('-', "_")
}

fn one_word() -> String {
    ["lan", "tern"].concat()
}

fn title_of(manifest: &str) -> String {
    manifest.lines().find_map(|line| line.strip_prefix("metadata.title = \"")).unwrap().trim_end_matches('"').to_owned()
}

/// For a name of one word the place decides: <k> wants it with hyphens, <s> with underscores. <U> is in capitals, <t>
/// the title, and <o> stays, for it is part of another word.
const PLACES: &str = r#"
use <s>::app; fn f() { <s>::g(); } // <k>
env!("CARGO_BIN_EXE_<k>"); "info,<s>=debug"; "OTEL_SERVICE_NAME=<k>"
alter role <s>_app; create database <s> owner <s>_owner; datname = '<s>'; datname="<s>"; psql --dbname=<s>
postgres://<s>_app:pw@db.example.com:5432/<s>?sslmode=disable registry.example.com:5000/<k>:1
<s> = host=db dbname=<s>
kubectl -n <k> logs deployment/<k> <k>-config <k>/annotation ${env:<U>_NAMESPACE:-<k>}_<k>-*
<U>_SERVICES=1 $<U> "\n<k>:x:1" <t>, <t>'s, <o>s, un<o>d, <o>haul
"#;

#[test]
fn no_trace_stays_and_back_it_is_the_same_to_the_byte() {
    let copy = Copy::new(&[("docs/deep/of-NAME/NAME.bin".replace("NAME", NAME).as_str(), b"\0\xff\x01")]);
    let first = copy.git(&["rev-parse", "HEAD"]);
    let (two, one) = (two_words(), one_word());
    let title = title_of(&copy.read("Cargo.toml"));
    let executable = || copy.git(&["ls-files", "--stage"]).lines().filter(|line| line.starts_with("100755")).count();
    let executables = executable();

    let said = copy.renames(&[("NAME", &two)]);
    assert!(said.contains("2 moved") && said.contains("git reset --hard"), "{said}");
    assert_eq!(copy.traces(NAME), Vec::<String>::new());
    assert!(!copy.root().join(format!("docs/deep/of-{NAME}")).exists(), "an empty folder stays");
    let binary = copy.root().join(format!("docs/deep/of-{two}/{two}.bin"));
    assert_eq!(std::fs::read(binary).unwrap(), b"\0\xff\x01");
    assert_eq!(executable(), executables, "executable files");
    for lock in ["Cargo.lock", "tests/fuzz/Cargo.lock"] {
        assert!(is_sorted(&copy.read(lock)), "{lock}");
    }
    assert_eq!(title_of(&copy.read("Cargo.toml")), prose());
    assert!(copy.read("README.md").starts_with(&format!("# {}\n", prose())));

    // Again: not even the dirty tree is in its way.
    let staged = copy.git(&["diff", "--staged"]);
    assert!(copy.renames(&[("NAME", &two)]).contains("already: nothing changed"));
    assert_eq!(copy.git(&["diff", "--staged"]), staged);
    assert!(copy.git(&["diff"]).is_empty() && !staged.is_empty());

    // On to a third name, and away with that.
    copy.commit();
    copy.renames(&[("NAME", &one)]);
    assert_eq!(copy.traces(&two), Vec::<String>::new());
    copy.git(&["reset", "--quiet", "--hard"]);

    copy.renames(&[("NAME", NAME), ("TITLE", &title)]);
    assert_eq!(copy.git(&["diff", "--staged", "--stat", first.trim()]), "", "not what it was");
}

#[test]
fn each_form_follows_from_where_the_name_stands() {
    let (one, two, title) = (one_word(), two_words(), format!("{} & 2.0", prose()));
    let copy = Copy::new(&[]);
    copy.renames(&[("NAME", &one)]);
    let written = |kebab: &str, snake: &str, title: &str| {
        let text = PLACES.replace("<k>", kebab).replace("<s>", snake).replace("<U>", &snake.to_uppercase());
        text.replace("<t>", title).replace("<o>", &one)
    };
    copy.write("docs/planted.txt", written(&one, &one, &["Lan", "tern"].concat()).as_bytes());
    copy.commit();
    let said = copy.renames(&[("NAME", &two), ("TITLE", &title)]);
    assert_eq!(copy.read("docs/planted.txt"), written(&two, &snake(), &title));
    for word in [format!("{one}s"), format!("un{one}d"), format!("{one}haul")] {
        assert!(said.contains(&format!("another word: {word} (docs/planted.txt)")), "{word}: {said}");
    }
}

#[test]
fn bad_names_are_refused_with_the_reason_and_a_way_out() {
    let copy = Copy::new(&[]);
    let long = "a".repeat(26);
    let cases: &[(&str, &[&str])] = &[
        ("", &["which name?", "make rename NAME=your-service"]),
        ("Ice Cream", &["capitals", "For example: ice-cream"]),
        ("ice_cream", &["underscores", "For example: ice-cream"]),
        ("ice.cream", &["only small letters", "For example: ice-cream"]),
        ("icé", &["only small letters"]),
        ("7up", &["begin with a letter", "For example: up"]),
        ("-ice", &["begin with a letter", "For example: ice"]),
        ("ice--cream", &["two hyphens", "For example: ice-cream"]),
        ("ice-", &["end with a hyphen", "For example: ice"]),
        (&long, &["it has 26 letters, 25 are allowed", "Postgres"]),
        ("match", &["keyword of Rust", "For example: match-service"]),
        ("virtual", &["keyword of Rust"]),
        ("core", &["Rust's own"]),
        ("test", &["Rust's own", "For example: test-service"]),
        ("deps", &["cargo has a folder"]),
        ("nul", &["Windows"]),
        ("axum", &["a crate that the service is built of"]),
        ("proc-macro2", &["a crate that the service is built of"]),
        ("serde-json", &["a crate that the service is built of"]),
        ("libfuzzer-sys", &["a crate that the service is built of"]),
        ("pg-ledger", &["pg_", "For example: ledger"]),
        ("kube-ledger", &["kube-"]),
        ("otel-ledger", &["OTEL_"]),
        // Words that the tree has: who would rename back could not tell which of them are the name.
        ("loki", &["`loki` is a word here already", "deploy/", "two words"]),
        ("it", &["`it` is a word here already", " more\n"]),
        ("app", &["`APP` is a word here already"]),
        ("platform", &["`platform` is a word here already"]),
    ];
    for (name, reasons) in cases {
        copy.refuses(&[("NAME", name)], reasons);
    }
    // A binary file may hold the length of what is in it.
    copy.write("docs/planted.bin", format!("\0\x04{NAME}").as_bytes());
    copy.commit();
    copy.refuses(&[("NAME", &two_words())], &["docs/planted.bin: a binary file has the name in it"]);
}

#[test]
fn bad_options_are_refused() {
    let (copy, name) = (Copy::new(&[]), two_words());
    let old = format!("https://example.com/a/{NAME}");
    let cases: &[(&str, &str, &str)] = &[
        ("TITLE", "Over\"Cast", "letters, digits, spaces"),
        ("TITLE", "# Cast", "letters, digits, spaces"),
        ("TITLE", &name, "must differ from the name"),
        ("TITLE", &snake().to_uppercase(), "letters, digits, spaces"),
        ("TITLE", "Prometheus", "`Prometheus` is a word here already"),
        ("DESCRIPTION", "It \"quotes\".", "quotes"),
        ("DESCRIPTION", "Two\nlines", "line ends"),
        ("DESCRIPTION", "$HOME", "not allowed"),
        ("REPOSITORY", "git@github.com:a/b", "an address like https://github.com/your-company/"),
        ("REPOSITORY", "https://github.com", "an address like https://github.com/your-company/"),
        ("REPOSITORY", &old, "has the old name in it"),
    ];
    for (option, value, reason) in cases {
        copy.refuses(&[("NAME", &name), (option, value)], &[reason]);
    }
}

#[test]
fn title_description_and_repository_go_where_they_belong_also_later() {
    let (copy, name, title) = (Copy::new(&[]), two_words(), format!("The {}", prose()));
    copy.renames(&[("NAME", &name)]);
    copy.commit();
    let address = format!("https://github.com/Quaint/{name}");
    let options = [
        ("NAME", &*name),
        ("TITLE", &title),
        ("DESCRIPTION", "Lights the way."),
        ("REPOSITORY", &format!("{address}.git")),
    ];
    copy.renames(&options);
    let manifest = copy.read("Cargo.toml");
    for line in [
        "description = \"Lights the way.\"",
        &format!("metadata.title = \"{title}\""),
        &format!("repository = \"{address}\""),
    ] {
        assert!(manifest.contains(line), "{line}: {manifest}");
    }
    assert!(copy.read("README.md").starts_with(&format!("# {title}\n")));
    let image = copy.read("deploy/Dockerfile");
    assert!(image.contains("image.description=\"Lights the way.\""), "{image}");
    assert!(image.contains(&format!("image.source=\"{address}\"")), "{image}");
    assert!(copy.read("deploy/prometheus/rules/platform.yaml").contains(&format!("runbook_url: {address}/blob/main/")));
    let overlay = copy.read("deploy/kubernetes/overlays/production/kustomization.yaml");
    assert!(overlay.contains(&format!("newName: ghcr.io/quaint/{name}\n")), "{overlay}");
    let placeholders = ["https://github.com/example/", "https://example.com/", "ghcr.io/example/"];
    for placeholder in placeholders.map(|it| format!("{it}{name}")) {
        for path in copy.tracked().iter().filter(|path| path.starts_with("deploy/")) {
            assert!(
                !String::from_utf8_lossy(&std::fs::read(copy.root().join(path)).unwrap()).contains(&placeholder),
                "{path}"
            );
        }
    }
    assert!(copy.renames(&options).contains("nothing changed"));
}

#[test]
fn what_cannot_be_taken_back_is_refused() {
    let (copy, name) = (Copy::new(&[]), two_words());
    copy.write("notes.txt", b"not tracked");
    copy.refuses(&[("NAME", &name)], &["commit or stash", "?? notes.txt"]);
    std::fs::remove_file(copy.root().join("notes.txt")).unwrap();
    copy.write("README.md", b"changed");
    copy.refuses(&[("NAME", &name)], &["commit or stash", "M README.md"]);
    std::fs::remove_dir_all(copy.root().join(".git")).unwrap();
    let output = copy.rename(&[("NAME", &name)]);
    assert!(!output.status.success() && text(&output.stderr).contains("not a git repository"), "{output:?}");
    assert_eq!(copy.read("README.md"), "changed");
}
