//! The checks on the checkout, and each of them on a planted fault.

use super::{
    Files, alerts_have_all, commands, form::runbooks_have_their_form, metrics_are_shown, nothing_without_alert,
    ran::every_block_is_run, shown,
};
use crate::repo::deploy::none;

/// Plants a fault, or removes the file where `from` is all of it, and expects the check to name it.
#[track_caller]
pub fn caught(check: fn(&Files) -> Vec<String>, path: &str, from: &str, to: &str, named: &str) {
    let mut files = Files::checkout();
    let text = files.0.get_mut(path).unwrap_or_else(|| panic!("no file {path}: the fault can't be planted"));
    assert!(text.contains(from), "{path} does not contain `{from}`: the fault can't be planted");
    *text = text.replacen(from, to, 1);
    let problems = check(&files);
    assert!(
        problems.iter().any(|problem| problem.contains(named)),
        "`{to}` in {path} was not caught as `{named}`: {problems:#?}"
    );
}

const RULES: &str = "deploy/prometheus/rules/platform.yaml";
const RUNBOOK: &str = "runbooks/platform/HttpErrorBudgetBurn.md";
const DRILL: &str = "runbooks/drills/platform/HttpErrorBudgetBurn.yaml";

#[test]
fn every_alert_has_a_test_a_runbook_a_drill_and_a_dashboard() {
    none(&alerts_have_all(&Files::checkout()));
}

#[test]
fn every_runbook_and_every_drill_has_its_alert() {
    none(&nothing_without_alert(&Files::checkout()));
}

#[test]
fn every_metric_of_an_alert_is_on_a_panel() {
    none(&metrics_are_shown(&Files::checkout()));
}

#[test]
fn runbooks_are_built_alike() {
    none(&runbooks_have_their_form(&Files::checkout()));
}

#[test]
fn every_command_of_a_runbook_is_drilled() {
    none(&every_block_is_run(&Files::checkout()));
}

#[test]
fn what_destroys_says_so_and_was_shown() {
    none(&shown::problems(&Files::checkout()));
}

#[test]
fn what_runbooks_name_exists() {
    none(&commands::problems(&Files::checkout()));
}

#[test]
fn a_fault_in_a_rule_is_caught() {
    caught(
        alerts_have_all,
        RULES,
        "alert: HttpErrorBudgetBurn",
        "alert: HttpErrorBurn",
        "no runbook runbooks/platform/HttpErrorBurn.md",
    );
    caught(alerts_have_all, RULES, "alert: HttpErrorBudgetBurn", "alert: HttpErrorBurn", "no drill");
    caught(alerts_have_all, RULES, "alert: HttpErrorBudgetBurn", "alert: HttpErrorBurn", "no test");
    caught(
        alerts_have_all,
        RULES,
        "platform/HttpErrorBudgetBurn.md",
        "platform/HttpErrorBurn.md",
        "runbook_url does not end with",
    );
    caught(alerts_have_all, RULES, "/d/keel-red?", "/d/keel-read?", "leads to no dashboard");
    caught(metrics_are_shown, RULES, "(panics_total{", "(panic_total{", "no panel shows `panic_total`");
    caught(runbooks_have_their_form, RULES, "severity: page\n", "severity: info\n", "it says severity");
}

#[test]
fn a_fault_in_a_drill_is_caught() {
    caught(nothing_without_alert, DRILL, "severity: page", "severity: info", "with severity info");
    caught(nothing_without_alert, DRILL, "alert: HttpErrorBudgetBurn", "alert: HttpErrorBurn", "not the file's name");
    caught(nothing_without_alert, DRILL, "block: \"4.1\"", "block: \"4.9\"", "no block 4.9");
    caught(nothing_without_alert, DRILL, "KEY_ID:", "KEY:", "wants $KEY_ID");
    caught(nothing_without_alert, DRILL, "KEY_ID:", "KEY:", "does not want it");
    caught(nothing_without_alert, DRILL, "HttpErrorRatioHigh", "HttpErrorRatioHuge", "no such alert");
    caught(nothing_without_alert, DRILL, "within:", "withn:", "unknown field");
}

#[test]
fn a_fault_in_a_runbook_is_caught() {
    caught(runbooks_have_their_form, RUNBOOK, "## 6 Verify", "## 6 Done", "its sections are");
    caught(runbooks_have_their_form, RUNBOOK, "severity: page, ticket", "severity: page", "it says severity");
    caught(runbooks_have_their_form, RUNBOOK, "owner:", "team:", "its front matter has");
    caught(
        nothing_without_alert,
        "runbooks/README.md",
        "(platform/HttpErrorBudgetBurn.md)",
        "",
        "no index of runbooks/ leads to",
    );
    for (from, to, named) in commands::FAULTS {
        caught(commands::problems, RUNBOOK, from, to, named);
    }
}

#[test]
fn a_block_that_destroys_unseen_or_unsaid_is_caught() {
    let caught = |path: &str, from: &str, to: &str, named: &str| caught(shown::problems, path, from, to, named);
    let step = |block: &str| format!("5.9 **Away**.\n\n{block}\n```\n\n## 6 Verify");
    for command in [
        "part restart keel-1",
        "part kill keel-1",
        "kubectl --namespace keel delete pod \"$POD\"",
        "kubectl drain \"$NODE\"",
        "kubectl --namespace keel rollout restart deployment/keel",
        "kubectl --namespace keel rollout undo deployment/keel",
        "appctl api-key revoke --tenant \"$TENANT\" \"$KEY_ID\"",
        "redisq UNLINK key",
        "kill -KILL \"$PID\"",
        "kill \"$PID\"",
    ] {
        caught(RUNBOOK, "## 6 Verify", &step(&format!("```bash\n{command}")), "its fence does not say so");
    }
    let own = "kubectl port-forward pod/x 1:2 & FORWARD=$!; kill %1";
    caught(RUNBOOK, "## 6 Verify", &step(&format!("```bash\n{own}")), "`kill %` may hit another job");

    let (list, revoke) =
        ("appctl api-key list --tenant \"$TENANT\"\n", "```\n\n```bash destructive\nappctl api-key revoke");
    let both = format!("{list}{revoke}");
    caught(
        RUNBOOK,
        &both,
        &revoke.replacen("```\n\n", "", 1).replacen("```bash destructive", "am\n```\n\n```bash destructive", 1),
        "no block before `api-key revoke` shows",
    );
    caught(
        RUNBOOK,
        &both,
        &format!("am\n```\n\n```bash destructive\n{list}appctl api-key revoke"),
        "it shows and destroys in one go",
    );
    caught(RUNBOOK, "rollout history", "rollout status", "no block before `rollout undo` shows");
    caught(RUNBOOK, "get hpa keel", "get pods", "no block before `patch hpa` shows");
    caught(RUNBOOK, "'\"$REPLICAS\"'", "6", "6 instances, and the autoscaler of an overlay allows");
    caught("runbooks/platform/ServiceAbsent.md", "--replicas=3", "--replicas=4", "4 instances");

    let locks = "runbooks/platform/PostgresLockWaits.md";
    let ends = "from pg_stat_activity\nwhere pid = $PID and usename = '$ROLE' and ";
    caught(locks, ends, "from pg_stat_activity\nwhere pid = $PID and ", "does not show the same rows");
    let destructive = "```sql destructive\n";
    caught(locks, destructive, "```sql\n", "its fence does not say so");
    let any = "```sql destructive\nselect pg_terminate_backend(pid) from pg_stat_activity where pid = $PID;\n```\n\n";
    for named in ["it names no role", "no `pid <> pg_backend_pid()`", "no `application_name <> current_setting"] {
        caught(locks, destructive, &format!("{any}{destructive}"), named);
    }
}

#[test]
fn a_command_that_no_drill_runs_is_caught() {
    let named = "no drill of HttpErrorBudgetBurn runs block 5.9";
    let new = "5.9 **Something else**.\n\n```bash local\npart restart redis\n```\n\n## 6 Verify";
    caught(every_block_is_run, RUNBOOK, "## 6 Verify", new, named);
    caught(every_block_is_run, RUNBOOK, "## 6 Verify", &new.replace("bash local", "sql"), named);
    caught(every_block_is_run, RUNBOOK, "## 6 Verify", &new.replace("bash local", "sh"), "a block in `sh`");
    caught(every_block_is_run, RUNBOOK, "## 1 Meaning", "```bash\nam\n```\n\n## 1 Meaning", "without a number");
    // A drill that names one step less.
    caught(every_block_is_run, DRILL, "block: \"4.1\"", "block: \"4.4\"", "runs block 4.1");
    // The number that a step had before the one in front of it went.
    caught(every_block_is_run, RUNBOOK, "4.4 What the code said", "4.5 What the code said", "runs block 4.5");
    let drill = "runbooks/drills/platform/RedisUnavailable-frozen.yaml";
    caught(every_block_is_run, drill, "alert: RedisUnavailable", "alert: RedisGone", "runs block 5.2");
}
