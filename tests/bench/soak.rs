//! What grows: resident memory and CPU under a modest load, for minutes, while the collector and Sentry accept
//! connections and never answer; and how long a scrape takes.

use std::{
    ffi::OsStr,
    time::{Duration, Instant},
};

use super::{
    client::{Connection, Pace, request},
    figures::Spread,
    load::Load,
    plan::{ALL, Plan},
    process::Service,
    report::Verdict,
    sink::{Sink, black_hole},
};

const PER_SECOND: f64 = 500.0;
const CONNECTIONS: usize = 4;
/// Every so many requests one fails on purpose: what Sentry gets.
const FAULT_EVERY: usize = 50;
/// Queues fill and caches warm up until then, or for a fifth of a shorter soak.
const SETTLED: Duration = Duration::from_secs(60);
const MOST_GROWTH: f64 = 32.0;

pub fn soak(plan: &Plan, length: Duration) -> Result<Verdict, String> {
    let mut launch = plan.launch(ALL, plan.routes[0], black_hole()?);
    launch.variables.push(("SENTRY_DSN", format!("http://public@127.0.0.1:{}/1", black_hole()?)));
    let service = Service::start(&launch, &plan.request(0))?;
    let reads: Vec<Vec<u8>> = (0..CONNECTIONS).map(|nth| plan.request(nth)).collect();
    let fault = request("POST", "/v1/faults/error", &plan.authorization());
    let faults = std::env::var_os("APP__FAULTS__ENABLED").is_some_and(|value| value == OsStr::new("true"));
    let nth = |nth: usize| -> (&[u8], u16) {
        if faults && nth % FAULT_EVERY == FAULT_EVERY - 1 { (&fault, 500) } else { (&reads[nth % CONNECTIONS], 200) }
    };
    let pace = Pace { connections: CONNECTIONS, per_second: PER_SECOND, length };
    let (before, mut rss) = (service.used()?, vec![service.rss()?]);
    let latencies = std::thread::scope(|scope| {
        let load = scope.spawn(|| pace.run(service.public, &nth));
        let began = Instant::now();
        while !load.is_finished() {
            std::thread::sleep(Duration::from_secs(1).min(length));
            rss.push(service.rss()?);
            if rss.len() % 60 == 1 {
                eprintln!("soak: {} s, {:.1} MiB", began.elapsed().as_secs(), rss[rss.len() - 1]);
            }
        }
        load.join().expect("the load returns its errors")
    })?;
    let cpu = service.used()?.cpu_since(&before) / latencies.count().max(1) as f64;
    let settled = (SETTLED.min(length / 5).as_secs() as usize).min(rss.len() - 1);
    let (base, end) = (rss[settled], rss[rss.len() - 1]);
    let most = rss[settled..].iter().copied().fold(base, f64::max);
    println!(
        "## Soak: {} s at {PER_SECOND}/s, collector and Sentry silent{}\n",
        length.as_secs(),
        if faults { ", every 50th request a fault" } else { "; no faults (APP__FAULTS__ENABLED)" },
    );
    println!("| RSS at the start | after {settled} s | at the end | most since then | CPU µs/request | p99 µs |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| {:.1} MiB | {base:.1} MiB | {end:.1} MiB | {most:.1} MiB | {cpu:.1} | {:.0} |\n",
        rss[0],
        latencies.percentile(0.99),
    );
    let found = format!("+{:.1} MiB at most after {settled} s, {:+.1} at the end", most - base, end - base);
    Ok(Verdict::new("soak: RSS + ≤ 32 MiB", most - base <= MOST_GROWTH, found))
}

/// As Prometheus asks, which then gets exemplars too.
const SCRAPE: &str = "accept: application/openmetrics-text; version=1.0.0\r\n";
const SCRAPES: usize = 20;

pub fn scrape(plan: &Plan, sink: &Sink) -> Result<Verdict, String> {
    let route = plan.routes[0];
    let service = plan.start(ALL, route, sink.port)?;
    Load::open(service.public, (0..plan.connections).map(|nth| plan.request(nth)).collect())?
        .run(Duration::from_secs(1))?;
    let mut connection = Connection::open(service.admin)?;
    let (mut millis, mut bytes, mut series) = (Vec::new(), 0, 0);
    for _ in 0..SCRAPES {
        let began = Instant::now();
        let body = connection.ask(&request("GET", "/metrics", SCRAPE), 200)?;
        millis.push(began.elapsed().as_secs_f64() * 1e3);
        bytes = body.len();
        let lines = body.split(|byte| *byte == b'\n');
        series = lines.filter(|line| !line.is_empty() && line[0] != b'#').count();
    }
    let spread = Spread::of(millis).expect("there were scrapes");
    println!("## Scrape, median of {SCRAPES} after the load\n\n| ms (min–max) | bytes | series |\n|---|---|---|");
    println!("| {:.2} ({:.2}–{:.2}) | {bytes} | {series} |\n", spread.median, spread.min, spread.max);
    let found = format!("{:.2} ms with {series} series", spread.median);
    Ok(Verdict::new("scrape ≤ 10 ms (at the series budget)", spread.median <= 10.0, found))
}
