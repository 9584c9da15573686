//! Instructions a request, by callgrind: the same number twice, where times differ from machine to machine.

use std::path::{Path, PathBuf};

use super::{
    client::Connection,
    plan::{ALL, FLOOR, Plan, Route, UNSAMPLED, Variant},
    process::Service,
    report::Verdict,
    sink::Sink,
};

/// Two totals of whole processes: their difference knows no start and no end.
const FEW: usize = 500;
const MANY: usize = 1_500;
const MOST_OF_FLOOR: f64 = 3.5;

pub fn callgrind(plan: &Plan, sink: &Sink) -> Result<Option<Verdict>, String> {
    if std::process::Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("!!! valgrind is not installed: no instructions are counted");
        return Ok(None);
    }
    let route = plan.routes[0];
    println!(
        "## Instructions a request, {} route\n\n| variant | instructions | of floor |\n|---|---|---|",
        route.name()
    );
    let mut floor = None;
    let mut all = 0.0;
    for variant in [FLOOR, ALL, UNSAMPLED] {
        let (few, many) = (total(plan, sink, route, variant, FEW)?, total(plan, sink, route, variant, MANY)?);
        let each = (many - few) / (MANY - FEW) as f64;
        let of_floor = each / *floor.get_or_insert(each);
        println!("| {} | {each:.0} | {of_floor:.2} |", variant.name);
        if variant == ALL {
            all = of_floor;
        }
    }
    println!();
    let target = "callgrind: instructions ≤ 3.5 × floor";
    Ok(Some(Verdict::new(target, all <= MOST_OF_FLOOR, format!("{all:.2} × on the {} route", route.name()))))
}

/// Instructions of a process from its start to its end, with so many requests.
fn total(plan: &Plan, sink: &Sink, route: Route, variant: Variant, requests: usize) -> Result<f64, String> {
    let file = File(std::env::temp_dir().join(format!("keel-callgrind-{}", std::process::id())));
    let mut launch = plan.launch(variant, route, sink.port);
    launch.callgrind = Some(file.0.clone());
    // What runs by the clock would be counted by the time that valgrind takes, and what is timed would time out.
    let patient = [
        ("APP__JOBS__ENABLED", "false"),
        ("APP__LIFECYCLE__CHECK_INTERVAL", "60s"),
        ("APP__LIFECYCLE__CHECK_TIMEOUT", "30s"),
        ("APP__HTTP__REQUEST_TIMEOUT", "60s"),
        ("APP__DATABASE__ACQUIRE_TIMEOUT", "30s"),
        ("APP__REDIS__OPERATION_TIMEOUT", "5s"),
    ];
    launch.variables.extend(patient.map(|(name, value)| (name, value.to_owned())));
    let service = Service::start(&launch, &plan.request(0))?;
    let mut connection = Connection::open(service.public)?;
    let request = plan.request(0);
    for _ in 0..requests {
        connection.ask(&request, 200)?;
    }
    drop(connection);
    service.finish()?;
    let count = read(&file.0)?;
    eprintln!("callgrind: {} with {requests} requests: {count:.0} instructions", variant.name);
    Ok(count)
}

/// Removed when dropped.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _never_written = std::fs::remove_file(&self.0);
    }
}

fn read(path: &Path) -> Result<f64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let count = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    count.ok_or_else(|| format!("{}: no totals", path.display()))
}
