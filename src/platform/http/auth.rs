//! The caller of a request. A handler states the scope it needs in its signature:
//! `caller: Caller<Write>`; without a caller there is no tenant and so no data.

use std::marker::PhantomData;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use opentelemetry::{KeyValue, trace::TraceContextExt as _};

use super::rate_limit::RateLimiter;
use crate::platform::{
    error::{Error, Kind},
    telemetry::{attribute, context, security},
    tenancy::{PrincipalId, Scope, TenantId, directory::Directory},
};

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
#[derive(Clone, Debug)]
pub struct Caller<N> {
    pub tenant: TenantId,
    pub principal: PrincipalId,
    needs: PhantomData<N>,
}

impl<N: Needs, S: Send + Sync> FromRequestParts<S> for Caller<N> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let directory = parts
            .extensions
            .get::<Directory>()
            .ok_or_else(|| Error::internal("the directory of API keys is not in the layers"))?;
        let header = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| {
            Error::new(Kind::Unauthenticated, "missing_api_key", "Send the API key as Authorization: Bearer <key>.")
        })?;
        let key = header.to_str().ok().and_then(bearer).unwrap_or_default();
        let found = directory.authenticate(key).await.inspect_err(|error| {
            if error.kind == Kind::Unauthenticated {
                security::Event::AuthenticationFailed.record();
            }
        })?;
        context::with_current(|request| request.set_caller(found.tenant, found.principal.clone()));
        opentelemetry::Context::map_current(|cx| {
            let span = cx.span();
            if span.is_recording() {
                span.set_attribute(KeyValue::new(attribute::TENANT_ID, found.tenant.to_string()));
                span.set_attribute(KeyValue::new("user.id", found.principal.as_str().to_owned()));
            }
        });
        let limiter = parts.extensions.get::<RateLimiter>();
        let quota = limiter.map_or(Ok(None), |limiter| limiter.take(found.tenant));
        if let Some(quota) = quota.inspect_err(|_| security::Event::RateLimitExceeded.record())? {
            context::with_current(|request| request.set_quota(quota));
        }
        if found.scope < N::SCOPE {
            security::Event::AuthorizationFailed.record();
            return Err(Error::new(
                Kind::Forbidden,
                "missing_scope",
                "The API key may not do this; it needs the scope write.",
            ));
        }
        Ok(Self { tenant: found.tenant, principal: found.principal, needs: PhantomData })
    }
}

/// The scheme is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
