//! `GET /openapi.json`, and with the feature `api-docs` the interactive page at `/docs` (`page`).

#[cfg(feature = "api-docs")]
mod page;

use std::sync::Arc;

use axum::{Router, http::header, routing::get};
use utoipa::openapi::{
    OpenApi, Server,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::problem;

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
    let document = get(async move || ([(header::CONTENT_TYPE, "application/json")], document.to_string()));
    let router = Router::new().route("/openapi.json", document);
    #[cfg(feature = "api-docs")]
    let router = router.merge(page::router(base));
    router
}
