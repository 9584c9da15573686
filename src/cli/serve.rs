//! `keel serve`: the process around what it serves.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use crate::{
    app::App,
    config::Config,
    platform::{
        config::Sources,
        lifecycle,
        telemetry::{Options, Telemetry, redact, traces::SpanSink},
    },
};

/// Between two readings of secrets that must agree.
const SETTLED: Duration = Duration::from_millis(100);

pub fn serve(config: &Config, sources: &Sources) -> Result<(), Failure> {
    let booted = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.lifecycle.workers())
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime can't be started: {error}"))?;
    // Before anything slow: without a handler a SIGTERM kills, and process 1 of a container never hears of it.
    let signals = {
        let _inside = runtime.enter();
        // SIGHUP too: without a handler it would kill.
        (Signals::new()?, handler(SignalKind::hangup())?)
    };
    redact::protect(config.secrets(&sources.variables));
    let telemetry = Telemetry::init(Options {
        service: &config.service.name,
        environment: config.environment,
        log: &config.log,
        sentry: &config.sentry,
        variables: &sources.variables,
        log_sink: Box::new(std::io::stdout()),
        span_sink: SpanSink::Environment,
    })?;
    for warning in config.warnings(&sources.variables) {
        tracing::warn!(warning, "config_warning");
    }
    let result = runtime.block_on(run(config, sources, &telemetry, booted, signals));
    // Off the runtime's threads, and bounded: a dead collector must not hold the exit.
    telemetry.shutdown(config.lifecycle.flush_timeout);
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn run(
    config: &Config,
    sources: &Sources,
    telemetry: &Telemetry,
    booted: Instant,
    (mut signals, hangup): (Signals, Signal),
) -> Result<(), Failure> {
    let running = App::build(config, telemetry)?.start(booted).await?;
    let every = config.lifecycle.secrets_interval;
    lifecycle::spawn(rotate(Arc::clone(&running.app), sources.clone(), every, hangup));
    let failure = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "shutdown_requested");
            None
        }
        why = running.failed() => Some(why),
    };
    let drained = tokio::select! {
        drained = running.shutdown() => drained,
        name = signals.next() => {
            tracing::warn!(signal = name, "shutdown_forced");
            telemetry.shutdown(Duration::from_millis(100));
            std::process::exit(3);
        }
    };
    match (failure, drained) {
        (Some(why), _) => Err(Failure::Message(why)),
        (None, false) => Err(Failure::DrainOverrun),
        (None, true) => Ok(()),
    }
}

/// Looks at the secrets again and again, and on SIGHUP at once. What can't be used is told, and the ones in use
/// stay.
async fn rotate(app: Arc<App>, sources: Sources, every: Duration, mut hangup: Signal) {
    let mut said = String::new();
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            () = tokio::time::sleep(every), if !every.is_zero() => {}
        }
        let rotated = match settled(&sources).await {
            Ok(config) => {
                redact::protect(config.secrets(&sources.variables));
                app.rotate(&config).map(|_| ())
            }
            Err(fault) => Err(fault),
        };
        let fault = rotated.err().unwrap_or_default();
        if !fault.is_empty() && fault != said {
            tracing::error!(error = fault, "secrets_not_rotated");
        }
        said = fault;
    }
}

/// The configuration as it is twice in a row: secrets that belong together are written one after the other.
async fn settled(sources: &Sources) -> Result<Config, String> {
    let read = async || {
        let look = sources.clone();
        // Files may be on a volume that hangs.
        let loaded = tokio::task::spawn_blocking(move || crate::config::load(&look).servable()).await;
        loaded.map_err(|stopped| stopped.to_string())?.map_err(|faults| faults.to_string())
    };
    let mut first = read().await;
    loop {
        tokio::time::sleep(SETTLED).await;
        let second = read().await;
        let secrets =
            |read: &Result<Config, String>| read.as_ref().map(|config| config.secrets(&sources.variables)).ok();
        if secrets(&first) == secrets(&second) {
            return second;
        }
        first = second;
    }
}

fn handler(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::Message(format!("signals can't be handled: {error}")))
}

/// The two signals that end a process in order.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { terminate: handler(SignalKind::terminate())?, interrupt: handler(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
