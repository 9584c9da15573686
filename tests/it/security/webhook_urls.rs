//! API7: what `keel tenant create --webhook-url` takes.

use super::webhooks::FORBIDDEN;
use crate::support::process;

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_takes_no_webhook_that_is_no_web_address() {
    let app = super::start().await;
    let settings = process::settings(&app.database);
    for (n, url) in [
        "",
        "x",
        "/hook",
        "//example.com/",
        "example.com",
        "example.com/hook",
        "https://",
        "https://:443/",
        "https://[::1",
        "https://999.1.1.1/",
        "https://0x1ffffffff/",
        "https://exa mple.com/",
        "https://example.com:99999/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "dict://127.0.0.1:11211/",
        "ldap://127.0.0.1/",
        "unix:///run/postgresql",
        "javascript:alert(1)",
        "data:text/plain,x",
        "redis://127.0.0.1/",
    ]
    .iter()
    .enumerate()
    {
        let slug = format!("t-{n}");
        let output = process::run(&["tenant", "create", &slug, &format!("--webhook-url={url}")], &settings);
        assert_eq!(output.status.code(), Some(1), "{url}: {}", process::text(&output.stdout));
        assert!(process::text(&output.stderr).contains("is no webhook URL"), "{url}");
    }
    let listed = process::run(&["tenant", "list"], &settings);
    assert!(listed.stdout.is_empty(), "none was created");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_refuses_what_no_call_may_reach() {
    let app = super::start().await;
    let mut settings = process::settings(&app.database);
    settings.insert("APP__OUTBOUND__ALLOW_PRIVATE".to_owned(), "false".to_owned());
    for (n, url) in FORBIDDEN.iter().enumerate().filter(|(_, url)| !url.to_lowercase().contains("localhost")) {
        let output = process::run(&["tenant", "create", &format!("t-{n}"), "--webhook-url", url], &settings);
        assert_eq!(output.status.code(), Some(1), "{url} is refused at every call, and was taken");
    }
    app.stop().await;
}
