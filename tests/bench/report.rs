//! What is said in the end: tables in Markdown, and for each target whether it is met.

use super::{
    compare::Runs,
    figures::Spread,
    plan::{ALL, FLOOR, Plan, Route, UNSAMPLED},
};

/// Whether a target is met, with the figure.
pub struct Verdict {
    target: String,
    met: bool,
    found: String,
}

impl Verdict {
    pub fn new(target: impl Into<String>, met: bool, found: impl Into<String>) -> Self {
        Self { target: target.into(), met, found: found.into() }
    }
}

pub fn verdicts(all: &[Verdict]) {
    println!("## Targets\n");
    for Verdict { target, met, found } in all {
        println!("- {}: {target}: {found}", if *met { "met" } else { "MISSED" });
    }
}

/// The machine and the load, without which the figures say little.
pub fn heading(plan: &Plan) {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = cpuinfo.matches("processor\t").count();
    println!("# What telemetry costs\n");
    println!(
        "{cores} cores of {}; {}. Rounds of {} s, {} connections, {} paths.\n",
        model.unwrap_or("an unknown kind"),
        if plan.pinned { "the service has the first for itself" } else { "NOTHING IS PINNED, do not trust the rates" },
        plan.length.as_secs(),
        plan.connections,
        plan.paths.len(),
    );
}

fn ranged(spread: Spread, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$}–{:.digits$})", spread.median, spread.min, spread.max)
}

pub fn saturated(plan: &Plan, runs: &Runs) -> Vec<Verdict> {
    println!("## As fast as it goes, medians (min–max) of {} rounds\n", plan.rounds);
    println!(
        "| route | variant | CPU µs/request | over floor | requests/s | of floor | core busy (others) \
         | p50 µs | p99 µs | RSS MiB | spans (bytes)/request | log lines (bytes)/request |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (route, variant) in plan.routes.iter().flat_map(|route| plan.variants.iter().map(move |v| (*route, *v))) {
        let spread = |figure| runs.spread(route, variant, figure);
        let median = |figure| spread(figure).map_or(0.0, |spread| spread.median);
        println!(
            "| {} | {} | {} | {} | {:.0} | {:.2} | {:.0} % ({:.0} %) \
             | {:.0} | {:.0} | {:.1} | {:.2} ({:.0}) | {:.2} ({:.0}) |",
            route.name(),
            variant.name,
            spread(|run| run.cpu).map_or_else(String::new, |spread| ranged(spread, 1)),
            runs.over_floor(route, variant).map_or_else(String::new, |over| format!("{:+.1}", over.median)),
            median(|run| run.per_second),
            runs.of_floor(route, variant, |run| run.per_second).unwrap_or(0.0),
            median(|run| run.busy * 100.0),
            median(|run| run.others * 100.0),
            median(|run| run.p50),
            median(|run| run.p99),
            median(|run| run.rss),
            median(|run| run.spans),
            median(|run| run.span_bytes),
            median(|run| run.lines),
            median(|run| run.line_bytes),
        );
    }
    println!();
    disturbed(runs);
    if !runs.have_floor() {
        println!("NO FLOOR: it still writes lines or spans; is the binary built with `--features bench`?\n");
        return Vec::new();
    }
    let mut verdicts = Vec::new();
    for &route in &plan.routes {
        for (variant, most) in [(ALL, 8.0), (UNSAMPLED, 2.0)] {
            if let Some(over) = runs.over_floor(route, variant) {
                let target = format!("{}, {}: ≤ {most} µs CPU a request over the floor", route.name(), variant.name);
                verdicts.push(Verdict::new(target, over.median <= most, ranged(over, 1)));
            }
        }
    }
    if let Some(share) = runs.of_floor(Route::Sql, ALL, |run| run.per_second) {
        verdicts.push(Verdict::new("sql, all: throughput ≥ 80 % of the floor", share >= 0.8, percent(share)));
    }
    verdicts
}

pub fn paced(plan: &Plan, runs: &Runs) -> Vec<Verdict> {
    println!("## At a quarter of the floor's rate, medians (min–max) of {} rounds\n", plan.rounds);
    println!("| route | variant | requests/s | p50 µs | p99 µs | CPU µs/request |\n|---|---|---|---|---|---|");
    let mut verdicts = Vec::new();
    for &route in &plan.routes {
        for variant in [FLOOR, ALL] {
            let text = |figure, digits| {
                runs.spread(route, variant, figure).map_or_else(String::new, |spread| ranged(spread, digits))
            };
            println!(
                "| {} | {} | {} | {} | {} | {} |",
                route.name(),
                variant.name,
                text(|run| run.per_second, 0),
                text(|run| run.p50, 0),
                text(|run| run.p99, 0),
                text(|run| run.cpu, 1),
            );
        }
        if let Some(share) = runs.of_floor(route, ALL, |run| run.p99).filter(|_| runs.have_floor()) {
            let target = format!("{}, all: p99 below saturation within 10 % of the floor", route.name());
            verdicts.push(Verdict::new(target, share <= 1.1, percent(share)));
        }
    }
    println!();
    disturbed(runs);
    verdicts
}

/// Says so when the machine was not ours alone.
fn disturbed(runs: &Runs) {
    let most = runs.0.iter().map(|run| run.others).fold(0.0, f64::max);
    if most > 0.05 {
        println!("DISTURBED: others took up to {:.0} % of the service's core; rates and p99 suffer.\n", most * 100.0);
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} % of it", share * 100.0)
}
