//! Redis keys. The only constructor takes a tenant, so no key can be without one.

use std::fmt;

use uuid::Uuid;

use crate::platform::tenancy::TenantId;

/// Goes up when the form of a cached value changes: old values are then not found instead of misread.
const VERSION: &str = "v2";

/// `{prefix}:v2:{<tenant>}:<kind>:<id>`; the braces keep a tenant's keys on one node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    pub fn of_tenant(prefix: &str, tenant: TenantId, kind: &'static str, id: Uuid) -> Self {
        Self(format!("{prefix}:{VERSION}:{{{tenant}}}:{kind}:{id}"))
    }

    /// What a tenant has used of its quota.
    pub fn of_quota(prefix: &str, tenant: TenantId) -> Self {
        Self(format!("{prefix}:{VERSION}:{{{tenant}}}:quota"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
