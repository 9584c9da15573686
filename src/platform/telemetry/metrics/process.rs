//! The process as the kernel sees it, and the tokio runtime: read at scrape time.

use super::Registry;
use crate::{labels, platform::telemetry::build};

labels! {
    /// What runs: join it to any other series on `instance`.
    pub struct Info {
        version: &'static str = "_OTHER",
        git_sha: &'static str = "_OTHER",
        environment: &'static str = "_OTHER",
    }
}

/// Kernel clock ticks a second; Linux has exported 100 to user space on every architecture since 2.6.
const TICKS: f64 = 100.0;

/// Registers `process_*`, `tokio_*` and `service_info`.
pub fn register(registry: &Registry, environment: &'static str, runtime: &tokio::runtime::Handle) {
    let info = Info { version: build::VERSION, git_sha: build::GIT_SHA, environment };
    registry.gauge_fn("service_info", "The running build; always 1.", move || vec![(info.clone(), 1.0)]);
    registry.counter_fn("process_cpu_seconds_total", "User and system CPU time.", || {
        one(stat(|fields| Some((number(fields, 11)? + number(fields, 12)?) / TICKS)))
    });
    registry.gauge_fn("process_resident_memory_bytes", "Resident memory.", || one(resident()));
    registry.gauge_fn("process_virtual_memory_bytes", "Virtual memory.", || one(stat(|fields| number(fields, 20))));
    registry.gauge_fn("process_threads", "Threads of the process.", || one(stat(|fields| number(fields, 17))));
    registry.gauge_fn("process_start_time_seconds", "Start of the process, seconds since the epoch.", || {
        one(stat(|fields| Some(boot_time()? + number(fields, 19)? / TICKS)))
    });
    registry.gauge_fn("process_open_fds", "Open file descriptors.", || {
        one(std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64))
    });
    registry.gauge_fn("process_max_fds", "Most file descriptors the process may open.", || one(max_fds()));
    let metrics = runtime.metrics();
    registry.gauge_fn("tokio_workers", "Worker threads of the main runtime.", {
        let metrics = metrics.clone();
        move || one(Some(metrics.num_workers() as f64))
    });
    registry.gauge_fn("tokio_alive_tasks", "Tasks of the main runtime that have not ended.", {
        let metrics = metrics.clone();
        move || one(Some(metrics.num_alive_tasks() as f64))
    });
    registry.gauge_fn("tokio_global_queue_depth", "Tasks that wait for any worker of the main runtime.", {
        let metrics = metrics.clone();
        move || one(Some(metrics.global_queue_depth() as f64))
    });
    registry.counter_fn(
        "tokio_worker_busy_seconds_total",
        "Time the workers of the main runtime ran tasks.",
        move || {
            one(Some(
                (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker).as_secs_f64()).sum(),
            ))
        },
    );
}

fn one(value: Option<f64>) -> Vec<((), f64)> {
    value.into_iter().map(|value| ((), value)).collect()
}

/// Fields of `/proc/self/stat` after the command name: field 3 of proc(5) is index 0.
fn stat<T>(read: impl FnOnce(&[&str]) -> Option<T>) -> Option<T> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    read(&fields)
}

fn number(fields: &[&str], index: usize) -> Option<f64> {
    fields.get(index)?.parse().ok()
}

/// From `status`, which counts in KiB: `stat` counts in pages, whose size differs.
fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: f64 =
        text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

fn boot_time() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn max_fds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    text.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}
