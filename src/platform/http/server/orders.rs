//! How connections learn that the listener ends. Polling a `CancellationToken` takes a lock that all
//! connections share; here it is taken once for each change, and a request costs an atomic load.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::atomic::{AtomicU8, Ordering::SeqCst},
    task::{Context, Waker},
};

use tokio::sync::{Notify, futures::Notified};
use tokio_util::sync::CancellationToken;

/// How a listener is told to end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Go on, but ask clients to leave: each answer closes its connection.
    pub lame: CancellationToken,
    /// Stop accepting; connections finish the request they have.
    pub drain: CancellationToken,
    /// Drop the connections that are left.
    pub kill: CancellationToken,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Serving,
    Lame,
    Drain,
    Kill,
}

const STAGES: [Stage; 4] = [Stage::Serving, Stage::Lame, Stage::Drain, Stage::Kill];

#[derive(Default)]
pub(super) struct Orders {
    stage: AtomicU8,
    changed: Notify,
}

impl Orders {
    pub fn stage(&self) -> Stage {
        STAGES[usize::from(self.stage.load(SeqCst)) % STAGES.len()]
    }

    fn give(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, SeqCst);
        // Lame is read when an answer is ready; nobody needs to wake up for it.
        if stage > Stage::Lame {
            self.changed.notify_waiters();
        }
    }

    /// Passes on what the tokens say, for ever.
    pub async fn relay(&self, stop: &Stop) -> Infallible {
        let stages = [(&stop.lame, Stage::Lame), (&stop.drain, Stage::Drain), (&stop.kill, Stage::Kill)];
        let [lame, drain, kill] = stages.map(|(token, stage)| async move {
            token.cancelled().await;
            self.give(stage);
        });
        tokio::join!(lame, drain, kill);
        std::future::pending().await
    }

    pub fn hear(&self) -> Hearing<'_> {
        Hearing { orders: self, changed: Box::pin(self.changed.notified()), heard: Stage::Serving, waker: None }
    }
}

/// One connection's ear.
pub(super) struct Hearing<'a> {
    orders: &'a Orders,
    changed: Pin<Box<Notified<'a>>>,
    heard: Stage,
    waker: Option<Waker>,
}

impl Hearing<'_> {
    /// The stage now; the task is woken when the next one comes.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Stage {
        let known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known || self.orders.stage() != self.heard {
            while self.changed.as_mut().poll(cx).is_ready() {
                self.changed.set(self.orders.changed.notified());
            }
            self.waker = Some(cx.waker().clone());
            // After the waker is in its place: an order in between is seen here, a later one wakes.
            self.heard = self.orders.stage();
        }
        self.heard
    }
}
