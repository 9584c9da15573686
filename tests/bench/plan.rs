//! What to measure: the variants of the service, the routes, and the arguments that choose among them.

use std::time::Duration;

use super::{
    client::request,
    process::{Launch, Service},
};

pub const USAGE: &str = "  --key KEY             API key, of scope write for the soak's errors (required)
  --paths PATH[,PATH]   what to read (required); one a connection, as equal reads at a time are one
  --rounds N            rounds of the comparison [5]; 0 for none
  --seconds N           seconds of each measurement [3]
  --connections N       connections that ask without a pause [32]
  --variants LIST       of floor,all,unsampled,logs,metrics,spans [floor,all,unsampled]; floor is always there
  --routes LIST         of cached,sql [cached,sql]
  --scrape              how long GET /metrics takes
  --soak SECONDS        memory under a modest load while the collector and Sentry never answer
  --callgrind           instructions a request of the first route, by valgrind";

/// The service with some of its signals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    pub name: &'static str,
    /// What `KEEL_BENCH_OFF` turns off.
    off: &'static str,
    sampled: bool,
}

pub const FLOOR: Variant = Variant { name: "floor", off: "all", sampled: true };
pub const ALL: Variant = Variant { name: "all", off: "", sampled: true };
pub const UNSAMPLED: Variant = Variant { name: "unsampled", off: "", sampled: false };
const LOGS: Variant = Variant { name: "logs", off: "spans,metrics", sampled: true };
const METRICS: Variant = Variant { name: "metrics", off: "spans,logs", sampled: true };
const SPANS: Variant = Variant { name: "spans", off: "logs,metrics", sampled: true };

/// The read through Redis, or without it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Route {
    Cached,
    Sql,
}

impl Route {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Sql => "sql",
        }
    }
}

pub struct Plan {
    pub rounds: usize,
    pub length: Duration,
    pub connections: usize,
    pub variants: Vec<Variant>,
    pub routes: Vec<Route>,
    pub scrape: bool,
    pub soak: Option<Duration>,
    pub callgrind: bool,
    pub key: String,
    pub paths: Vec<String>,
    /// Whether the service gets a core of its own.
    pub pinned: bool,
}

impl Plan {
    /// # Errors
    /// What is wrong with the arguments.
    pub fn parse(mut arguments: impl Iterator<Item = String>, pinned: bool) -> Result<Self, String> {
        let mut plan = Self {
            rounds: 5,
            length: Duration::from_secs(3),
            connections: 32,
            variants: vec![FLOOR, ALL, UNSAMPLED],
            routes: vec![Route::Cached, Route::Sql],
            scrape: false,
            soak: None,
            callgrind: false,
            key: String::new(),
            paths: Vec::new(),
            pinned,
        };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name}: what?"));
            match name.as_str() {
                // Cargo's own.
                "--bench" => {}
                "--scrape" => plan.scrape = true,
                "--callgrind" => plan.callgrind = true,
                "--rounds" => plan.rounds = number(&name, &value()?)?,
                "--seconds" => plan.length = Duration::from_secs(number(&name, &value()?)?),
                "--connections" => plan.connections = number::<usize>(&name, &value()?)?.max(1),
                "--soak" => plan.soak = Some(Duration::from_secs(number(&name, &value()?)?)),
                "--key" => plan.key = value()?,
                "--paths" => plan.paths = value()?.split(',').map(str::to_owned).collect(),
                "--variants" => {
                    let known = [FLOOR, ALL, UNSAMPLED, LOGS, METRICS, SPANS].map(|variant| (variant.name, variant));
                    plan.variants = chosen(&name, &value()?, &known)?;
                    plan.variants.retain(|variant| *variant != FLOOR);
                    plan.variants.insert(0, FLOOR);
                }
                "--routes" => {
                    let known = [Route::Cached, Route::Sql].map(|route| (route.name(), route));
                    plan.routes = chosen(&name, &value()?, &known)?;
                }
                _ => return Err(format!("unknown argument {name}\n{USAGE}")),
            }
        }
        if plan.key.is_empty() || plan.paths.is_empty() {
            return Err(format!("--key and --paths are required\n{USAGE}"));
        }
        Ok(plan)
    }

    /// The request of the nth connection.
    pub fn request(&self, nth: usize) -> Vec<u8> {
        request("GET", &self.paths[nth % self.paths.len()], &self.authorization())
    }

    pub fn authorization(&self) -> String {
        format!("authorization: Bearer {}\r\n", self.key)
    }

    /// How a variant starts that exports to `collector`, a port.
    pub fn launch(&self, variant: Variant, route: Route, collector: u16) -> Launch {
        let sampler = if variant.sampled { "parentbased_always_on" } else { "always_off" };
        let variables = [
            ("APP_ENVIRONMENT", "test"),
            ("APP__LOG__FORMAT", "json"),
            ("APP__HTTP__BIND", "127.0.0.1:0"),
            ("APP__ADMIN__BIND", "127.0.0.1:0"),
            // The test environment looks for work fifty times a second, and its limit is below the floor of a fast
            // machine.
            ("APP__JOBS__POLL_INTERVAL", "500ms"),
            ("APP__LIFECYCLE__CHECK_INTERVAL", "1s"),
            ("APP__RATE_LIMIT__PER_SECOND", "1000000"),
            ("APP__RATE_LIMIT__BURST", "1000000"),
            // The pool fills under the first blast.
            ("APP__DATABASE__ACQUIRE_TIMEOUT", "4s"),
            ("TOKIO_WORKER_THREADS", "1"),
            ("KEEL_BENCH_OFF", variant.off),
            ("OTEL_TRACES_SAMPLER", sampler),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{collector}")),
        ];
        Launch {
            variables: variables.map(|(name, value)| (name, value.to_owned())).to_vec(),
            without_redis: route == Route::Sql,
            pinned: self.pinned,
            callgrind: None,
        }
    }

    /// A started variant that has answered once.
    pub fn start(&self, variant: Variant, route: Route, collector: u16) -> Result<Service, String> {
        Service::start(&self.launch(variant, route, collector), &self.request(0))
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name}: not a number: {text}"))
}

fn chosen<T: Copy>(name: &str, list: &str, known: &[(&str, T)]) -> Result<Vec<T>, String> {
    let find = |word: &str| known.iter().find(|(known, _)| *known == word).map(|(_, item)| *item);
    list.split(',').map(|word| find(word).ok_or_else(|| format!("{name}: what is {word}?"))).collect()
}
