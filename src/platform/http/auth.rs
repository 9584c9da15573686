//! The caller of a request. A handler states the scope it needs in its signature:
//! `caller: Caller<Write>`; without a caller there is no tenant and so no data. Who is let in is
//! decided in this order: failed attempts of the client, key, rate of the tenant, its share, scope.

use std::{
    marker::PhantomData,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use opentelemetry::{KeyValue, trace::TraceContextExt as _};

use super::{
    gcra::Gcra,
    overload::{Gate, Share},
    rate_limit::RateLimiter,
    server::client,
};
use crate::platform::{
    error::{Error, Kind, Result},
    telemetry::{attribute, context, security},
    tenancy::{
        PrincipalId, Scope, TenantId,
        directory::{Directory, Identity},
    },
};

/// What callers have to pass. Cheap to clone.
#[derive(Clone)]
pub struct Admission(Arc<Doors>);

struct Doors {
    directory: Directory,
    limiter: RateLimiter,
    gate: Gate,
    /// Failed attempts, by client; none is counted without it.
    failures: Option<Gcra<IpAddr>>,
}

impl Admission {
    /// `failures_per_minute` is how many attempts of one client may fail; 0 for any number.
    pub fn new(directory: Directory, limiter: RateLimiter, gate: Gate, failures_per_minute: u32) -> Self {
        let each = (failures_per_minute > 0).then(|| Duration::from_secs(60) / failures_per_minute);
        let failures = each.map(|each| Gcra::new(each, failures_per_minute));
        Self(Arc::new(Doors { directory, limiter, gate, failures }))
    }

    /// Whose key it is. A client that tries keys is stopped before they are looked up; a key that was good
    /// lately is not kept out by another client behind the same address.
    async fn authenticate(&self, key: &str) -> Result<Identity> {
        let Doors { directory, failures, .. } = &*self.0;
        let client = context::with_current(|request| request.client).flatten().map(client);
        let counted = failures.as_ref().zip(client);
        let wait = counted.and_then(|(failures, client)| failures.wait(&client, Instant::now()));
        if let Some(wait) = wait
            && !directory.knows(key).await
        {
            security::Event::AuthenticationLimited.record();
            const TEXT: &str = "Too many API keys of yours were not valid. Wait.";
            return Err(Error::rate_limited("too_many_failures", TEXT, wait));
        }
        directory.authenticate(key).await.inspect_err(|error| {
            if error.kind == Kind::Unauthenticated {
                security::Event::AuthenticationFailed.record();
                if let Some((failures, client)) = counted {
                    // Refused or not: the next attempt is asked first.
                    let _counted = failures.take(client, Instant::now());
                }
            }
        })
    }
}

/// A scope as a type.
pub trait Needs: Send {
    const SCOPE: Scope;
}

/// The route only reads.
#[derive(Clone, Copy, Debug)]
pub struct Read;
impl Needs for Read {
    const SCOPE: Scope = Scope::Read;
}

/// The route changes something.
#[derive(Clone, Copy, Debug)]
pub struct Write;
impl Needs for Write {
    const SCOPE: Scope = Scope::Write;
}

/// An authenticated caller that may do what the route needs.
#[derive(Clone)]
pub struct Caller<N> {
    pub tenant: TenantId,
    pub principal: PrincipalId,
    needs: PhantomData<N>,
    /// Counts for its tenant as long as the handler keeps it.
    _share: Arc<Share>,
}

impl<N: Needs, S: Send + Sync> FromRequestParts<S> for Caller<N> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let admission = parts
            .extensions
            .get::<Admission>()
            .cloned()
            .ok_or_else(|| Error::internal("the admission of callers is not in the layers"))?;
        let mut given = parts.headers.get_all(header::AUTHORIZATION).iter();
        let header = given.next().ok_or_else(|| {
            Error::new(Kind::Unauthenticated, "missing_api_key", "Send the API key as Authorization: Bearer <key>.")
        })?;
        // Two keys are no key: what stands in front may have looked at the other one.
        let only = given.next().is_none();
        let key = header.to_str().ok().filter(|_| only).and_then(bearer).unwrap_or_default();
        let found = admission.authenticate(key).await?;
        context::with_current(|request| request.set_caller(found.tenant, found.principal.clone()));
        opentelemetry::Context::map_current(|cx| {
            let span = cx.span();
            if span.is_recording() {
                span.set_attribute(KeyValue::new(attribute::TENANT_ID, found.tenant.to_string()));
                span.set_attribute(KeyValue::new("user.id", found.principal.as_str().to_owned()));
            }
        });
        let quota = admission.0.limiter.take(found.tenant).await.inspect_err(|refused| {
            security::Event::RateLimitExceeded.record();
            context::with_current(|request| request.set_quota(admission.0.limiter.nothing(refused.retry_after)));
        })?;
        if let Some(quota) = quota {
            context::with_current(|request| request.set_quota(quota));
        }
        let share = admission.0.gate.share(found.tenant)?;
        if found.scope < N::SCOPE {
            security::Event::AuthorizationFailed.record();
            return Err(Error::new(
                Kind::Forbidden,
                "missing_scope",
                "The API key may not do this; it needs the scope write.",
            ));
        }
        Ok(Self { tenant: found.tenant, principal: found.principal, needs: PhantomData, _share: Arc::new(share) })
    }
}

/// The scheme is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
