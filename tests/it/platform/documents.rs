//! The OpenAPI document, and the page that shows it in a real browser.

use std::{path::Path, process::Command};

use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn the_served_document_is_the_one_in_the_docs() {
    let app = TestApp::start().await;
    let served = app.get("/openapi.json", "").await;
    let kept =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json")).unwrap_or_default();
    assert!(served.text == kept, "docs/openapi.json is old; run `make docs`");
    let info = served.json()["info"].clone();
    assert_eq!(
        (&info["title"], &info["contact"], &info["license"]),
        (&"keel".into(), &serde_json::Value::Null, &serde_json::Value::Null)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "api-docs"), ignore = "needs `api-docs`")]
async fn the_page_needs_nothing_from_another_host() {
    let app = TestApp::start().await;
    let page = app.get("/docs", "").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    let assets: Vec<&str> =
        page.text.split('"').filter(|part| part.starts_with('/') || part.starts_with("http")).collect();
    assert!(assets.len() >= 4);
    for asset in assets {
        assert!(asset.starts_with("/docs/assets/"), "{asset} is not ours");
        assert_eq!(app.get(asset, "").await.status, 200, "{asset}");
    }
    app.get("/docs/assets/nothing.js", "").await.problem(404, "route_not_found");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "api-docs"), ignore = "needs `api-docs`")]
async fn below_a_base_path_page_document_and_routes_are_found_with_it_and_without() {
    let app = TestApp::with(&[("APP__HTTP__BASE_PATH", "/billing")]).await;
    let acme = app.tenant("acme").await;
    for path in ["/billing/v1/tenant", "/v1/tenant"] {
        app.get(path, &acme.key).await.ok(200);
    }
    app.get("/billings/v1/tenant", &acme.key).await.problem(404, "route_not_found");
    let page = app.get("/billing/docs", "").await.text;
    let assets: Vec<&str> = page.split('"').filter(|part| part.starts_with('/')).collect();
    assert!(assets.len() >= 4);
    for asset in assets {
        assert!(asset.starts_with("/billing/docs/assets/"), "{asset}");
        assert_eq!(app.get(asset, "").await.status, 200, "{asset}");
    }
    let initializer = app.get("/billing/docs/assets/swagger-initializer.js", "").await.text;
    assert!(initializer.contains("/billing/openapi.json"), "{initializer}");
    let served = app.get("/billing/openapi.json", "").await.json();
    assert_eq!(served["servers"][0]["url"], "/billing");
    let routes = ["http_route=\"/v1/tenant\""];
    assert_eq!(app.metric("http_server_request_duration_seconds_count", &routes).await, 2.0, "the route is the same");
    app.stop().await;
}

/// The browser of the machine, or of `scripts/tools.sh chromium`.
fn chromium() -> Option<String> {
    let named = std::env::var("CHROMIUM").ok();
    let known = ["chromium", "chromium-browser", "google-chrome"].map(str::to_owned);
    named
        .into_iter()
        .chain(known)
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "api-docs"), ignore = "needs `api-docs`")]
async fn the_page_shows_the_routes_in_a_browser() {
    let Some(chromium) = chromium() else {
        assert!(
            std::env::var("CI").is_err(),
            "CI has no chromium: `make ci` installs it with scripts/tools.sh chromium"
        );
        println!("SKIPPED: no chromium on this machine; `scripts/tools.sh chromium` installs one");
        return;
    };
    let app = TestApp::start().await;
    let profile = tempfile::tempdir().unwrap();
    let url = format!("{}/docs", app.base);
    let rendered = tokio::task::spawn_blocking(move || {
        Command::new(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-sync", "--virtual-time-budget=10000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    let page = String::from_utf8_lossy(&rendered.stdout);
    let mut expected = vec!["Authorize".to_owned()];
    for (path, operations) in app.get("/openapi.json", "").await.ok(200)["paths"].as_object().unwrap() {
        expected.push(path.clone());
        expected.extend(operations.as_object().unwrap().keys().map(|method| format!("opblock-summary-{method}")));
    }
    assert!(expected.len() >= 3, "{expected:?}");
    for shown in expected {
        assert!(page.contains(&shown), "{shown} is not on the page: {}", &page[..page.len().min(2_000)]);
    }
    app.stop().await;
}
