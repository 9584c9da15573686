//! `GET /openapi.json`, and the interactive page at `/docs`: every asset from this binary, so that
//! it works without the internet and under a strict content security policy.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use utoipa::openapi::{
    OpenApi, Server,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_swagger_ui::Config;

use super::problem;
use crate::platform::error::Error;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>API documentation</title>
<link rel="icon" href="/docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/swagger-ui-standalone-preset.js"></script>
<script src="/docs/assets/swagger-initializer.js"></script>
</body>
</html>
"#;

/// Styles are inline in the page's own script, images may be data URLs; nothing comes from elsewhere.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'",
);

/// Adds to the generated document what macros can't know.
pub fn complete(mut api: OpenApi, title: &str, version: &str) -> OpenApi {
    api.info.title = title.to_owned();
    version.clone_into(&mut api.info.version);
    api.info.description = Some(
        "Multi-tenant API. Errors are application/problem+json (RFC 9457) with the ids to quote to support.".to_owned(),
    );
    // The generator puts itself there.
    (api.info.license, api.info.contact) = (None, None);
    let components = api.components.get_or_insert_default();
    components.schemas.extend(problem::schemas());
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("API key: ak_…")).build();
    components.security_schemes.insert("api_key".to_owned(), SecurityScheme::Http(scheme).into());
    api
}

/// The document as it is served and kept in docs/openapi.json.
pub fn text(api: &OpenApi) -> String {
    let mut text = serde_json::to_string_pretty(api).expect("the document is plain data");
    text.push('\n');
    text
}

/// Below `base`, which the document then names as its server.
pub fn router(api: &OpenApi, base: &str) -> Router {
    let mut api = api.clone();
    if !base.is_empty() {
        api.servers = Some(vec![Server::new(base)]);
    }
    let document: Arc<str> = text(&api).into();
    let page: Arc<str> = PAGE.replace("=\"/docs", &format!("=\"{base}/docs")).into();
    let config = Arc::new(Config::from(format!("{base}/openapi.json")).display_request_duration(true));
    Router::new()
        .route("/openapi.json", get(async move || ([(header::CONTENT_TYPE, "application/json")], document.to_string())))
        .route("/docs", get(async move || ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(page.to_string()))))
        .route("/docs/assets/{file}", get(asset))
        .with_state(config)
}

async fn asset(State(config): State<Arc<Config<'static>>>, uri: Uri) -> Response {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    match utoipa_swagger_ui::serve(name, config) {
        Ok(Some(file)) => {
            let headers =
                [(header::CONTENT_TYPE, file.content_type), (header::CACHE_CONTROL, "max-age=3600".to_owned())];
            (StatusCode::OK, headers, file.bytes.into_owned()).into_response()
        }
        Ok(None) => Error::not_found("route_not_found", "There is no such route.").into_response(),
        Err(error) => Error::internal(error.to_string()).into_response(),
    }
}
