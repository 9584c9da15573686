//! Row 2: SIGTERM at random moments of a life. It ends by its deadline, with the right code, and cuts no answer.

mod lives;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};

use self::lives::{End, Life};
use super::{Row, fleet::Fleet};

/// As the settings have it: drain delay, drain, what is left of the work, the pool, the flush.
pub const DRAIN_DELAY: Duration = Duration::from_millis(200);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const LAST: Duration = Duration::from_secs(1 + 1 + 3);
/// A busy machine.
const SLACK: Duration = Duration::from_secs(2);
const DEADLINE: Duration = DRAIN_DELAY.saturating_add(DRAIN_TIMEOUT).saturating_add(LAST).saturating_add(SLACK);
const SIGTERM: i32 = 15;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_at_any_moment_cuts_nothing_and_ends_in_time() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn two_hundred_sigterms_cut_nothing_and_end_in_time() {
    run(true).await;
}

async fn run(full: bool) {
    let lives: usize = if full { 200 } else { 8 };
    let fleet = Fleet::new(
        full,
        &[
            ("APP__FAULTS__ENABLED", "true"),
            ("APP__LIFECYCLE__DRAIN_DELAY", "200ms"),
            ("APP__LIFECYCLE__DRAIN_TIMEOUT", "5s"),
        ],
    )
    .await;
    let key = fleet.tenant("acme");
    // How long a start takes here: half as much again is any moment of it and a little after.
    let began = Instant::now();
    assert_eq!(fleet.ready().await.terminate().await, 0);
    let window = (began.elapsed() - DRAIN_DELAY).mul_f64(1.2);
    let fleet = Arc::new(fleet);
    let ends: Vec<End> = stream::iter(0..lives)
        .map(|number| Life::of(number).live(Arc::clone(&fleet), key.clone(), window))
        .buffer_unordered(2)
        .collect()
        .await;

    let late = ends.iter().filter(|end| end.took > DEADLINE).count();
    let wrong: Vec<_> = ends.iter().filter(|end| !end.is_right()).collect();
    let longest = ends.iter().map(|end| end.took).max().unwrap();
    let sum = |of: fn(&End) -> u64| ends.iter().map(of).sum::<u64>();
    let (cut, answered, other, unanswered) =
        (sum(|end| end.cut), sum(|end| end.answered), sum(|end| end.other), sum(|end| end.unanswered));
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for end in &ends {
        let code = end
            .status
            .code()
            .map_or_else(|| format!("signal {}", end.status.signal().unwrap()), |code| code.to_string());
        *codes.entry(code).or_default() += 1;
    }
    let unheard: Vec<Duration> = ends.iter().filter(|end| end.is_unheard()).map(|end| end.moment).collect();
    let unheard = match unheard.iter().max() {
        Some(last) => format!("; {} before the handler was there, at {last:.1?} after exec the latest", unheard.len()),
        None => String::new(),
    };
    Row {
        number: "2",
        fault: format!("{lives} SIGTERMs at random moments: starting, idle, loaded, draining, with a request too long"),
        expected: format!("exit within {DEADLINE:?}, 0 answers cut, exit code 0 (3 where the drain is overrun)"),
        seen: format!(
            "{late} late (longest {longest:.1?}), {cut} cut, {answered} whole, {other} with an error, {unanswered} connections closed \
             unanswered, {} wrong ends; by code {codes:?}{unheard}",
            wrong.len()
        ),
        recovery: "–".to_owned(),
        held: late == 0 && cut == 0 && wrong.is_empty() && ends.len() == lives,
    }
    .record(true);
    Arc::into_inner(fleet).unwrap().end().await;
}
