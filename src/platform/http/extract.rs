//! Extractors whose rejections are problems like any other error. `axum`'s own are banned by
//! clippy: their rejections are plain text.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{
    limits::BodyBudget,
    overload::{Gate, STEP},
};
use crate::platform::{
    error::{Error, FieldError, Kind},
    idempotency::IdempotencyKey,
};

/// serde_json stops at 128 levels; nothing here is deeper than 5.
const MAX_JSON_DEPTH: usize = 32;
/// Members of one array or object.
const MAX_JSON_MEMBERS: usize = 1_000;

/// A JSON body, in and out.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => Error::internal(error).into_response(),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        if !is_json(&request) {
            return Err(Error::new(
                Kind::UnsupportedMediaType,
                "unsupported_media_type",
                "Send the body as application/json in UTF-8.",
            ));
        }
        let budget = request.extensions().get::<BodyBudget>().cloned();
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length: Option<u64> = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if let Some(BodyBudget { until, limit, gate }) = budget {
            if length.is_some_and(|length| length > limit as u64) {
                return Err(too_large());
            }
            let mut memory = Memory { gate, held: Vec::new() };
            let read = read(request.into_body(), limit, &mut memory);
            let body = tokio::time::timeout_at(until, read)
                .await
                .map_err(|_| Error::new(Kind::SlowRequest, "body_timeout", "The body did not arrive in time."))??;
            return parse(&body).map(Self);
        }
        // Outside the layers of the public port: axum's own limit, and nobody's memory.
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE { too_large() } else { unreadable(rejection) }
        })?;
        parse(&body).map(Self)
    }
}

fn too_large() -> Error {
    Error::new(Kind::TooLarge, "body_too_large", "The body is larger than this service accepts.")
}

fn unreadable(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Malformed, "body_unreadable", "The body ended early.").caused_by(cause)
}

/// Memory that a body takes, asked for as it grows: who announces much and sends little has little.
struct Memory {
    gate: Gate,
    held: Vec<OwnedSemaphorePermit>,
}

async fn read(body: Body, limit: usize, memory: &mut Memory) -> Result<Vec<u8>, Error> {
    let mut frames = body.into_data_stream();
    let mut read = Vec::new();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(unreadable)?;
        if read.len() + frame.len() > limit {
            return Err(too_large());
        }
        while memory.held.len() * STEP < read.len() + frame.len() {
            memory.held.push(memory.gate.body().await?);
        }
        read.extend_from_slice(&frame);
    }
    Ok(read)
}

fn is_json(request: &Request) -> bool {
    let Some(value) = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
    parts.next().as_deref() == Some("application/json")
        && parts.all(|parameter| {
            parameter.strip_prefix("charset=").is_none_or(|charset| charset.trim_matches('"') == "utf-8")
        })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let shape = Shape::of(body);
    if shape.depth > MAX_JSON_DEPTH {
        return Err(Error::new(Kind::Malformed, "json_too_deep", "The JSON is nested too deeply."));
    }
    if shape.longest > MAX_JSON_MEMBERS {
        return Err(Error::new(Kind::Malformed, "json_array_too_long", "An array or object has too many members."));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let mut problem = Error::new(Kind::Malformed, "malformed_json", "The body is not the JSON this route takes.");
        let field = if path == "." { "(body)".to_owned() } else { path };
        problem.fields.push(FieldError { field: field.into(), message: message(&inner).into() });
        problem
    })?;
    deserializer
        .end()
        .map_err(|_| Error::new(Kind::Malformed, "malformed_json", "Something follows the JSON value."))?;
    Ok(value)
}

/// serde's text names fields and types of the caller's own document; values it quotes are cut out.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once("invalid value:").or_else(|| text.split_once("invalid type:")) {
        Some((_, rest)) => {
            rest.split_once("expected ").map_or("has the wrong type".to_owned(), |(_, what)| format!("expected {what}"))
        }
        None => text,
    }
}

/// How large a document is, found without parsing it: text in strings does not count.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    /// Deepest nesting of arrays and objects.
    depth: usize,
    /// Most members of one of them.
    longest: usize,
}

impl Shape {
    fn of(body: &[u8]) -> Self {
        let (mut shape, mut in_string, mut escaped) = (Self::default(), false, false);
        let mut depth = 0_usize;
        // Of those that are open, up to one more than may be.
        let mut members = [0_usize; MAX_JSON_DEPTH + 1];
        for byte in body {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'[' | b'{' if !in_string => {
                    depth += 1;
                    shape.depth = shape.depth.max(depth);
                    members[depth.min(MAX_JSON_DEPTH)] = 1;
                }
                b',' if !in_string => {
                    let members = &mut members[depth.min(MAX_JSON_DEPTH)];
                    *members += 1;
                    shape.longest = shape.longest.max(*members);
                }
                b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        shape
    }
}

/// Query parameters; unknown ones are an error, because a mistyped filter must not return everything.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        #[expect(clippy::disallowed_types, reason = "wrapped here so that its rejection is a problem")]
        axum::extract::Query::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(|rejection| {
            let detail =
                std::error::Error::source(&rejection).map_or_else(|| rejection.to_string(), ToString::to_string);
            let mut problem = Error::new(Kind::Malformed, "malformed_query", "The query parameters can't be read.");
            problem.fields.push(FieldError { field: "(query)".into(), message: detail.into() });
            problem
        })
    }
}

/// The id in the path: a UUID in its usual form.
#[derive(Clone, Copy, Debug)]
pub struct PathId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let malformed = || Error::new(Kind::Malformed, "malformed_id", "The id in the path is not a UUID.");
        #[expect(clippy::disallowed_types, reason = "wrapped here so that its rejection is a problem")]
        let text = axum::extract::Path::<String>::from_request_parts(parts, state).await.map_err(|_| malformed())?;
        // Braces, URN and the form without hyphens would give one resource several addresses.
        let hyphenated = text.0.len() == uuid::fmt::Hyphenated::LENGTH;
        Uuid::parse_str(&text.0).ok().filter(|_| hyphenated).map(Self).ok_or_else(malformed)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let mut given = parts.headers.get_all("idempotency-key").iter();
        let key = given.next().ok_or_else(|| {
            Error::new(Kind::Malformed, "idempotency_key_required", "Send an Idempotency-Key, new for each operation.")
        })?;
        // Two keys are no key; parse refuses the empty text.
        let text = if given.next().is_some() { "" } else { key.to_str().unwrap_or_default() };
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_counts_brackets_and_commas_outside_strings() {
        assert_eq!(Shape::of(br#"{"a":[{"b":"[[[{{{,,\"[["}]}"#), Shape { depth: 3, longest: 0 });
        assert_eq!(Shape::of(&vec![b'['; 10_000]).depth, 10_000);
        assert_eq!(Shape::of(b"[[1,2,3],[1,2],{\"a\":[1,2,3,4]}]").longest, 4);
        assert_eq!(Shape::of(&[b"[".as_slice(), &b"1,".repeat(2_000)].concat()).longest, 2_001);
    }

    #[test]
    fn a_wrong_value_is_not_quoted_back() {
        let error = serde_json::from_str::<u32>("\"hunter2\"").unwrap_err();
        assert_eq!(message(&error), "expected u32 at line 1 column 9");
    }
}
