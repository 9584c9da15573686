//! Secrets that change while the service runs: files that are written anew are read anew, and what is made
//! of them is replaced. Everything else wants a restart, and says so.

use super::App;
use crate::{
    config::Config,
    platform::{config::Secret, telemetry::security},
};

/// Two secrets as told, or none.
fn differ(before: Option<&Secret>, now: Option<&Secret>) -> bool {
    before.map(Secret::expose) != now.map(Secret::expose)
}

impl App {
    /// Uses the secrets of `now` where they differ from those in use; the names of what changed.
    ///
    /// # Errors
    /// A secret that can't be used, by the name of its key; those before it in the list are in use by then.
    pub fn rotate(&self, now: &Config) -> Result<Vec<&'static str>, String> {
        let mut in_use = self.secrets.lock();
        let mut changed = Vec::new();
        let (was, is) = (&in_use.auth, &now.auth);
        if differ(was.pepper.as_ref(), is.pepper.as_ref())
            || differ(was.previous_pepper.as_ref(), is.previous_pepper.as_ref())
        {
            let pepper = is.pepper.as_ref().ok_or("auth.pepper: missing")?;
            self.pepper.rotate(pepper, is.previous_pepper.as_ref());
            changed.push("auth.pepper");
        }
        let (was, is) = (&in_use.database, &now.database);
        if differ(was.url.as_ref(), is.url.as_ref()) || differ(was.system_url.as_ref(), is.system_url.as_ref()) {
            let (Some(url), Some(system_url)) = (&is.url, &is.system_url) else {
                return Err("database.url: missing".to_owned());
            };
            self.db.set_urls(url, system_url).map_err(|fault| format!("database.url: {fault}"))?;
            changed.push("database.url");
        }
        if differ(in_use.redis.url.as_ref(), now.redis.url.as_ref())
            && let (Some(redis), Some(url)) = (&self.redis, &now.redis.url)
        {
            redis.set_url(url)?;
            changed.push("redis.url");
        }
        if differ(in_use.admin.token.as_ref(), now.admin.token.as_ref()) {
            self.admin_token.set(now.admin.token.clone());
            changed.push("admin.token");
        }
        if !changed.is_empty() {
            in_use.clone_from(now);
            let keys = changed.join(", ");
            security::Event::SecretsRotated.record();
            tracing::info!(keys, "secrets_rotated");
        }
        Ok(changed)
    }
}
