//! Metrics of jobs: how long they take, how many wait and for how long, how many were given up.

use super::store::Backlog;
use crate::{
    labels,
    platform::telemetry::metrics::{Counter, Gauge, HTTP_SECONDS, Histogram, Registry},
};

labels! {
    pub struct Ran {
        job: &'static str = "_OTHER",
        outcome: &'static str = "_OTHER",
    }
}
labels! {
    pub struct Queue { queue: &'static str = "_OTHER" }
}

#[derive(Clone)]
pub struct JobMetrics {
    pub duration: Histogram<Ran>,
    pub dead_letters: Counter<Queue>,
    pending: Gauge<Queue>,
    oldest: Gauge<Queue>,
    dead: Gauge<Queue>,
}

impl JobMetrics {
    pub fn new(registry: &Registry, queues: &[&'static str]) -> Self {
        let metrics = Self {
            duration: registry.histogram(
                "job_duration_seconds",
                "Duration of a run of a job, by outcome.",
                HTTP_SECONDS,
                100,
            ),
            dead_letters: registry.counter("jobs_dead_letters_total", "Jobs given up after their last try.", 32),
            pending: registry.gauge("jobs_pending", "Jobs that wait or run; dead letters are not among them.", 32),
            oldest: registry.gauge(
                "jobs_oldest_age_seconds",
                "How long the job that waits longest has been due; a try makes it due anew.",
                32,
            ),
            dead: registry.gauge("jobs_dead", "Dead letters that nobody has requeued or dropped.", 32),
        };
        for queue in queues {
            metrics.dead_letters.with(&Queue { queue });
        }
        metrics.backlog(queues, &[]);
        metrics
    }

    /// Sets the gauges of all queues; one without rows is empty.
    pub fn backlog(&self, queues: &[&'static str], rows: &[Backlog]) {
        for queue in queues {
            let row = rows.iter().find(|row| row.queue == *queue);
            self.pending.with(&Queue { queue }).set(row.map_or(0.0, |row| row.pending as f64));
            self.oldest.with(&Queue { queue }).set(row.map_or(0.0, |row| row.oldest));
            self.dead.with(&Queue { queue }).set(row.map_or(0.0, |row| row.dead as f64));
        }
    }
}
