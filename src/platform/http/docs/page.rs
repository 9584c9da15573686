//! The interactive page at `/docs`: every asset from this binary, so that it works without the internet and under a
//! strict content security policy.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use utoipa_swagger_ui::Config;

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

/// Below `base`.
pub fn router(base: &str) -> Router {
    let page: Arc<str> = PAGE.replace("=\"/docs", &format!("=\"{base}/docs")).into();
    let config = Arc::new(Config::from(format!("{base}/openapi.json")).display_request_duration(true));
    Router::new()
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
