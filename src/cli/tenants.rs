//! `keel tenant` and `keel api-key`: as the system role, and audited.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Subcommand;
use serde_json::json;

use super::Failure;
use crate::platform::{
    config::Secret,
    db::{Db, SystemTx},
    error::Error,
    outbound::guard,
    tenancy::{
        Scope, TenantId,
        api_key::{NewKey, Pepper},
        store::{self, Tenant},
    },
};

const ACTOR: &str = "cli";

#[derive(Subcommand)]
pub enum TenantCommand {
    /// Create a tenant and print its id
    Create {
        /// Short name: lower-case letters, digits and '-'
        slug: String,
        /// Where confirmations are sent
        #[arg(long)]
        webhook_url: Option<String>,
        /// Succeed, and print the id, if the tenant exists; a webhook given is then set
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List tenants: id, name, created
    List,
    /// Print the secret that a tenant's webhooks are signed with
    WebhookSecret { slug: String },
}

#[derive(Subcommand)]
pub enum KeyCommand {
    /// Create a key and print it, this once
    Create {
        #[arg(long)]
        tenant: String,
        #[arg(long, value_enum, default_value_t = Scope::Read)]
        scope: Scope,
        /// What the key is for
        #[arg(long)]
        name: String,
    },
    /// List keys: id, name, scope, created, revoked
    List {
        #[arg(long)]
        tenant: String,
    },
    /// Revoke a key by its id; it stops working within auth.key_cache_ttl
    Revoke {
        #[arg(long)]
        tenant: String,
        key_id: String,
    },
}

pub async fn tenant(
    db: &Db,
    pepper: Option<Secret>,
    allow_private: bool,
    command: TenantCommand,
) -> Result<(), Failure> {
    let mut tx = SystemTx::begin(db).await?;
    match command {
        TenantCommand::Create { slug, webhook_url, if_not_exists } => {
            let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if slug.is_empty() || slug.len() > 63 || !slug.chars().all(valid) || slug.starts_with('-') {
                return Err(Failure::Message(format!(
                    "\"{slug}\" is no tenant name: 1 to 63 of lower-case letters, digits and '-', not starting with '-'"
                )));
            }
            if let Some(url) = webhook_url.as_ref().filter(|url| !is_webhook(url, allow_private)) {
                return Err(Failure::Message(format!(
                    "\"{url}\" is no webhook URL: expected https://host/path with a public host"
                )));
            }
            if let Some(known) = store::find_tenant(&mut tx, &slug).await?.filter(|_| if_not_exists) {
                if webhook_url.is_some() && webhook_url != known.webhook_url {
                    store::set_webhook(&mut tx, known.id, webhook_url.as_deref()).await?;
                    store::audit(&mut tx, known.id, ACTOR, "webhook_changed", json!({})).await?;
                    tx.commit().await?;
                }
                println!("{}", known.id);
                return Ok(());
            }
            let id = TenantId::new();
            store::insert_tenant(&mut tx, id, &slug, webhook_url.as_deref()).await?;
            store::audit(&mut tx, id.as_uuid(), ACTOR, "tenant_created", json!({"slug": slug})).await?;
            tx.commit().await?;
            println!("{id}");
        }
        TenantCommand::WebhookSecret { slug } => {
            let pepper = Pepper::new(&pepper.ok_or_else(no_pepper)?, None);
            let id = TenantId::from_uuid(find(&mut tx, &slug).await?.id);
            store::audit(&mut tx, id.as_uuid(), ACTOR, "webhook_secret_shown", json!({})).await?;
            tx.commit().await?;
            println!("whsec_{}", BASE64_STANDARD.encode(&pepper.webhook_secrets(id)[0]));
        }
        TenantCommand::List => {
            for tenant in store::list_tenants(&mut tx).await? {
                println!("{}\t{}\t{}", tenant.id, tenant.slug, tenant.created_at.to_rfc3339());
            }
        }
    }
    Ok(())
}

/// Whether it can be called, as far as the text tells; where a name leads is decided at each call.
fn is_webhook(url: &str, allow_private: bool) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| guard::may_be_called(&url, allow_private))
}

fn no_pepper() -> Failure {
    Failure::Message("auth.pepper: missing; set APP__AUTH__PEPPER".to_owned())
}

async fn find(tx: &mut SystemTx, slug: &str) -> Result<Tenant, Failure> {
    store::find_tenant(tx, slug)
        .await?
        .ok_or_else(|| Failure::Message(format!("there is no tenant \"{slug}\"; `tenant list` shows all")))
}

pub async fn key(db: &Db, pepper: Option<Secret>, command: KeyCommand) -> Result<(), Failure> {
    let mut tx = SystemTx::begin(db).await?;
    match command {
        KeyCommand::Create { tenant, scope, name } => {
            let pepper = pepper.ok_or_else(no_pepper)?;
            let tenant = find(&mut tx, &tenant).await?;
            let key = NewKey::generate(&Pepper::new(&pepper, None)).map_err(|_| Error::internal("no random bytes"))?;
            store::insert_key(&mut tx, tenant.id, &key.id, &name, scope, &key.hash).await?;
            let detail = json!({"key_id": key.id, "name": name, "scope": scope.as_str()});
            store::audit(&mut tx, tenant.id, ACTOR, "api_key_created", detail).await?;
            tx.commit().await?;
            println!("{}", key.text);
        }
        KeyCommand::List { tenant } => {
            let tenant = find(&mut tx, &tenant).await?;
            for key in store::list_keys(&mut tx, tenant.id).await? {
                let revoked = key.revoked_at.map_or("-".to_owned(), |at| at.to_rfc3339());
                println!("{}\t{}\t{}\t{}\t{revoked}", key.key_id, key.name, key.scope, key.created_at.to_rfc3339());
            }
        }
        KeyCommand::Revoke { tenant, key_id } => {
            let tenant = find(&mut tx, &tenant).await?;
            if !store::revoke_key(&mut tx, tenant.id, &key_id).await? {
                return Err(Failure::Message(format!("there is no live key \"{key_id}\"; `api-key list` shows all")));
            }
            store::audit(&mut tx, tenant.id, ACTOR, "api_key_revoked", json!({"key_id": key_id})).await?;
            tx.commit().await?;
            println!("revoked {key_id}");
        }
    }
    Ok(())
}
