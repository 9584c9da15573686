//! Repetition of whole transactions that met another one: serialization failures (40001) and deadlocks
//! (40P01), nothing else. Postgres has undone all of it, so to run it again is safe.

use std::{ops::RangeInclusive, time::Duration};

use super::{Db, errors::CONFLICT, metrics::Retried};
use crate::platform::{error::Result, jitter, telemetry::context};

/// Runs after the first: more only feed the storm (reliability.md §1.5).
const MOST_RETRIES: u32 = 2;
/// Full jitter: those who met once don't meet again.
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(100);

/// Runs `work`, which begins and commits a transaction of its own and does nothing else that lasts; again,
/// at most twice, when it met another one.
///
/// # Errors
/// The last error of `work`.
pub async fn retried<T, F>(db: &Db, work: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut result = work().await;
    for _ in 0..MOST_RETRIES {
        match &result {
            Err(error) if error.code == CONFLICT => {}
            _ => break,
        }
        let pause = jitter::between(PAUSE);
        if context::time_left().is_some_and(|left| left <= pause) {
            break;
        }
        tokio::time::sleep(pause).await;
        result = work().await;
        let outcome = if result.is_ok() { "success" } else { "failure" };
        db.0.metrics.retries.with(&Retried { outcome }).inc();
    }
    result
}
