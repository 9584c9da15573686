//! `GET /debug/pprof/…`: profiles of the live process, for a browser, a terminal or `go tool pprof`.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderName, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use crate::platform::{
    error::{Error, Kind, Result},
    http::extract::Query,
    telemetry::profile::{
        cpu::{self, Profile},
        heap,
    },
};

const DEFAULT_SECONDS: u64 = 30;
/// A minute is enough for any load worth a look; longer ones hold the turn from others.
const SECONDS: RangeInclusive<u64> = 1..=60;

/// The text of the values is kept, so that the answer to a wrong one can name the bounds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    seconds: Option<String>,
    format: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedLast {
    format: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    /// A flame graph.
    Svg,
    /// For tools.
    Pprof,
    /// A table.
    Top,
}

/// The routes of profiles.
pub fn router() -> Router {
    Router::new()
        .route("/debug/pprof/profile", get(profile))
        .route("/debug/pprof/profile/last", get(last_profile))
        .route("/debug/pprof/heap", get(async || heap::record().await.map(|file| download(file, "heap.pb.gz"))))
}

/// Samples for some seconds, then answers; a client that hangs up ends it.
async fn profile(Query(wanted): Query<Wanted>) -> Result<Response> {
    let format = format(wanted.format.as_deref())?;
    let length = seconds(wanted.seconds.as_deref())?;
    show(cpu::record(length).await?, format).await
}

/// The last profile again, usually in another form: all forms of one measurement agree.
async fn last_profile(Query(wanted): Query<WantedLast>) -> Result<Response> {
    let format = format(wanted.format.as_deref())?;
    let none = || Error::not_found("no_profile_yet", "No profile was taken since the start: GET /debug/pprof/profile.");
    show(cpu::last().ok_or_else(none)?, format).await
}

/// On another thread: drawing takes long for a runtime that answers probes.
async fn show(profile: Arc<Profile>, format: Format) -> Result<Response> {
    let shown = tokio::task::spawn_blocking(move || match format {
        Format::Svg => profile.svg().map(|svg| answer("image/svg+xml", svg)),
        Format::Pprof => profile.pprof().map(|file| download(file, "profile.pb.gz")),
        Format::Top => Ok(answer("text/plain; charset=utf-8", profile.top().into_bytes())),
    });
    shown.await.map_err(Error::internal)?
}

fn seconds(given: Option<&str>) -> Result<Duration> {
    let seconds = given.map_or(Ok(DEFAULT_SECONDS), str::parse).ok().filter(|seconds| SECONDS.contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let (least, most) = (SECONDS.start(), SECONDS.end());
        malformed(format!("seconds must be a whole number from {least} to {most}."))
    })
}

fn format(given: Option<&str>) -> Result<Format> {
    match given {
        None | Some("svg") => Ok(Format::Svg),
        Some("pb") => Ok(Format::Pprof),
        Some("top") => Ok(Format::Top),
        Some(_) => Err(malformed("format must be svg, pb or top.".to_owned())),
    }
}

fn malformed(why: String) -> Error {
    Error::new(Kind::Malformed, "malformed_profile", why)
}

const NOT_STORED: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

fn answer(media_type: &'static str, body: Vec<u8>) -> Response {
    ([NOT_STORED, (header::CONTENT_TYPE, media_type)], body).into_response()
}

fn download(file: Vec<u8>, name: &str) -> Response {
    let name = format!("attachment; filename=\"{name}\"");
    ([(header::CONTENT_DISPOSITION, name)], answer("application/octet-stream", file)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_formats_have_bounds() {
        assert_eq!(seconds(None).unwrap(), Duration::from_secs(30));
        assert_eq!(seconds(Some("60")).unwrap(), Duration::from_secs(60));
        for wrong in ["0", "61", "-1", "1.5", "", "99999999999999999999"] {
            let error = seconds(Some(wrong)).unwrap_err();
            assert_eq!((error.kind, error.code), (Kind::Malformed, "malformed_profile"), "{wrong}");
            assert!(error.message.contains("from 1 to 60"));
        }
        assert_eq!(format(None).unwrap(), Format::Svg);
        assert_eq!(format(Some("pprof")).unwrap_err().code, "malformed_profile");
    }
}
