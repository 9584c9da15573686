//! A service below a path of its own, `/billing/v1/…`, where one host serves many: the path is taken off what comes
//! in, if a proxy has not done so already, and put before each `Location` that goes out. All else knows nothing of it.

use axum::{
    extract::Request,
    http::{HeaderValue, Uri, header, uri::PathAndQuery},
    response::Response,
};

/// `""` or `/billing`: no slash at the end, nothing that would have to be escaped.
pub fn is_valid(base: &str) -> bool {
    let plain = |segment: &str| {
        !segment.is_empty()
            && !segment.bytes().all(|byte| byte == b'.')
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    base.is_empty() || base.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain))
}

/// A request as the routes know it.
pub fn strip<B>(mut request: Request<B>, base: &str) -> Request<B> {
    if let Some(uri) = stripped(request.uri(), base) {
        *request.uri_mut() = uri;
    }
    request
}

fn stripped(uri: &Uri, base: &str) -> Option<Uri> {
    let whole = uri.path_and_query()?.as_str();
    let rest = whole.strip_prefix(base).filter(|_| !base.is_empty())?;
    let rest: PathAndQuery = match rest.bytes().next() {
        Some(b'/') => rest.parse().ok()?,
        // `/billing` and `/billing?x=1` are its root.
        None | Some(b'?') => format!("/{rest}").parse().ok()?,
        // `/billings` is somebody else.
        Some(_) => return None,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest);
    Uri::from_parts(parts).ok()
}

/// Puts `base` before a `Location` of ours.
pub fn locate(mut response: Response, base: &str) -> Response {
    if let Some(location) = response.headers_mut().get_mut(header::LOCATION)
        && let Some(path) = location.to_str().ok().filter(|path| path.starts_with('/'))
        && let Ok(whole) = HeaderValue::try_from(format!("{base}{path}"))
    {
        *location = whole;
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn only_whole_segments_are_taken_off() {
        for (given, seen) in [
            ("/billing/v1/orders?limit=1", "/v1/orders?limit=1"),
            ("/billing", "/"),
            ("/billing?x=1", "/?x=1"),
            ("/billing/", "/"),
            ("/billings/v1", "/billings/v1"),
            ("/v1/orders", "/v1/orders"),
            ("/v1/billing/x", "/v1/billing/x"),
        ] {
            let request = Request::builder().uri(given).body(Body::empty()).unwrap();
            assert_eq!(strip(request, "/billing").uri(), seen, "{given}");
        }
        let request = Request::builder().uri("/v1/orders").body(Body::empty()).unwrap();
        assert_eq!(strip(request, "").uri(), "/v1/orders");
    }

    #[test]
    fn what_cannot_be_a_base_path_is_told_from_what_can() {
        assert!(["", "/billing", "/a/b-c_1.2"].into_iter().all(is_valid));
        assert!(
            ["/", "billing", "/billing/", "//", "/a//b", "/a/../b", "/a b", "/ä", "/a?b"]
                .into_iter()
                .all(|base| !is_valid(base))
        );
    }
}
