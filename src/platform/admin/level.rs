//! `GET|PUT /log-level`: what is logged, changed for a while (`?ttl=15m`) by whoever has the token.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, header},
    routing::get,
};
use serde::Deserialize;

use super::Token;
use crate::platform::{
    config::{Secret, value::duration},
    error::{Error, Kind, Result},
    http::extract::{Json, Query},
    lifecycle,
    telemetry::{
        logs::level::{Current, LogLevel},
        security,
    },
};

const DEFAULT_TTL: Duration = Duration::from_secs(15 * 60);
const LONGEST_TTL: Duration = Duration::from_secs(24 * 3_600);

#[derive(Clone)]
struct Access {
    level: LogLevel,
    token: Token,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct For {
    ttl: Option<String>,
}

pub fn router(level: LogLevel, token: Token) -> Router {
    Router::new().route("/log-level", get(show).put(change)).with_state(Access { level, token })
}

async fn show(State(access): State<Access>) -> Json<Current> {
    Json(access.level.current())
}

/// The body is the filter itself: `info,keel::platform::db=debug`.
async fn change(
    State(access): State<Access>,
    Query(wanted): Query<For>,
    headers: HeaderMap,
    filter: String,
) -> Result<Json<Current>> {
    authorize(access.token.get().as_ref(), &headers)?;
    let malformed = |why: String| Error::new(Kind::Malformed, "malformed_log_level", why);
    let ttl = wanted.ttl.as_deref().map_or(Ok(DEFAULT_TTL), duration).map_err(malformed)?;
    if ttl.is_zero() || ttl > LONGEST_TTL {
        return Err(malformed("ttl must be between 1ms and 24h".to_owned()));
    }
    access.level.set(filter.trim(), ttl).map_err(malformed)?;
    security::Event::LogLevelChanged.record();
    let level = access.level.clone();
    lifecycle::spawn(async move {
        tokio::time::sleep(ttl).await;
        level.revert();
    });
    Ok(Json(access.level.current()))
}

fn authorize(token: Option<&Secret>, headers: &HeaderMap) -> Result<()> {
    let Some(token) = token else {
        security::Event::AdminAccessDenied.record();
        return Err(Error::new(Kind::Forbidden, "admin_token_unset", "Set admin.token to change anything here."));
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let same = |given: &str| {
        aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), token.expose().as_bytes()).is_ok()
    };
    if given.is_some_and(same) {
        Ok(())
    } else {
        security::Event::AdminAccessDenied.record();
        Err(Error::new(Kind::Unauthenticated, "invalid_admin_token", "The admin token is missing or wrong."))
    }
}
