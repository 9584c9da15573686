//! A client that keeps what a test looks at.

use keel::platform::tenancy::TenantId;
use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

/// A tenant with a key for each scope.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub id: TenantId,
    pub key: String,
    pub read_key: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a problem with this status and code, and that its ids are the headers'.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"], self.header("x-request-id"));
        assert_eq!(body["trace_id"], self.header("x-trace-id"));
        body
    }

    /// A problem of the admin listener, where requests have no ids.
    #[track_caller]
    pub fn problem_without_ids(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.json()["code"].as_str()), (status, Some(code)), "{}", self.text);
    }

    #[track_caller]
    pub fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }
}

/// Requests to one application.
#[derive(Clone)]
pub struct Client {
    pub base: String,
    http: reqwest::Client,
}

impl Client {
    pub fn new(base: String) -> Self {
        Self { base, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    pub fn request(&self, method: Method, path: &str, key: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        if key.is_empty() { request } else { request.bearer_auth(key) }
    }

    pub async fn get(&self, path: &str, key: &str) -> Answer {
        Answer::of(self.request(Method::GET, path, key)).await
    }

    pub async fn delete(&self, path: &str, key: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path, key)).await
    }

    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path, key).json(body)).await
    }

    pub async fn patch(&self, path: &str, key: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::PATCH, path, key).json(body)).await
    }

    /// A body exactly as given.
    pub async fn post_raw(&self, path: &str, key: &str, body: impl Into<reqwest::Body>) -> Answer {
        Answer::of(self.request(Method::POST, path, key).header("content-type", "application/json").body(body)).await
    }
}
