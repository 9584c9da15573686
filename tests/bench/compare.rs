//! The comparison: each variant on each route in turn, a fresh process each time, first as fast as it goes, then at a
//! quarter of the floor's rate, where a latency is no queue.

use std::time::Duration;

use super::{
    client::Pace,
    figures::Spread,
    load::{Done, Load},
    plan::{ALL, FLOOR, Plan, Route, Variant},
    sink::Sink,
};

/// One measurement.
#[derive(Clone, Debug)]
pub struct Run {
    pub route: Route,
    pub variant: Variant,
    /// Of the process, in µs of CPU time a request.
    pub cpu: f64,
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
    /// Shares of the service's core: its own, and what others took of it.
    pub busy: f64,
    pub others: f64,
    /// In MiB, at the end.
    pub rss: f64,
    /// What arrived for each request: spans at the collector, lines on standard output, bytes of both.
    pub spans: f64,
    pub span_bytes: f64,
    pub lines: f64,
    pub line_bytes: f64,
}

/// All measurements, in order of their rounds.
#[derive(Default)]
pub struct Runs(pub Vec<Run>);

impl Runs {
    pub fn of(&self, route: Route, variant: Variant) -> impl Iterator<Item = &Run> {
        self.0.iter().filter(move |run| run.route == route && run.variant == variant)
    }

    pub fn spread(&self, route: Route, variant: Variant, figure: fn(&Run) -> f64) -> Option<Spread> {
        Spread::of(self.of(route, variant).map(figure))
    }

    /// CPU time over the floor of the same round.
    pub fn over_floor(&self, route: Route, variant: Variant) -> Option<Spread> {
        Spread::of(self.of(route, variant).zip(self.of(route, FLOOR)).map(|(run, floor)| run.cpu - floor.cpu))
    }

    /// Whether the floor was silent: else nothing can be said of what is above it.
    pub fn have_floor(&self) -> bool {
        self.0.iter().filter(|run| run.variant == FLOOR).all(|run| run.lines.max(run.spans) < 0.01)
    }

    /// The median as a share of the floor's.
    pub fn of_floor(&self, route: Route, variant: Variant, figure: fn(&Run) -> f64) -> Option<f64> {
        let (run, floor) = (self.spread(route, variant, figure)?, self.spread(route, FLOOR, figure)?);
        (floor.median > 0.0).then(|| run.median / floor.median)
    }
}

const WARM_UP: Duration = Duration::from_millis(500);
/// Connections and share of the floor's rate, for the latency below saturation.
const PACED_CONNECTIONS: usize = 4;
const PACED_SHARE: f64 = 0.25;

pub fn saturated(plan: &Plan, sink: &Sink) -> Result<Runs, String> {
    let mut runs = Runs::default();
    for round in 1..=plan.rounds {
        for &route in &plan.routes {
            for &variant in &plan.variants {
                let run = measure(plan, sink, route, variant, None)?;
                eprintln!(
                    "round {round}: {} {}: {:.1} µs, {:.0}/s",
                    route.name(),
                    variant.name,
                    run.cpu,
                    run.per_second
                );
                runs.0.push(run);
            }
        }
    }
    Ok(runs)
}

pub fn paced(plan: &Plan, sink: &Sink, saturated: &Runs) -> Result<Runs, String> {
    let mut runs = Runs::default();
    for round in 1..=plan.rounds {
        for &route in &plan.routes {
            let Some(most) = saturated.spread(route, FLOOR, |run| run.per_second) else { continue };
            for variant in [FLOOR, ALL] {
                let run = measure(plan, sink, route, variant, Some(most.median * PACED_SHARE))?;
                eprintln!("paced round {round}: {} {}: p99 {:.0} µs", route.name(), variant.name, run.p99);
                runs.0.push(run);
            }
        }
    }
    Ok(runs)
}

/// A load as long as it is told.
type Apply<'a> = Box<dyn FnMut(Duration) -> Result<Done, String> + 'a>;

fn measure(plan: &Plan, sink: &Sink, route: Route, variant: Variant, rate: Option<f64>) -> Result<Run, String> {
    let service = plan.start(variant, route, sink.port)?;
    let address = service.public;
    let requests = |count| (0..count).map(|nth| plan.request(nth)).collect::<Vec<_>>();
    let mut load: Apply = if let Some(per_second) = rate {
        let requests = requests(PACED_CONNECTIONS);
        Box::new(move |length| {
            let pace = Pace { connections: PACED_CONNECTIONS, per_second, length };
            let latencies = pace.run(address, &|nth| (&requests[nth % PACED_CONNECTIONS], 200))?;
            Ok(Done { latencies, took: length })
        })
    } else {
        let mut load = Load::open(address, requests(plan.connections))?;
        Box::new(move |length| load.run(length))
    };
    load(WARM_UP)?;
    let (before, sent) = (service.used()?, sink.received());
    let Done { latencies, took } = load(plan.length)?;
    let (after, received) = (service.used()?, sink.received());
    let share = |micros: f64| micros / took.as_secs_f64() / 1e6;
    let each = |count: u64| count as f64 / latencies.count().max(1) as f64;
    Ok(Run {
        route,
        variant,
        cpu: after.cpu_since(&before) / latencies.count().max(1) as f64,
        per_second: latencies.count() as f64 / took.as_secs_f64(),
        p50: latencies.percentile(0.5),
        p99: latencies.percentile(0.99),
        busy: share(after.cpu_since(&before)),
        others: share(after.others_since(&before)),
        rss: service.rss()?,
        spans: each(received.spans - sent.spans),
        span_bytes: each(received.bytes - sent.bytes),
        lines: each(after.lines - before.lines),
        line_bytes: each(after.line_bytes - before.line_bytes),
    })
}
