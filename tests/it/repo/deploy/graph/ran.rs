//! Whether drills run all that runbooks say: a command that was never tried is a guess.

use std::collections::{BTreeMap, BTreeSet};

use super::{Files, NOT_DRILLED};
use crate::drills::{blocks, file::Drill};

/// Each command for one machine is run by a drill of its alert. There is no list of exceptions: what a machine can't
/// do is a block for a cluster.
pub fn every_block_is_run(files: &Files) -> Vec<String> {
    let mut run: BTreeMap<(&str, String), BTreeSet<String>> = BTreeMap::new();
    for (folder, name, text) in files.drills() {
        // One that can't be read is reported elsewhere.
        if let Ok(drill) = Drill::parse(name, text) {
            let of_alert = run.entry((folder, drill.alert.clone())).or_default();
            of_alert.extend(drill.blocks().into_iter().map(ToOwned::to_owned));
        }
    }
    let mut problems = Vec::new();
    for (folder, name, text) in files.runbooks() {
        let has_rules = !files.text(&format!("deploy/prometheus/rules/{folder}.yaml")).is_empty();
        if !has_rules || folder == NOT_DRILLED {
            continue;
        }
        let of_alert = run.remove(&(folder, name.to_owned())).unwrap_or_default();
        for block in blocks::all(text) {
            let place = format!("runbooks/{folder}/{name}.md:{}", block.line);
            if !["bash", "sql"].contains(&block.language.as_str()) {
                problems.push(format!("{place}: a block in `{}`, which nobody can run", block.language));
            } else if block.id.is_empty() {
                problems.push(format!("{place}: a block without a number, which no drill can name"));
            } else if block.runs_here() && !of_alert.contains(&block.id) {
                problems.push(format!("{place}: no drill of {name} runs block {}", block.id));
            }
        }
    }
    problems
}
