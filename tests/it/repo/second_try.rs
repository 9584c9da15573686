//! scripts/lib/second-try.sh: which drills are tried again, what is said of them, and that none that has not held passes.

use std::process::Output;

use tempfile::TempDir;

use super::scratch::command;

/// What drills have left, by file; what the second run writes, as commands; whether it was all right then, and the reasons.
fn second_try(left: &[(&str, &str)], run: &str) -> (bool, String) {
    let out = TempDir::new().unwrap();
    for (file, text) in left {
        std::fs::write(out.path().join(file), text).unwrap();
    }
    let script = format!(
        "set -euo pipefail
        source scripts/lib/common.sh
        source scripts/lib/second-try.sh
        run_lanes() {{ [[ $* == '1 runner' ]] && cd \"$KEEL_DRILL_OUT\" && {run}; }}
        status=1
        if second_try runner; then status=0; fi
        printf '==%s' \"${{AGAIN:-}}\"
        exit $status"
    );
    let Output { status, stdout, stderr } =
        command(&super::root(), "bash").args(["-c", &script]).env("KEEL_DRILL_OUT", out.path()).output().unwrap();
    let said = String::from_utf8(stdout).unwrap();
    let (_, again) = said.split_once("==").unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&stderr)));
    (status.success(), again.to_owned())
}

const TAKEN: &str = "";

#[test]
fn what_holds_the_second_time_is_told_with_why_it_failed_first() {
    let why = "Late (ticket) fires  \n\tof 1\n-----+----\n--- alerts at Prometheus\nnoise";
    let left = [("A.taken", TAKEN), ("A.md", "| A |"), ("B.taken", TAKEN), ("B.failed", why)];
    let (held, again) = second_try(&left, "[[ -e A.taken && ! -e B.taken ]] && touch B.taken B.md");
    assert!(held, "{again}");
    assert_eq!(again, "B: Late (ticket) fires\n  of 1\n-----+----");
}

#[test]
fn what_fails_again_and_what_is_not_run_again_stays_failed() {
    let left = [("A.taken", TAKEN), ("A.failed", "no"), ("B.taken", TAKEN), ("B.failed", "no end")];
    assert!(!second_try(&left, "touch A.taken A.md B.taken B.failed").0, "B failed again, and its runner ended well");
    assert!(!second_try(&left, "touch A.taken A.md B.taken B.md; false").0, "the runner failed");
}

#[test]
fn a_runner_that_died_leaves_a_drill_to_be_run() {
    let (held, again) = second_try(&[("A.taken", TAKEN)], "touch A.taken A.md");
    assert!(held && again.starts_with("A: its runner ended"), "{again}");
    assert!(!second_try(&[("A.taken", TAKEN)], "touch A.taken").0);
}

#[test]
fn many_that_fail_at_once_are_no_accident() {
    let names: Vec<String> = (0..7).map(|number| format!("A{number}.taken")).collect();
    let left: Vec<_> = names.iter().map(|name| (name.as_str(), TAKEN)).collect();
    assert!(second_try(&left[..6], "for a in 0 1 2 3 4 5; do touch A$a.md; done").0);
    assert!(!second_try(&left, "for a in 0 1 2 3 4 5 6; do touch A$a.md; done").0);
}
