//! What hyper calls for each request: it counts as work of its connection until its answer is taken.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::ConnectInfo,
    http::{HeaderValue, Request, Response, StatusCode, header::CONNECTION},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tower::{Service, ServiceExt as _};

use super::{
    orders::{Orders, Stage},
    watch::Watch,
};

/// Answers one request of a connection.
pub(super) fn answer<S>(
    service: S,
    request: Request<Incoming>,
    peer: SocketAddr,
    watch: &Arc<Watch>,
    orders: &Orders,
) -> impl Future<Output = Result<Response<HeldBody>, Infallible>> + Send
where
    S: Service<Request<Body>, Response = axum::response::Response, Error = Infallible> + Send,
    S::Future: Send,
{
    let held = Held::new(watch);
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    async move {
        let mut response = service.oneshot(request).await?;
        if orders.stage() >= Stage::Lame && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| HeldBody { body, _held: held }))
    }
}

/// Counts as a request until dropped.
struct Held(Arc<Watch>);

impl Held {
    fn new(watch: &Arc<Watch>) -> Self {
        watch.begin();
        Self(Arc::clone(watch))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// An answer that is at work until its last byte is taken.
pub(super) struct HeldBody {
    body: Body,
    _held: Held,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
