//! CPU profiles by sampling: a signal (SIGPROF) per 1/99 s of CPU time, delivered to the thread that spent it,
//! whose stack is noted. What is done with the samples is in the parent.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use parking_lot::Mutex;
use pprof::{Frames, ProfilerGuardBuilder, UnresolvedReport};

use super::{super::turn::Turn, Function, Profile, Stack};
use crate::platform::error::{Error, Kind, Result};

/// Not 100: work that recurs with a round period would always or never be seen.
const HERTZ: u32 = 99;

/// A sample that begins in one of these is skipped: the handler unwinds, which can deadlock with the loader's lock and
/// crash on wrong unwind tables. Not plain `libc`: that is in `/opt/libcheck/app` too, and nothing would be sampled.
const SKIPPED: [&str; 6] = ["libc.", "libc-", "ld-musl", "libgcc_s", "libpthread", "vdso"];

/// Different stacks in one profile. Names are found for these only; the rest is counted.
const MAX_STACKS: usize = 10_000;
/// Characters of a name: those of nested futures have kilobytes, with nothing new after the first lines.
const MAX_NAME: usize = 400;

/// Measured: 170 MiB with the first profile, 45 more with the second, and the process keeps them (the crate's table is
/// 16,384 stacks of 128 frames in place).
const MEMORY: u64 = 256 << 20;

static LAST: Mutex<Option<Arc<Profile>>> = Mutex::new(None);

/// The last profile taken, to see it in another form.
pub fn last() -> Option<Arc<Profile>> {
    LAST.lock().clone()
}

/// Samples the process for `length`. Dropping the future stops that.
///
/// # Errors
/// [`Kind::Conflict`] while there is another profile, [`Kind::Unavailable`] when the profiler can't start.
pub async fn record(length: Duration) -> Result<Arc<Profile>> {
    if last().is_none() && spare_memory(Path::new("/sys/fs/cgroup")).is_some_and(|spare| spare < MEMORY) {
        let why = "A profile takes 256 MiB, more than is left below the container's memory limit.";
        return Err(Error::new(Kind::Unavailable, "profile_needs_memory", why));
    }
    let turn = Turn::take(length)?;
    // Its end here is dropped with this future, which ends the wait on the other side.
    let (_listening, hang_up) = mpsc::channel::<()>();
    // All on one blocking thread: starting and stopping fill 70 MB, finding names can take a second.
    let profile = tokio::task::spawn_blocking(move || {
        let profile = sample(length, &hang_up).map(Arc::new);
        if let Ok(profile) = &profile {
            *LAST.lock() = Some(Arc::clone(profile));
        }
        drop(turn);
        profile
    });
    profile.await.map_err(Error::internal)?
}

fn sample(length: Duration, hang_up: &mpsc::Receiver<()>) -> Result<Profile> {
    let failed = |error: pprof::Error| {
        let why = "The profiler can't start: it needs a writable directory for temporary files (TMPDIR), \
                   and a restart of the service after that.";
        Error::new(Kind::Unavailable, "profiler_unavailable", why).caused_by(error)
    };
    let profiler =
        ProfilerGuardBuilder::default().frequency(HERTZ as i32).blocklist(&SKIPPED).build().map_err(failed)?;
    let before = cpu_time();
    if hang_up.recv_timeout(length) == Err(RecvTimeoutError::Disconnected) {
        tracing::info!("cpu_profile_abandoned");
        return Err(Error::new(Kind::Unavailable, "profile_abandoned", "Nobody waits for the profile."));
    }
    let used = cpu_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    let report = profiler.report().build_unresolved().map_err(failed)?;
    // Before names are looked for: that takes time, and would be in nobody's interest to sample.
    drop(profiler);
    let profile = resolve(&report, used);
    tracing::info!(seconds = length.as_secs(), samples = profile.samples(), "cpu_profile_taken");
    Ok(profile)
}

/// User and system time of the process: fields 14 and 15 of proc_pid_stat(5), in the 1/100 s of the kernel's ABI.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before may hold spaces and parentheses.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Memory the process can still have below the limit of its container (cgroup v2); file caches give way.
fn spare_memory(cgroup: &Path) -> Option<u64> {
    let read = |file| std::fs::read_to_string(cgroup.join(file)).ok();
    let number = |file| read(file)?.trim().parse::<u64>().ok();
    let cached = read("memory.stat")?.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse().ok());
    let used = number("memory.current")?.saturating_sub(cached.unwrap_or(0));
    Some(number("memory.max")?.saturating_sub(used))
}

fn resolve(report: &UnresolvedReport, used: Option<Duration>) -> Profile {
    let mut most: Vec<_> = report.data.iter().collect();
    most.sort_by_key(|(_, samples)| std::cmp::Reverse(**samples));
    let rest: isize = most.iter().skip(MAX_STACKS).map(|(_, samples)| **samples).sum();
    most.truncate(MAX_STACKS);

    let mut functions = Functions::default();
    let mut stacks: HashMap<(String, Vec<usize>), u64> = HashMap::new();
    for (frames, samples) in most {
        let frames = Frames::from(frames.clone());
        let stack = functions.stack(&frames);
        // Threads of a pool have one name and are one in the picture.
        *stacks.entry((frames.thread_name_or_id(), stack)).or_default() += samples.unsigned_abs() as u64;
    }
    if rest > 0 {
        let stack = vec![functions.position("[other stacks]", "", "")];
        stacks.insert((String::from("[other]"), stack), rest.unsigned_abs() as u64);
    }
    let mut stacks: Vec<Stack> =
        stacks.into_iter().map(|((thread, functions), samples)| Stack { thread, functions, samples }).collect();
    stacks.sort_by(|a, b| b.samples.cmp(&a.samples).then_with(|| a.functions.cmp(&b.functions)));
    Profile {
        functions: functions.list,
        stacks,
        hertz: HERTZ,
        began: report.timing.start_time,
        lasted: report.timing.duration,
        used,
    }
}

/// Functions as they are met, each once.
#[derive(Default)]
struct Functions {
    list: Vec<Function>,
    positions: HashMap<String, usize>,
}

impl Functions {
    /// The stack from the innermost function of the application outwards.
    fn stack(&mut self, frames: &Frames) -> Vec<usize> {
        let mut stack: Vec<usize> = frames
            .frames
            .iter()
            // Samples are merged by function before inlined calls in it are told apart: the first sample's would get
            // the time of all. The last symbol is the function that was really called.
            .filter_map(|symbols| symbols.last())
            .map(|symbol| (symbol.name(), symbol))
            .skip_while(|(name, _)| is_profiler(name))
            .map(|(name, symbol)| self.position(&name, &symbol.sys_name(), &symbol.filename()))
            .collect();
        if stack.is_empty() {
            stack.push(self.position("[unknown]", "", ""));
        }
        stack
    }

    fn position(&mut self, name: &str, symbol: &str, file: &str) -> usize {
        let name: String = name.chars().take(MAX_NAME).collect();
        match self.positions.entry(name) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let symbol = symbol.chars().take(MAX_NAME).collect();
                // What the crate calls a file it does not know.
                let file = if file == "Unknown" { String::new() } else { file.to_owned() };
                self.list.push(Function { name: new.key().clone(), symbol, file });
                *new.insert(self.list.len() - 1)
            }
        }
    }
}

/// The handler's own frames, which are not inlined away in builds without optimisation.
fn is_profiler(name: &str) -> bool {
    ["backtrace::", "<backtrace::", "pprof::", "<pprof::"].iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;

    #[inline(never)]
    fn busy_with_numbers(seed: u64) -> u64 {
        (0..100_000).fold(seed, |number, step| std::hint::black_box(number.wrapping_mul(31) ^ step))
    }

    // One test, because there is one profiler.
    #[tokio::test]
    async fn a_busy_function_is_seen_by_one_profile_at_a_time_and_a_dropped_one_ends() {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let busy = std::thread::Builder::new().name("busy".to_owned()).spawn(move || {
            while !stopped.load(Relaxed) {
                std::hint::black_box(busy_with_numbers(7));
            }
        });
        let second = Duration::from_secs(1);
        let (profile, refused) = tokio::join!(record(second), record(second));
        assert_eq!(refused.unwrap_err().code, "profile_running");
        let profile = profile.unwrap();
        assert!(profile.top().contains("busy_with_numbers"), "{}", profile.top());
        assert!(profile.stacks.iter().any(|stack| stack.thread == "busy"));
        assert!(!profile.functions.iter().any(|function| is_profiler(&function.name)));
        assert!(Arc::ptr_eq(&profile, &last().unwrap()));

        tokio::time::timeout(second / 10, record(second * 60)).await.unwrap_err();
        let deadline = std::time::Instant::now() + second * 10;
        while let Err(error) = record(second / 10).await {
            assert_eq!(error.code, "profile_running");
            assert!(std::time::Instant::now() < deadline, "the dropped profile goes on");
            tokio::time::sleep(second / 20).await;
        }
        stop.store(true, Relaxed);
        busy.unwrap().join().unwrap();
    }

    #[test]
    fn memory_is_what_is_left_below_the_limit() {
        let cgroup = tempfile::tempdir().unwrap();
        let write = |file, text| std::fs::write(cgroup.path().join(file), text).unwrap();
        write("memory.max", "1000\n");
        write("memory.current", "700\n");
        write("memory.stat", "anon 300\ninactive_file 200\n");
        assert_eq!(spare_memory(cgroup.path()), Some(500));
        write("memory.max", "max\n");
        assert_eq!(spare_memory(cgroup.path()), None);
    }
}
