//! ASVS 16.3: every security event there is, caused once by a real request: in the log by its name, with
//! whose it is, and counted. An event that is new does not compile here until it is caused too.

use keel::platform::{
    outbound::Failure,
    telemetry::{
        context::{self, RequestContext},
        security::Event,
    },
    tenancy::PrincipalId,
};
use reqwest::{Method, header::AUTHORIZATION};
use serde_json::{Value, json};

use super::webhooks::{call, outbound};
use crate::support::{Answer, TestApp, client::Tenant, eventually, sinks::SHARED, things};

const TOKEN: &str = "an-admin-token-of-these-tests-only";
const BURST: usize = 60;

/// Where the event's line is found, and what else it says.
enum Trace {
    /// In the context of this answer's request.
    Request(Box<Answer>),
    /// In a job of this tenant.
    Tenant(String),
    /// On the admin listener, where requests have no ids.
    Admin,
}

async fn log_level(app: &TestApp, token: &str) -> Answer {
    let request = app.admin.request(Method::PUT, "/log-level?ttl=1ms", "");
    Answer::of(request.header(AUTHORIZATION, format!("Bearer {token}")).body("info")).await
}

async fn cause(app: &TestApp, acme: &Tenant, event: Event) -> Trace {
    match event {
        Event::AuthenticationFailed => {
            let answer = app.get("/v1/tenant", "ak_wrong").await;
            answer.problem(401, "invalid_api_key");
            Trace::Request(Box::new(answer))
        }
        Event::AuthenticationLimited => {
            let strict = TestApp::with(&[("APP__AUTH__FAILURES_PER_MINUTE", "2")]).await;
            for _ in 0..2 {
                strict.get("/v1/tenant", "ak_wrong").await.problem(401, "invalid_api_key");
            }
            let answer = strict.get("/v1/tenant", "ak_wrong").await;
            answer.problem(429, "too_many_failures");
            strict.stop().await;
            Trace::Request(Box::new(answer))
        }
        Event::SecretsRotated => {
            let mut other = app.config.clone();
            other.admin.token =
                Some(keel::platform::config::Secret::new("another-token-of-thirty-two-letters".to_owned()));
            assert_eq!(app.running.app.rotate(&other).unwrap(), ["admin.token"]);
            assert_eq!(app.running.app.rotate(&app.config).unwrap(), ["admin.token"]);
            Trace::Admin
        }
        Event::AuthorizationFailed => {
            let answer = app.post(things::PATH, &acme.read_key, &json!({})).await;
            answer.problem(403, "missing_scope");
            Trace::Request(Box::new(answer))
        }
        Event::CursorRejected => {
            let answer = app.get(&format!("{}?cursor=forged", things::PATH), &acme.key).await;
            answer.problem(400, "invalid_cursor");
            Trace::Request(Box::new(answer))
        }
        Event::RateLimitExceeded => {
            let greedy = app.tenant("greedy").await;
            for _ in 0..2 * BURST {
                let answer = app.get("/v1/tenant", &greedy.key).await;
                if answer.status == 429 {
                    return Trace::Request(Box::new(answer));
                }
            }
            panic!("no limit");
        }
        Event::OutboundForbidden => {
            // As a job of the tenant calls.
            let job = RequestContext::of_job("forbidden-1".to_owned(), "forbidden-1".to_owned(), "test");
            job.set_caller(acme.id, PrincipalId::new("job"));
            let refused = context::scope(job.begin(), async {
                outbound(false).call_tenant(&call("https://169.254.169.254/")).await
            });
            assert_eq!(refused.await.unwrap_err(), Failure::Forbidden);
            Trace::Tenant(acme.id.to_string())
        }
        Event::AdminAccessDenied => {
            log_level(app, "wrong").await.problem_without_ids(401, "invalid_admin_token");
            Trace::Admin
        }
        Event::LogLevelChanged => {
            log_level(app, TOKEN).await.ok(200);
            Trace::Admin
        }
    }
}

async fn lines(event: Event) -> Vec<Value> {
    SHARED.logs("event", event.name()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_security_event_is_caused_logged_and_counted() {
    let app = TestApp::with_things(&[
        ("APP__ADMIN__TOKEN", TOKEN),
        ("APP__RATE_LIMIT__PER_SECOND", "1"),
        ("APP__RATE_LIMIT__BURST", &BURST.to_string()),
    ])
    .await;
    let acme = app.tenant("acme").await;
    for event in Event::ALL {
        let label = format!("event=\"{}\"", event.name());
        assert!(
            app.metrics().await.contains(&format!("security_events_total{{{label}}}")),
            "{label} exists from the start"
        );
        let count = async || app.metric("security_events_total", &[&label]).await;
        let (counted, logged) = (count().await, lines(event).await.len());
        let trace = cause(&app, &acme, event).await;
        let line = eventually(event.name(), || async {
            lines(event).await.into_iter().skip(logged).find(|line| match &trace {
                Trace::Request(answer) => line["request_id"] == answer.header("x-request-id"),
                Trace::Tenant(id) => line["tenant_id"] == **id,
                Trace::Admin => line["request_id"].is_null(),
            })
        })
        .await;
        assert_eq!((&line["message"], &line["level"]), (&json!("security_event"), &json!("WARN")), "{line}");
        for field in ["timestamp", "service", "environment", "version", "target"] {
            assert!(line[field].is_string(), "{}: {field} in {line}", event.name());
        }
        if let Trace::Request(answer) = &trace {
            assert_eq!(line["trace_id"], answer.header("x-trace-id"), "{line}");
            assert!(line["route"].is_string() && line["method"].is_string(), "{line}");
            // Who it was, once that is known.
            let known = !matches!(event, Event::AuthenticationFailed | Event::AuthenticationLimited);
            assert_eq!((line["tenant_id"].is_string(), line["principal_id"].is_string()), (known, known), "{line}");
        }
        // The counts are the process's, so that other tests count too.
        assert!(count().await > counted, "{label}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_an_admin_listener_without_a_token_is_an_event_too() {
    let app = super::start().await;
    let count = async || app.metric("security_events_total", &["event=\"admin_access_denied\""]).await;
    let before = count().await;
    log_level(&app, "guess").await.problem_without_ids(403, "admin_token_unset");
    assert!(count().await > before);
    app.stop().await;
}
