//! A drill's stack while it runs: its parts by name, the proxies before them, and what is done to both.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::sleep};

use super::{
    control::Inbox,
    file::{Load, Settings},
    part::Part,
    past,
    shell::Shell,
    traffic::Floods,
};
use crate::support::{
    client::Client,
    harness::proxy::{Mode, Proxy},
};

/// On a busy machine; nothing waits so long that is right.
pub const SOON: Duration = Duration::from_secs(60);
/// Longer than a drain.
const ENDS_WITHIN: Duration = Duration::from_secs(40);
pub const INSTANCES: [&str; 2] = ["instance-1", "instance-2"];

/// All of it, running; it ends when the last owner lets go.
pub struct Site {
    pub settings: Settings,
    pub parts: Mutex<BTreeMap<&'static str, Part>>,
    /// Where a part answers once it is up.
    pub answers: BTreeMap<&'static str, String>,
    pub proxies: BTreeMap<&'static str, Vec<Proxy>>,
    pub inbox: Inbox,
    pub floods: Floods,
    /// Keys of the steady traffic, which no drill revokes.
    pub keys: Vec<String>,
    pub shell: Shell,
    pub prometheus: Client,
    pub alertmanager: Client,
    /// How many addresses Prometheus scrapes.
    pub targets: usize,
    /// Where Prometheus and Alertmanager, in this order, keep what they know.
    pub data: Vec<PathBuf>,
    /// `.local/‹lane›`, with the pids of Postgres and Redis.
    pub lane: PathBuf,
    pub control: Mutex<Option<JoinHandle<()>>>,
    pub directory: TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(task) = self.control.lock().take() {
            task.abort();
        }
    }
}

impl Site {
    pub fn with_part(&self, name: &str, act: impl FnOnce(&mut Part)) -> Result<String, String> {
        let mut parts = self.parts.lock();
        let names = || self.answers.keys().copied().collect::<Vec<_>>().join(", ");
        let part = parts.get_mut(name).ok_or_else(|| format!("no process `{name}`; there are {}", names()))?;
        act(part);
        Ok(String::new())
    }

    /// Starts it, unless it runs, and waits until it answers.
    pub async fn start_part(&self, name: &str) -> Result<String, String> {
        self.with_part(name, Part::start)?;
        let deadline = Instant::now() + SOON;
        let client = Client::new(self.answers[name].clone());
        loop {
            let answer = client.request(reqwest::Method::GET, "", "").timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(String::new());
            }
            let (mut alive, mut log) = (true, String::new());
            self.with_part(name, |part| (alive, log) = (part.is_alive(), part.log()))?;
            if !alive || Instant::now() > deadline {
                let state = if alive { "does not answer" } else { "has ended" };
                return Err(format!("{name} {state} ({}):\n{}", self.answers[name], last_lines(&log, 30)));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// As a deployment does, and by force when that takes too long.
    pub async fn stop_part(&self, name: &str) -> Result<String, String> {
        self.with_part(name, |part| part.signal("TERM"))?;
        self.with_part(name, |part| part.signal("CONT"))?;
        let deadline = Instant::now() + ENDS_WITHIN;
        let mut alive = true;
        while alive && Instant::now() < deadline {
            self.with_part(name, |part| alive = part.is_alive())?;
            sleep(Duration::from_millis(20)).await;
        }
        self.with_part(name, Part::kill)
    }

    /// As kill(1) takes them. Postgres is a family.
    pub fn pids(&self, name: &str) -> Result<String, String> {
        let mut found = None;
        if let Some(instance) = name.strip_prefix("log-reader-") {
            self.with_part(&format!("instance-{instance}"), |part| found = part.reader_pid())?;
        } else if ["postgres", "redis"].contains(&name) {
            let record = std::fs::read_to_string(self.lane.join(format!("{name}.pid"))).unwrap_or_default();
            found = record.split_whitespace().next().and_then(|pid| pid.parse().ok());
        } else {
            self.with_part(name, |part| found = part.is_alive().then(|| part.pid()).flatten())?;
        }
        let pid = found.ok_or_else(|| format!("{name} does not run"))?;
        let mut pids = pid.to_string();
        if name == "postgres" {
            // Before the children: it would see them stop and wonder.
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids = format!("{pids} {}", children.trim());
        }
        Ok(pids.trim().to_owned())
    }

    pub fn proxy(&self, name: &str, mode: &str, ms: u64) -> Result<String, String> {
        let mode = match mode {
            "on" => Mode::Pass,
            "refuse" => Mode::Refuse,
            "swallow" => Mode::BlackHole,
            "reset" => Mode::Reset,
            // Of the way there and the way back.
            "slow" => Mode::Delay(Duration::from_millis(ms / 2)),
            "old-only" => Mode::BlackHoleOld,
            other => {
                return Err(format!("proxy {name}: `{other}` is none of on, refuse, swallow, reset, slow, old-only"));
            }
        };
        let names = || self.proxies.keys().copied().collect::<Vec<_>>().join(", ");
        let proxies = self.proxies.get(name).ok_or_else(|| format!("no proxy `{name}`; there are {}", names()))?;
        proxies.iter().for_each(|proxy| proxy.set(mode.clone()));
        Ok(String::new())
    }

    /// How often each instance was started; one that has ended counts once more.
    pub fn starts(&self) -> Vec<usize> {
        let mut parts = self.parts.lock();
        INSTANCES
            .iter()
            .map(|name| {
                let part = parts.get_mut(name).unwrap();
                part.starts + usize::from(!part.is_alive())
            })
            .collect()
    }

    /// Prometheus and Alertmanager with a past in which all was well, and an inbox without a letter.
    pub async fn forget(&self, load: Load) -> Result<(), String> {
        for name in ["prometheus", "alertmanager"] {
            self.with_part(name, Part::kill)?;
        }
        for data in &self.data {
            let _none_yet = std::fs::remove_dir_all(data);
        }
        for name in INSTANCES {
            self.with_part(name, |part| part.forget_log())?;
        }
        past::write(self, &self.data[0], load)?;
        // One without a single scrape takes everything for absent: nobody is told of that.
        self.start_part("prometheus").await?;
        self.scraped().await?;
        self.start_part("alertmanager").await?;
        let mut inbox = self.inbox.lock();
        inbox.notices.clear();
        inbox.heard = Instant::now();
        Ok(())
    }

    /// Waits until Prometheus has met all targets but Alertmanager, and thinks that all is well.
    async fn scraped(&self) -> Result<(), String> {
        let expected = self.targets - 1;
        let query = format!(
            "/api/v1/query?query=count(up{{job!=%22alertmanager%22}}==1)=={expected}%20unless%20\
             on()ALERTS{{alertname!=%22Watchdog%22,alertstate=%22firing%22}}"
        );
        let deadline = Instant::now() + SOON;
        loop {
            let answer = self.prometheus.request(reqwest::Method::GET, &query, "").send().await;
            let text = match answer {
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            if text.contains("\"value\"") {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "before the fault: not all {expected} targets are scraped, or something fires: {text}"
                ));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Undoes what a drill may have left: proxies, stopped and ended processes, floods, keys.
    pub async fn mend(&self) -> Result<(), String> {
        self.floods.stop();
        for name in self.proxies.keys() {
            self.proxy(name, "on", 0)?;
        }
        let names: Vec<&str> = self.answers.keys().copied().collect();
        for name in names.iter().copied().chain(["postgres", "redis", "log-reader-1", "log-reader-2"]) {
            if let Ok(pids) = self.pids(name) {
                super::part::signal("CONT", &pids);
            }
        }
        let _none_made = std::fs::remove_dir_all(self.directory.path().join("keys"));
        let script = "source \"$DRILL_LIB\"; mend";
        let mended = self.shell.run("mend", script, &BTreeMap::new(), SOON).await;
        if !mended.succeeded() {
            return Err(format!("what the drill left is not mended:\n{}", mended.told()));
        }
        for name in names {
            self.start_part(name).await?;
        }
        Ok(())
    }

    /// For a person who wonders why: what the instances said last but that all is well.
    pub fn last_log_lines(&self) -> String {
        let parts = self.parts.lock();
        let of = |name: &&str| {
            let log = parts[*name].log();
            let told: Vec<&str> =
                log.lines().filter(|line| !line.contains("\"message\":\"request_completed\"")).collect();
            format!("--- {name}, last lines\n{}", last_lines(&told.join("\n"), 6))
        };
        INSTANCES.iter().map(of).collect::<Vec<_>>().join("\n")
    }
}

pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let cut = |line: &&str| line.chars().take(600).collect::<String>();
    lines[lines.len().saturating_sub(count)..].iter().map(cut).collect::<Vec<_>>().join("\n")
}

/// Shared with the control address, which must not keep it alive.
pub type Shared = Arc<Site>;
