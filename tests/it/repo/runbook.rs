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
echo \"of $PID with $API_KEY\" >\"$MARKS/destroyed\"
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
    /// What the destructive block left behind.
    left: String,
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
        .env_remove("ENVIRONMENT")
        .env_remove("API")
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
        left: std::fs::read_to_string(directory.path().join("destroyed")).unwrap_or_default(),
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
    let walked = walk("what?\ny\ny\n4711\ny\n\ny\nhidden\n\nn\ny\n", &[("RUN", "1")]);
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
    let walked = walk("n\nn\nn\ny\nhidden\n4711\ny\nn\n", &[("RUN", "1")]);
    assert!(!walked.looked && walked.destroyed, "{}", walked.printed);
}

#[test]
fn what_destroys_is_shown_with_its_values_before_the_second_question() {
    // The first step takes 4711, the last one another.
    let walked = walk("n\ny\n4711\nn\ny\nhidden\n4712\ny\nn\n", &[("RUN", "1")]);
    assert_eq!(walked.left, "of 4712 with hidden\n", "{}", walked.printed);
    let (before, _) = walked.printed.split_once("Really?").unwrap();
    assert!(before.contains("> echo \"of 4712 with $API_KEY\""), "{before}");
    // What was right for one step is offered, not taken.
    assert!(before.contains("PID [4711] = ") && walked.timeline.contains("PID is 4712"), "{before}");
}

#[test]
fn a_secret_is_neither_shown_nor_recorded() {
    let walked = walk("n\nn\nn\ny\nhidden\n4711\ny\nn\n", &[("RUN", "1")]);
    assert!(walked.left.contains("hidden"));
    assert!(walked.timeline.contains("API_KEY is (a secret)"), "{}", walked.timeline);
    assert!(!walked.timeline.contains("hidden") && !walked.printed.contains("hidden"), "{}", walked.printed);
}

#[test]
fn in_a_cluster_it_asks_which_environment_before_anything_else() {
    let walked = walk("staging\nhttps://api.example.com\nq\n", &[("RUN", "1"), ("WHERE", "cluster")]);
    let entries = ["ENVIRONMENT is staging", "API is https://api.example.com", "ended by hand"];
    assert!(entries.iter().all(|entry| walked.timeline.contains(entry)), "{}", walked.timeline);
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

/// What a function of `runbooks/env.sh` prints, both streams, with programs in place of curl and kubectl.
fn in_env(function: &str, programs: &[(&str, &str)], variables: &[(&str, &str)]) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new().unwrap();
    for (name, text) in programs {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/usr/bin/env bash\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &format!("source runbooks/env.sh; {function}")]).current_dir(super::root());
    let output =
        bash.env("PATH", path).env("MARKS", directory.path()).envs(variables.iter().copied()).output().unwrap();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn no_series_means_something_only_where_the_environment_is_known() {
    let curl = r#"
        case "$*" in
          *last_over_time*) metric='{"environment":"staging"}' ;;
          *panics*) metric= ;;
          *) metric='{"job":"keel"}' ;;
        esac
        printf '{"status":"success","data":{"result":[%s]}}' "${metric:+{\"metric\":$metric,\"value\":[1,\"1\"]\}}""#;
    let asked = |query: &str, environment: &str| {
        in_env(&format!("promq '{query}'"), &[("curl", curl)], &[("ENVIRONMENT", environment)])
    };
    let warning = "Prometheus knows no service in environment \"production\", only in: staging";
    assert_eq!(asked("panics{environment=\"staging\"}", "staging"), "no series\n");
    assert_eq!(asked("panics{environment=\"production\"}", "production"), format!("no series\n{warning}\n"));
    assert_eq!(asked("panics", "production"), "no series\n");
    assert_eq!(asked("up{environment=\"production\"}", "production"), "{\"job\":\"keel\"} 1\n");
}

#[test]
fn an_instance_of_a_cluster_is_asked_through_its_pod() {
    let curl = r#"echo "curl $*""#;
    let kubectl = r#"
        case "$*" in
          *'status.podIP=10.1.2.3 '*) echo pod/keel-7 ;;
          *'port-forward pod/keel-7 :9464') echo 'Forwarding from 127.0.0.1:40123 -> 9464'; echo $$ >"$MARKS/forward"; exec sleep 60 ;;
          *'port-forward '*) echo 'error: refused' ;;
        esac"#;
    let ask = |instance: &str, place: &str| {
        let function = format!(
            "ask_instance {instance}/debug/requests --max-time 5 || echo \"exit code $?\"; \
             if [[ -s $MARKS/forward ]] && kill -0 \"$(cat \"$MARKS/forward\")\" 2>/dev/null; then echo 'still forwards'; fi"
        );
        let variables = [("WHERE", place), ("ENVIRONMENT", "production"), ("API", "https://api.example.com")];
        in_env(&function, &[("curl", curl), ("kubectl", kubectl)], &variables)
    };
    let said = "curl --silent --show-error --max-time 30 --max-time 5 http://";
    assert_eq!(ask("10.1.2.3:9464", "local"), format!("{said}10.1.2.3:9464/debug/requests\n"));
    assert_eq!(ask("10.1.2.3:9464", "cluster"), format!("{said}127.0.0.1:40123/debug/requests\n"));
    assert_eq!(ask("10.9.9.9:9464", "cluster"), "exit code 1\nno pod has the address 10.9.9.9\n");
    assert_eq!(ask("10.1.2.3:9121", "cluster"), "exit code 1\nkubectl port-forward: error: refused\n");
}
