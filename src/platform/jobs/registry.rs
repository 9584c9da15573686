//! The kinds of job this process can run.

use std::{collections::BTreeMap, sync::Arc};

use futures_core::future::BoxFuture;

use super::{Job, Next, Run};
use crate::platform::error::{Error, Result};

type Handler = Arc<dyn Fn(serde_json::Value, Run) -> BoxFuture<'static, Result<Next>> + Send + Sync>;

#[derive(Clone)]
pub(super) struct Kind {
    pub name: &'static str,
    pub queue: &'static str,
    pub patience: u32,
    pub handler: Handler,
}

/// All kinds, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Kind>);

impl Registry {
    /// Adds a kind and the state its runs get.
    #[must_use]
    pub fn with<J: Job>(mut self, state: J::State) -> Self {
        let handler: Handler = Arc::new(move |payload, run| {
            let state = state.clone();
            Box::pin(async move {
                let job: J = serde_json::from_value(payload).map_err(Error::internal)?;
                job.run(state, run).await
            })
        });
        self.0.insert(J::KIND, Kind { name: J::KIND, queue: J::QUEUE, patience: J::PATIENCE, handler });
        self
    }

    pub(super) fn find(&self, kind: &str) -> Option<&Kind> {
        self.0.get(kind)
    }

    pub(super) fn queues(&self) -> Vec<&'static str> {
        let mut queues: Vec<_> = self.0.values().map(|kind| kind.queue).collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    pub(super) fn kinds_of(&self, queue: &str) -> Vec<&'static str> {
        self.0.values().filter(|kind| kind.queue == queue).map(|kind| kind.name).collect()
    }
}
