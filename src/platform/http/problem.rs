//! Errors at the edge: the one table from kind to status, and `application/problem+json` (RFC 9457)
//! with the ids that find the request in logs and traces.

use std::{borrow::Cow, collections::BTreeMap};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use opentelemetry::trace::TraceContextExt as _;
use serde::Serialize;
use utoipa::{IntoResponses, PartialSchema as _, ToSchema, openapi};

use crate::platform::{
    error::{Error, FieldError, Kind},
    telemetry::{context, sink::Sink},
};

/// The status of each kind; nowhere else is one chosen for an error.
pub const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Malformed => StatusCode::BAD_REQUEST,
        Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::PaymentRequired => StatusCode::PAYMENT_REQUIRED,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::SlowRequest => StatusCode::REQUEST_TIMEOUT,
        Kind::UriTooLong => StatusCode::URI_TOO_LONG,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A failed request (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// Identifies the kind of problem: `urn:problem-type:` and the code.
    r#type: String,
    title: Cow<'static, str>,
    status: u16,
    detail: Cow<'static, str>,
    /// Stable name to program against.
    code: &'static str,
    request_id: String,
    trace_id: String,
    /// The fields at fault, if single fields are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<ProblemField>,
}

/// One field at fault.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemField {
    field: Cow<'static, str>,
    message: Cow<'static, str>,
}

impl From<FieldError> for ProblemField {
    fn from(error: FieldError) -> Self {
        Self { field: shown(error.field), message: shown(error.message) }
    }
}

/// What the observing layer needs to know of a failure; travels in the response's extensions.
#[derive(Clone, Debug)]
pub struct Failed {
    pub code: &'static str,
    /// Whether somebody must look at the code: not for what a client did, nor for a dependency that is away.
    pub is_fault: bool,
    /// The causes, for the log only.
    pub chain: String,
}

/// What was put together at run time can hold what the client sent; texts of ours can't.
fn shown(text: Cow<'static, str>) -> Cow<'static, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text),
        Cow::Owned(text) => Cow::Owned(Sink::Problem.text(&text).into_owned()),
    }
}

/// Status and body of an error, with the ids of the running request.
pub fn render(error: &Error) -> (StatusCode, String) {
    let status = status(error.kind);
    let (request_id, trace_id) = ids();
    let body = ProblemBody {
        r#type: format!("urn:problem-type:{}", error.code),
        title: status.canonical_reason().unwrap_or_default().into(),
        status: status.as_u16(),
        detail: shown(error.message.clone()),
        code: error.code,
        request_id,
        trace_id,
        errors: error.fields.iter().cloned().map(ProblemField::from).collect(),
    };
    (status, serde_json::to_string(&body).expect("a struct of strings serialises"))
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, text) = render(&self);
        let failed = Failed {
            code: self.code,
            is_fault: matches!(self.kind, Kind::Internal | Kind::Timeout),
            chain: self.chain(),
        };
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response();
        if let Some(after) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from((after.as_secs_f64().ceil() as u64).max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(failed);
        response
    }
}

fn ids() -> (String, String) {
    let request_id = context::with_current(|request| request.request_id.clone()).unwrap_or_default();
    let trace_id = opentelemetry::Context::map_current(|cx| {
        let span = cx.span();
        let ids = span.span_context();
        ids.is_valid().then(|| ids.trace_id().to_string())
    });
    (request_id, trace_id.unwrap_or_default())
}

fn document(statuses: &[(&str, &str)]) -> BTreeMap<String, openapi::RefOr<openapi::response::Response>> {
    let schema = openapi::Ref::from_schema_name(ProblemBody::name());
    statuses
        .iter()
        .map(|(status, description)| {
            let content = openapi::ContentBuilder::new().schema(Some(schema.clone())).build();
            let response = openapi::ResponseBuilder::new()
                .description(*description)
                .content("application/problem+json", content)
                .build();
            ((*status).to_owned(), openapi::RefOr::T(response))
        })
        .collect()
}

/// For the document: what any route with a caller may answer.
pub struct Problem;

impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, openapi::RefOr<openapi::response::Response>> {
        document(&[
            ("400", "The request can't be read"),
            ("401", "No API key, or one that is not valid"),
            ("403", "The API key lacks the scope"),
            ("414", "The address is too long"),
            (
                "429",
                "More requests than the tenant may make, or more failed attempts than a client may; see Retry-After",
            ),
            ("500", "A fault of the service"),
            ("503", "A dependency is not available; try again"),
            ("504", "The deadline of the request passed"),
        ])
    }
}

/// For the document: what a route with a body may answer besides.
pub struct BodyProblem;

impl IntoResponses for BodyProblem {
    fn responses() -> BTreeMap<String, openapi::RefOr<openapi::response::Response>> {
        document(&[
            ("408", "The body did not arrive in time"),
            ("413", "The body is too large"),
            ("415", "The body is not application/json"),
            ("422", "Some fields break a rule"),
        ])
    }
}

/// For the document: what a route about one resource may answer besides.
pub struct NotFoundProblem;

impl IntoResponses for NotFoundProblem {
    fn responses() -> BTreeMap<String, openapi::RefOr<openapi::response::Response>> {
        document(&[("404", "No such resource of this tenant")])
    }
}

/// For the document: what a route that can collide may answer besides.
pub struct ConflictProblem;

impl IntoResponses for ConflictProblem {
    fn responses() -> BTreeMap<String, openapi::RefOr<openapi::response::Response>> {
        document(&[("409", "The state of the resource, or its uniqueness, is in the way")])
    }
}

/// For the document: what a route that takes money may answer besides.
pub struct PaymentProblem;

impl IntoResponses for PaymentProblem {
    fn responses() -> BTreeMap<String, openapi::RefOr<openapi::response::Response>> {
        document(&[("402", "The payment was declined")])
    }
}

/// The schemas that [`document`] refers to, for the document's components.
pub fn schemas() -> Vec<(String, openapi::RefOr<openapi::Schema>)> {
    vec![
        (ProblemBody::name().into_owned(), ProblemBody::schema()),
        (ProblemField::name().into_owned(), ProblemField::schema()),
    ]
}
