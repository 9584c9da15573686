//! The service as a process of its own: started on a core of its own, its standard output drained, what it uses read
//! from /proc, and killed when dropped.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::client::Connection;

/// The binary that is measured.
pub fn binary() -> PathBuf {
    std::env::var_os("KEEL_BENCH_BINARY").unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_keel"))).into()
}

/// Keeps this process, and what it starts, off the first core, which is the service's; says whether that can be done.
pub fn leave_first_core() -> bool {
    let cores = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default().matches("processor\t").count();
    let others = if cores > 2 { format!("1-{}", cores - 1) } else { "1".to_owned() };
    let me = std::process::id().to_string();
    let done = Command::new("taskset").args(["-cp", &others, &me]).stdout(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

/// How to start the service.
pub struct Launch {
    pub variables: Vec<(&'static str, String)>,
    pub without_redis: bool,
    /// On the first core alone.
    pub pinned: bool,
    /// Under callgrind, which writes this file at the end.
    pub callgrind: Option<PathBuf>,
}

impl Launch {
    fn command(&self) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if self.pinned {
            words.extend(["taskset", "-c", "0"].map(OsString::from));
        }
        if let Some(file) = &self.callgrind {
            words.extend(["valgrind", "-q", "--tool=callgrind"].map(OsString::from));
            words.push(format!("--callgrind-out-file={}", file.display()).into());
        }
        words.extend([binary().into(), "serve".into()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        // What the caller's terminal exports must not change what is measured; the size of a queue may be tried.
        #[expect(clippy::disallowed_methods, reason = "the variables are the service's, which inherits the rest")]
        for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
            let tried = name.starts_with("OTEL_BSP_");
            if (name.starts_with("OTEL_") && !tried) || ["RUST_LOG", "SENTRY_DSN"].contains(&name.as_str()) {
                command.env_remove(name);
            }
        }
        if self.without_redis {
            command.env_remove("REDIS_URL").env_remove("APP__REDIS__URL");
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

pub struct Service {
    child: Child,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    lines: AtomicU64,
    bytes: AtomicU64,
}

/// What the service has used and written since its start.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// From /proc/pid/stat: ended threads included, in ticks of 10 ms.
    ticks: Duration,
    /// From the scheduler's own nanoseconds of each living thread.
    threads: Option<Duration>,
    /// Of the first core, by whomever.
    core: Duration,
    pub lines: u64,
    pub line_bytes: u64,
}

impl Used {
    /// CPU time since `earlier`, in µs.
    pub fn cpu_since(&self, earlier: &Self) -> f64 {
        let ticks = self.ticks.saturating_sub(earlier.ticks);
        let threads = self.threads.zip(earlier.threads).and_then(|(now, then)| now.checked_sub(then));
        // The finer figure misses threads that have ended: it counts only as far as both agree.
        let close = |threads: &Duration| threads.abs_diff(ticks) <= Duration::from_millis(30);
        threads.filter(close).unwrap_or(ticks).as_secs_f64() * 1e6
    }

    /// Time of the service's core that went to others since `earlier`, in µs, if it was given that core.
    pub fn others_since(&self, earlier: &Self) -> f64 {
        (self.core.saturating_sub(earlier.core).as_secs_f64() * 1e6 - self.cpu_since(earlier)).max(0.0)
    }
}

/// The unit of /proc: the kernel shows 100 a second whatever its own clock.
const TICK: Duration = Duration::from_millis(10);

/// User, nice, system and stolen time; interrupts are nobody's, and mostly the load's packets.
fn first_core() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().find_map(|line| line.strip_prefix("cpu0 ")).unwrap_or_default().split(' ');
    let ticks = fields.enumerate().filter(|(at, _)| [0, 1, 2, 7].contains(at));
    TICK * ticks.filter_map(|(_, field)| field.parse::<u32>().ok()).sum::<u32>()
}

/// To listen; under callgrind it takes fifty times as long.
const START: Duration = Duration::from_secs(30);
const SLOW_START: Duration = Duration::from_secs(180);

impl Service {
    /// Starts the service and waits until it answers this request with 200.
    pub fn start(launch: &Launch, request: &[u8]) -> Result<Self, String> {
        let deadline = Instant::now() + if launch.callgrind.is_some() { SLOW_START } else { START };
        let spawned = launch.command().stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| format!("{} can't be started: {error}", binary().display()))?;
        let stdout = child.stdout.take().expect("it is piped");
        let output = Arc::new(Output::default());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut service = Self { child, public: nowhere, admin: nowhere, output: Arc::clone(&output) };
        let (found, addresses) = mpsc::channel();
        std::thread::spawn(move || drain(stdout, &found, &output));
        let wait = deadline.saturating_duration_since(Instant::now());
        let starting = addresses.recv_timeout(wait).map_err(|_| "the service ended, or said no address in time")?;
        let address = |name: &str| starting[name].as_str()?.parse().ok();
        (service.public, service.admin) =
            address("public").zip(address("admin")).ok_or_else(|| format!("no addresses in {starting}"))?;
        loop {
            match Connection::open(service.public).and_then(|mut connection| connection.ask(request, 200).map(drop)) {
                Ok(()) => return Ok(service),
                // What is 4xx stays it: the key or a path is wrong.
                Err(why) if why.starts_with('4') || Instant::now() > deadline => {
                    return Err(format!("the service does not get ready: {why}"));
                }
                Err(_) if service.has_ended() => return Err("the service ended before it was ready".to_owned()),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    pub fn used(&self) -> Result<Used, String> {
        let stat = self.proc("stat")?;
        // The second field, a name in brackets, may contain blanks; of the rest, utime and stime are the 12th and 13th.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system).ok_or("/proc/pid/stat: unreadable")?;
        Ok(Used {
            ticks: TICK * ticks,
            core: first_core(),
            threads: self.threads(),
            lines: self.output.lines.load(Relaxed),
            line_bytes: self.output.bytes.load(Relaxed),
        })
    }

    fn threads(&self) -> Option<Duration> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let files = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("schedstat")));
        let nanos = files.map(|file| file.ok()?.split(' ').next()?.parse::<u64>().ok());
        nanos.sum::<Option<u64>>().map(Duration::from_nanos)
    }

    /// Resident memory in MiB.
    pub fn rss(&self) -> Result<f64, String> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0).ok_or_else(|| "no VmRSS: the service has ended".to_owned())
    }

    fn proc(&self, file: &str) -> Result<String, String> {
        let path = Path::new("/proc").join(self.child.id().to_string()).join(file);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Asks the service to end and waits until it has.
    pub fn finish(mut self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        asked.map_err(|error| format!("kill: {error}"))?;
        let deadline = Instant::now() + SLOW_START;
        while Instant::now() < deadline {
            if self.has_ended() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("the service does not end after SIGTERM".to_owned())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Hands over the line that says where the service listens, and counts all after it.
fn drain(stdout: ChildStdout, found: &mpsc::Sender<Value>, output: &Output) {
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
        match serde_json::from_str::<Value>(&line) {
            Ok(starting) if starting["message"] == "service_starting" => {
                let _gave_up = found.send(starting);
                break;
            }
            // It says why it can't start.
            Ok(said) if said["level"] == "ERROR" => eprint!("{line}"),
            _ => {}
        }
        line.clear();
    }
    let mut chunk = vec![0; 64 << 10];
    while let Ok(count @ 1..) = reader.read(&mut chunk) {
        output.lines.fetch_add(chunk[..count].iter().filter(|byte| **byte == b'\n').count() as u64, Relaxed);
        output.bytes.fetch_add(count as u64, Relaxed);
    }
}
