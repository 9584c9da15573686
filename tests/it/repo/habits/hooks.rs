//! `make hooks`: what its hooks refuse and what they let pass, in a repository of their own.

use std::{
    process::Output,
    time::{Duration, Instant},
};

use crate::repo::scratch::{Scratch, command};

/// A repository with the hooks, and one commit.
struct Hooked(Scratch);

impl std::ops::Deref for Hooked {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.0
    }
}

impl Hooked {
    fn new() -> Self {
        let hooks = ["scripts/hooks.sh", "scripts/hooks/pre-commit", "scripts/hooks/commit-msg", "rustfmt.toml"];
        let scratch = Scratch::of(|path| hooks.contains(&path));
        scratch.write("Cargo.toml", "[package]\nedition = \"2024\"\n");
        // Without the hooks: this message has no form at all.
        scratch.commit();
        Self(scratch)
    }

    /// A commit may be refused.
    fn git(&self, arguments: &[&str]) -> Output {
        command(self.root(), "git").args(arguments).output().unwrap()
    }

    /// Stages this file, tries to commit it, and takes it back.
    fn commit(&self, path: &str, bytes: &[u8], message: &str) -> Output {
        self.write(path, bytes);
        assert!(self.git(&["add", "--all"]).status.success());
        let output = self.git(&["commit", "--quiet", "--message", message]);
        self.git(&["reset", "--quiet", "--hard", "HEAD"]);
        output
    }

    #[track_caller]
    fn refused(&self, path: &str, bytes: &[u8], reason: &str) {
        let output = self.commit(path, bytes, "docs: Say something");
        assert!(!output.status.success() && said(&output).contains(reason), "{path}: {}", said(&output));
    }

    #[track_caller]
    fn taken(&self, path: &str, bytes: &[u8], message: &str) {
        let output = self.commit(path, bytes, message);
        assert!(output.status.success(), "{path}, `{message}`: {}", said(&output));
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn hooks_refuse_what_a_look_can_find_and_nothing_else() {
    let scratch = Hooked::new();
    assert!(scratch.run("scripts/hooks.sh", &[]).status.success());
    let began = Instant::now();
    scratch.taken("src/lib.rs", b"pub fn one() -> u32 {\n    1\n}\n", "lib: Count to one");
    assert!(began.elapsed() < Duration::from_secs(10), "a commit took {:?}", began.elapsed());

    scratch.refused("src/lib.rs", b"pub fn one()->u32{1}\n", "src/lib.rs is not as rustfmt writes it");
    scratch.refused("scripts/x.sh", b"if true; then\n", "scripts/x.sh is no bash");
    scratch.refused("a.txt", b"a", "a.txt has no end of line");
    scratch.refused("a.txt", b"a \n", "see the lines above");
    scratch.refused("a.txt", b"<<<<<<< ours\na\n=======\nb\n>>>>>>> theirs\n", "see the lines above");
    scratch.refused("heap.pb.gz", &[0x1f, 0x8b, 0, 0xff], "heap.pb.gz is no text");
    scratch.refused("big.txt", "line\n".repeat(200_000).as_bytes(), "big.txt has 1000000 bytes");
    let key = format!("-----BEGIN {} KEY-----\n", "RSA PRIVATE");
    scratch.refused("a.txt", key.as_bytes(), "a.txt adds what looks like a secret");
    let token = format!("token = \"ghp_{}\"\n", "a1".repeat(18));
    scratch.refused("config/x.toml", token.as_bytes(), "config/x.toml adds what looks like a secret");

    scratch.taken("tests/it/canaries.rs", format!("// {token}").as_bytes(), "tests: Plant a canary");
    scratch.taken("tests/fuzz/corpus/x/seed", b"a \r", "fuzz: Add a seed");
    scratch.taken("empty", b"", "docs: Add what is empty");
}

#[test]
fn what_is_staged_counts_not_what_lies_there() {
    let scratch = Hooked::new();
    assert!(scratch.run("scripts/hooks.sh", &[]).status.success());
    scratch.write("src/lib.rs", b"pub fn one() {}\n");
    assert!(scratch.git(&["add", "src/lib.rs"]).status.success());
    scratch.write("src/lib.rs", b"pub fn one(){\n");
    let output = scratch.git(&["commit", "--quiet", "--message", "lib: Count to one"]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_first_line_has_a_form() {
    let scratch = Hooked::new();
    assert!(scratch.run("scripts/hooks.sh", &[]).status.success());
    for (at, message) in
        ["orders: Reject it", "repo: Hold 2 things; ask", "fixup! orders: Reject it"].iter().enumerate()
    {
        scratch.taken(&format!("{at}.txt"), b"a\n", message);
    }
    let long = format!("orders: {}", "A".repeat(100));
    for message in ["wip", "Orders: Reject it", "orders: reject it", "orders: Reject it.", &long] {
        let output = scratch.commit("a.txt", b"a\n", message);
        assert!(!output.status.success() && said(&output).contains("commit refused"), "`{message}`: {}", said(&output));
    }
}

#[test]
fn hooks_go_as_they_came_and_replace_nobodys() {
    let scratch = Hooked::new();
    let path = || said(&scratch.git(&["config", "--get", "core.hooksPath"])).trim().to_owned();
    assert!(scratch.run("scripts/hooks.sh", &[]).status.success());
    assert!(scratch.run("scripts/hooks.sh", &[]).status.success(), "a second time");
    assert_eq!(path(), "scripts/hooks");
    assert!(scratch.run("scripts/hooks.sh", &[("OFF", "1")]).status.success());
    assert_eq!(path(), "");
    scratch.taken("a.txt", b"a ", "no form at all");
    assert!(scratch.git(&["config", "core.hooksPath", "elsewhere"]).status.success());
    let output = scratch.run("scripts/hooks.sh", &[]);
    assert!(!output.status.success() && said(&output).contains("elsewhere, which is not ours"), "{}", said(&output));
    assert_eq!(path(), "elsewhere");
}
