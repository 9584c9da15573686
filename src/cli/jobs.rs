//! `keel job`: dead letters, for the person who judges them.

use clap::Subcommand;
use serde_json::json;
use uuid::Uuid;

use super::Failure;
use crate::platform::{
    db::{Db, SystemTx},
    jobs::store,
    tenancy::store::audit,
};

/// More are shown by requeueing or asking the database.
const MOST: i64 = 1_000;

#[derive(Subcommand)]
pub enum JobCommand {
    /// List dead letters: id, tenant, queue, kind, tries, since, correlation id, last error
    Dead,
    /// Put dead letters back into their queue, with all their tries
    Requeue {
        /// The id of one
        #[arg(required_unless_present = "all")]
        id: Option<Uuid>,
        /// All of them
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

pub async fn job(db: &Db, command: &JobCommand) -> Result<(), Failure> {
    let mut tx = SystemTx::begin(db).await?;
    match command {
        JobCommand::Dead => {
            for dead in store::dead(&mut tx, MOST).await? {
                println!(
                    "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                    dead.id,
                    dead.tenant_id,
                    dead.queue,
                    dead.kind,
                    dead.attempts,
                    dead.dead_at.to_rfc3339(),
                    dead.correlation_id,
                    dead.last_error.unwrap_or_default().replace(['\t', '\n'], " ")
                );
            }
        }
        JobCommand::Requeue { id, .. } => {
            let tenants = store::requeue(&mut tx, *id).await?;
            if tenants.is_empty() && id.is_some() {
                return Err(Failure::Message("there is no such dead letter; `job dead` lists all".to_owned()));
            }
            for tenant in &tenants {
                audit(&mut tx, *tenant, "cli", "job_requeued", json!({"job_id": id})).await?;
            }
            tx.commit().await?;
            println!("{} requeued", tenants.len());
        }
    }
    Ok(())
}
