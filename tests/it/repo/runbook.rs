//! `make runbook`: what it shows, asks, runs and records, driven through its standard input.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::support::process::text;

const DOCUMENT: &str = "---
alert: Planted
severity: ticket
---
# Planted

## 2 Impact

```bash
touch \"$MARKS/looked\"; echo seen
```

## 4 Diagnose

4.1 Look at it, as $PID.

```bash local
echo \"pid is $PID\"
```

```bash cluster
echo in a cluster
```

```sql owner
select $PID;
```

## 5 Mitigate

5.1 Away with it.

```bash destructive
touch \"$MARKS/destroyed\"
```

5.2 What fails.

```bash
exit 7
```
";

/// What was printed, what was recorded, and whether the marks of the blocks are there.
struct Walked {
    printed: String,
    timeline: String,
    looked: bool,
    destroyed: bool,
}

fn walk(answers: &str, variables: &[(&str, &str)]) -> Walked {
    let directory = TempDir::new().unwrap();
    let documents = directory.path().join("runbooks/platform");
    std::fs::create_dir_all(&documents).unwrap();
    std::fs::write(documents.join("Planted.md"), DOCUMENT).unwrap();
    let (incidents, psql) = (directory.path().join("incidents"), directory.path().join("psql"));
    std::fs::write(&psql, "sed 's/^/owner is told: /'\n").unwrap();
    let mut child = Command::new(super::root().join("scripts/runbook.sh"))
        .arg("Planted")
        .env("KEEL_RUNBOOKS", directory.path().join("runbooks"))
        .env("KEEL_INCIDENTS", &incidents)
        .env("MARKS", directory.path())
        .env("PSQL_OWNER", format!("sh {}", psql.display()))
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that asks nothing has ended already.
    let _not_read = child.stdin.take().unwrap().write_all(answers.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let is_there = |name: &str| directory.path().join(name).exists();
    Walked {
        printed: String::from_utf8_lossy(&output.stdout).into_owned(),
        timeline: timeline(&incidents),
        looked: is_there("looked"),
        destroyed: is_there("destroyed"),
    }
}

fn timeline(incidents: &Path) -> String {
    let Ok(mut entries) = std::fs::read_dir(incidents) else { return String::new() };
    let path = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none() && path.to_string_lossy().ends_with("-Planted.md"), "{}", path.display());
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn dry_it_shows_all_and_runs_nothing() {
    let walked = walk("", &[]);
    for shown in
        ["# Planted", "--- 2 bash", "  | touch", "--- 4.1 bash local", "--- 5.1 bash destructive", "nothing was run"]
    {
        assert!(walked.printed.contains(shown), "{shown}: {}", walked.printed);
    }
    assert!(
        !walked.printed.contains("in a cluster") && !walked.printed.contains("alert: Planted"),
        "{}",
        walked.printed
    );
    assert!(!walked.looked && !walked.destroyed && walked.timeline.is_empty());
}

#[test]
fn it_shows_the_clusters_column_on_demand() {
    let walked = walk("", &[("WHERE", "cluster")]);
    assert!(walked.printed.contains("in a cluster") && !walked.printed.contains("--- 4.1 bash local"));
}

#[test]
fn it_runs_what_is_agreed_to_and_records_it() {
    let walked = walk("what?\ny\ny\n4711\ny\ny\nn\ny\n", &[("RUN", "1")]);
    assert!(walked.looked && !walked.destroyed, "{}", walked.printed);
    assert!(walked.printed.contains("5.1 changes what it can't take back. Really?"), "{}", walked.printed);
    let entries = [
        "2 run:",
        "said:",
        "seen",
        "PID is 4711",
        "pid is 4711",
        "owner is told: select 4711;",
        "5.1 not run",
        "5.2 run:",
        "exit code 7",
        "end of the runbook",
    ];
    let mut rest = walked.timeline.as_str();
    for entry in entries {
        let at = rest.find(entry).unwrap_or_else(|| panic!("no `{entry}` in its place: {}", walked.timeline));
        rest = &rest[at..];
    }
}

#[test]
fn what_destroys_is_run_after_the_second_yes() {
    let walked = walk("n\nn\nn\ny\ny\nn\n", &[("RUN", "1")]);
    assert!(!walked.looked && walked.destroyed, "{}", walked.printed);
}

#[test]
fn it_ends_when_told_or_when_nobody_answers() {
    for answers in ["y\nq\n", "y\n"] {
        let walked = walk(answers, &[("RUN", "1")]);
        assert!(walked.looked && !walked.destroyed);
        assert!(walked.timeline.contains("ended by hand") && walked.printed.contains("the timeline is in"));
    }
}

#[test]
fn an_alert_without_a_runbook_is_refused_with_those_there_are() {
    let output = Command::new(super::root().join("scripts/runbook.sh")).arg("NoSuchAlert").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("no runbook 'NoSuchAlert'") && said.contains("Watchdog"),
        "{said}"
    );
}

#[test]
fn in_a_cluster_it_does_not_guess_whom_to_ask() {
    let source = |set: &[(&str, &str)]| {
        let mut bash = Command::new("bash");
        bash.args(["-c", "source runbooks/env.sh && echo \"$ENVIRONMENT $LOGS\""]).current_dir(super::root());
        bash.env_remove("ENVIRONMENT").env_remove("API").envs(set.iter().copied());
        let output = bash.output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    };
    let (cluster, environment) = (("WHERE", "cluster"), ("ENVIRONMENT", "staging"));
    assert!(source(&[]).starts_with("development scripts/up.sh"));
    assert!(source(&[cluster]).contains("ENVIRONMENT=production"));
    assert!(source(&[cluster, environment]).contains("say where users come in"));
    assert!(source(&[cluster, environment, ("API", "https://x")]).starts_with("staging kubectl"));
}
