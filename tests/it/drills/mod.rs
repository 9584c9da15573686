//! `make drill`: for each alert the fault in a running stack, the alert at its receiver, the runbook's own commands to
//! the cause and out of it, and the end of the alert. What is drilled stands in `runbooks/`; this runs it.
//!
//! Several of these processes run at a time, each with servers and a stack of its own, and take the next drill from
//! one pile.

pub mod blocks;
mod control;
pub mod file;
mod machine;
mod part;
mod past;
mod report;
mod run;
mod scale;
mod shell;
mod shop;
mod site;
mod soak;
mod start;
mod surroundings;
mod traffic;
mod traffic_shop;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use axum::{Router, http::header, routing::get};

use crate::{repo, support::services::variable};
use file::{Drill, Settings};
use site::Shared;

const COLLECTOR: &str = "KEEL_DRILL_COLLECTOR";

/// One thing to do.
pub enum Exercise {
    Drill(Box<Drill>, PathBuf),
    Soak,
}

impl Exercise {
    fn name(&self) -> &str {
        match self {
            Self::Drill(drill, _) => &drill.name,
            Self::Soak => soak::NAME,
        }
    }

    /// By its own name, or as one of its alert's.
    fn is(&self, name: &str) -> bool {
        self.name().split('-').next() == Some(name) || self.name() == name
    }

    fn settings(&self) -> Settings {
        match self {
            Self::Drill(drill, _) => drill.stack.clone(),
            Self::Soak => Settings::default(),
        }
    }
}

/// Those that are wanted: all, or what the variable names.
fn exercises(root: &Path) -> Vec<Exercise> {
    let wanted = variable("KEEL_DRILL_ALERTS");
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    let mut drills = file::all(root).unwrap_or_else(|problems| panic!("{problems}"));
    let mut exercises = vec![Exercise::Soak];
    // The longest first, so that all lanes end at about the same time.
    drills.sort_by_key(|(drill, _)| std::cmp::Reverse(drill.warm_up + drill.expect.within));
    exercises.extend(drills.into_iter().map(|(drill, runbook)| Exercise::Drill(Box::new(drill), runbook)));
    for name in &wanted {
        assert!(exercises.iter().any(|each| each.is(name)), "there is no drill `{name}` in {}", root.display());
    }
    exercises.retain(|each| wanted.is_empty() || wanted.iter().any(|name| each.is(name)));
    exercises
}

/// The next one that nobody has taken, of those for a stack like this one first.
fn next<'a>(exercises: &'a [Exercise], out: &Path, site: Option<&Shared>) -> Option<&'a Exercise> {
    let fits = |each: &&Exercise| site.is_none_or(|site| site.settings == each.settings());
    let (first, then): (Vec<_>, Vec<_>) = exercises.iter().partition(fits);
    let claim = |each: &&&Exercise| std::fs::File::create_new(out.join(format!("{}.taken", each.name()))).is_ok();
    first.iter().chain(&then).find(claim).copied()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make drill"]
async fn every_alert_is_drilled() {
    let (root, out) = (PathBuf::from(variable("KEEL_DRILL_ROOT")), PathBuf::from(variable("KEEL_DRILL_OUT")));
    let exercises = exercises(&root);
    let machine = machine::Machine::watch();
    let (mut site, mut failed): (Option<Shared>, Vec<String>) = (None, Vec::new());
    while let Some(exercise) = next(&exercises, &out, site.as_ref()) {
        let began = std::time::Instant::now();
        machine.stood_still();
        let mut ended = one(&root, exercise, &mut site).await;
        if let (Err(failure), Some(late)) = (&ended, machine.stood_still()) {
            println!(
                "\n==== {}: again, for the machine stood still for {late:?} meanwhile\n{failure}",
                exercise.name()
            );
            site = None;
            ended = one(&root, exercise, &mut site).await;
        }
        let seconds = began.elapsed().as_secs();
        match ended {
            Ok(row) => {
                println!("drilled in {seconds} s: {row}");
                std::fs::write(out.join(format!("{}.md", exercise.name())), format!("{row}\n")).unwrap();
            }
            Err(failure) => {
                println!("\n==== {} FAILED after {seconds} s\n{failure}\n====\n", exercise.name());
                std::fs::write(out.join(format!("{}.failed", exercise.name())), failure).unwrap();
                failed.push(exercise.name().to_owned());
                // Whatever is wrong with this one, the next one gets another.
                site = None;
            }
        }
    }
    drop(site);
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}

/// On the stack there is, if that is the right one, else on a new one.
async fn one(root: &Path, exercise: &Exercise, site: &mut Option<Shared>) -> Result<String, String> {
    if site.as_ref().is_none_or(|site| site.settings != exercise.settings()) {
        // The old one's processes end first.
        *site = None;
        *site = Some(start::start(root, &exercise.settings()).await?);
    }
    let site = site.as_ref().expect("just started");
    match exercise {
        Exercise::Drill(drill, runbook) => run::run(site, drill, runbook).await,
        Exercise::Soak => soak::run(site).await,
    }
}

/// What one says of itself that has sent all it got.
const COLLECTOR_METRICS: &str = "otelcol_exporter_queue_size{exporter=\"otlp\"} 0
otelcol_exporter_send_failed_spans{exporter=\"otlp\"} 0
";

/// A process that takes what is exported, so that it can be frozen: this binary, as the test below.
fn collector(address: SocketAddr) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--nocapture", "--exact", "drills::a_collector_for_drills"]);
    command.env_clear().env(COLLECTOR, address.to_string());
    command
}

#[tokio::test]
#[ignore = "started by drills"]
async fn a_collector_for_drills() {
    // Whoever runs all ignored tests has no use for it.
    let Ok(address) = std::env::var(COLLECTOR) else { return };
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let metrics = get(async || COLLECTOR_METRICS);
    let router = Router::new()
        .route("/metrics", metrics)
        .fallback(async || ([(header::CONTENT_TYPE, "application/x-protobuf")], ""));
    axum::serve(listener, router).await.unwrap();
}

#[test]
fn the_drills_that_are_there_can_be_read() {
    file::all(&repo::root()).unwrap_or_else(|problems| panic!("{problems}"));
}
