//! A TCP balancer with health checks, as the platform puts one before the instances: it knows no
//! HTTP but that of the checks. Faults on the way are the work of `proxy`.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a client waits for a healthy backend.
const PATIENCE: Duration = Duration::from_secs(2);

/// One instance of the service.
#[derive(Clone, Debug)]
pub struct Backend {
    pub address: SocketAddr,
    pub health: SocketAddr,
    pub health_path: String,
}

/// When backends are asked for their health.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    pub interval: Duration,
    pub timeout: Duration,
}

impl Default for Checks {
    fn default() -> Self {
        Self { interval: Duration::from_millis(50), timeout: Duration::from_millis(250) }
    }
}

/// The connections of a backend.
#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    total: AtomicU64,
}

struct Slot {
    address: SocketAddr,
    /// Slots of one index differ in it.
    generation: u64,
    healthy: bool,
    counts: Arc<Counts>,
    _checks: DropGuard,
}

type Slots = Vec<Option<Slot>>;

/// A running balancer; its connections end with it.
pub struct Balancer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    slots: watch::Sender<Slots>,
    checks: Checks,
    /// Connections so far, for the turn.
    turn: AtomicUsize,
    generation: AtomicU64,
    unserved: AtomicU64,
}

impl Balancer {
    pub async fn start(backends: Vec<Backend>) -> Self {
        Self::with(backends, Checks::default()).await
    }

    pub async fn with(backends: Vec<Backend>, checks: Checks) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let shared = Arc::new(Shared {
            slots: watch::Sender::new(Vec::new()),
            checks,
            turn: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            unserved: AtomicU64::new(0),
        });
        let balancer = Self { address, shared: Arc::clone(&shared), stop: stop.clone() };
        for (index, backend) in backends.into_iter().enumerate() {
            balancer.replace(index, backend);
        }
        tokio::spawn(async move {
            while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
                if let Ok((client, _)) = accepted {
                    let (shared, stop) = (Arc::clone(&shared), stop.clone());
                    tokio::spawn(async move { stop.run_until_cancelled(shared.serve(client)).await });
                }
            }
        });
        balancer
    }

    /// Puts a backend at this index, which may be the next free one. It gets connections after its
    /// first good check; those of the previous backend live on.
    pub fn replace(&self, index: usize, backend: Backend) {
        let (generation, stop) = (self.shared.generation.fetch_add(1, SeqCst), self.stop.child_token());
        let slot = Slot {
            address: backend.address,
            generation,
            healthy: false,
            counts: Arc::default(),
            _checks: stop.clone().drop_guard(),
        };
        self.shared.slots.send_modify(|slots| {
            slots.resize_with(slots.len().max(index + 1), || None);
            slots[index] = Some(slot);
        });
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { stop.run_until_cancelled(shared.check(index, generation, backend)).await });
    }

    /// Sends nothing there any more; the other indices stay.
    pub fn remove(&self, index: usize) {
        self.shared.slots.send_modify(|slots| slots[index] = None);
    }

    pub fn healthy(&self) -> usize {
        healthy(&self.shared.slots.borrow())
    }

    pub fn is_healthy(&self, index: usize) -> bool {
        self.shared.slots.borrow().get(index).is_some_and(|slot| slot.as_ref().is_some_and(|slot| slot.healthy))
    }

    /// Waits until exactly so many are healthy.
    pub async fn wait_for_healthy(&self, count: usize) {
        let mut slots = self.shared.slots.subscribe();
        slots.wait_for(|slots| healthy(slots) == count).await.unwrap();
    }

    /// Connections to the backend which is there now.
    pub fn open(&self, index: usize) -> usize {
        self.counts(index).map_or(0, |counts| counts.open.load(SeqCst))
    }

    /// The same since it was put there.
    pub fn total(&self, index: usize) -> u64 {
        self.counts(index).map_or(0, |counts| counts.total.load(SeqCst))
    }

    /// Clients for which there was no backend in time.
    pub fn unserved(&self) -> u64 {
        self.shared.unserved.load(SeqCst)
    }

    fn counts(&self, index: usize) -> Option<Arc<Counts>> {
        Some(Arc::clone(&self.shared.slots.borrow().get(index)?.as_ref()?.counts))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn healthy(slots: &Slots) -> usize {
    slots.iter().flatten().filter(|slot| slot.healthy).count()
}

/// An open connection in the counts of its backend.
struct Counted(Arc<Counts>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    async fn check(&self, index: usize, generation: u64, backend: Backend) {
        loop {
            let good = timeout(self.checks.timeout, is_good(&backend)).await.unwrap_or(false);
            self.slots.send_if_modified(|slots| match &mut slots[index] {
                Some(slot) if slot.generation == generation && slot.healthy != good => {
                    slot.healthy = good;
                    true
                }
                _ => false,
            });
            sleep(self.checks.interval).await;
        }
    }

    async fn serve(&self, mut client: TcpStream) {
        let Some((mut upstream, _counted)) = self.connect().await else {
            self.unserved.fetch_add(1, SeqCst);
            return;
        };
        for stream in [&client, &upstream] {
            let _ = stream.set_nodelay(true);
        }
        if copy_bidirectional(&mut client, &mut upstream).await.is_err() {
            // A reset on one side is one on the other; fails for the side that is gone.
            let _ = (client.set_zero_linger(), upstream.set_zero_linger());
        }
    }

    /// A connection to a healthy backend. Nothing was read from the client, so another may be tried.
    async fn connect(&self) -> Option<(TcpStream, Counted)> {
        let (deadline, mut slots, mut tried) = (Instant::now() + PATIENCE, self.slots.subscribe(), BTreeSet::new());
        let turn = self.turn.fetch_add(1, SeqCst);
        while Instant::now() < deadline {
            let next = pick(&slots.borrow_and_update(), turn, &tried);
            if let Some((generation, address, counts)) = next {
                tried.insert(generation);
                // Before the connect: those in progress count for the balance.
                counts.open.fetch_add(1, SeqCst);
                let counted = Counted(counts);
                if let Ok(Ok(upstream)) = timeout_at(deadline, TcpStream::connect(address)).await {
                    counted.0.total.fetch_add(1, SeqCst);
                    return Some((upstream, counted));
                }
            } else {
                // All refused though healthy: the checks will tell, or they are back by then.
                let _no_news = timeout_at(deadline.min(Instant::now() + self.checks.interval), slots.changed()).await;
                tried.clear();
            }
        }
        None
    }
}

/// The healthy one with the fewest connections; among equals the turn decides.
fn pick(slots: &Slots, turn: usize, tried: &BTreeSet<u64>) -> Option<(u64, SocketAddr, Arc<Counts>)> {
    let count = slots.len();
    let order = (0..count).filter_map(|offset| slots[(turn + offset) % count].as_ref());
    order
        .filter(|slot| slot.healthy && !tried.contains(&slot.generation))
        .min_by_key(|slot| slot.counts.open.load(SeqCst))
        .map(|slot| (slot.generation, slot.address, Arc::clone(&slot.counts)))
}

async fn is_good(backend: &Backend) -> bool {
    let Ok(mut stream) = TcpStream::connect(backend.health).await else { return false };
    let request =
        format!("GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", backend.health_path, backend.health);
    let mut answer = Vec::new();
    // To the end: closing with unread bytes would reset, and servers log that.
    let read = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    read.await.is_ok() && answer.starts_with(b"HTTP/1.1 2")
}
