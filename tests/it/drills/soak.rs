//! An hour of drill time in which all is well: nothing fires.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{file::Load, run, site::Shared};

pub const NAME: &str = "soak";
const HOUR: Duration = Duration::from_secs(3_600 / super::scale::FACTOR);

pub async fn run(site: &Shared) -> Result<String, String> {
    let _traffic = run::settle(site, Load::Business, Duration::from_secs(5)).await?;
    let (began, starts) = (Instant::now(), site.starts());
    while began.elapsed() < HOUR {
        sleep(Duration::from_millis(250)).await;
        run::strangers(site, &[]).map_err(|problem| format!("nothing is wrong, and yet: {problem}"))?;
    }
    if site.starts() != starts {
        return Err("an instance was started anew in a healthy hour".to_owned());
    }
    Ok(format!("| a healthy hour ({} s) | | nothing but Watchdog | | | 0 |", HOUR.as_secs()))
}
