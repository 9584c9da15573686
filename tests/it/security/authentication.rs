//! API2: who may come in. `platform::api_keys` shows that unknown, wrong and revoked keys get one
//! answer, and that revocation is quick; here all the other shapes of a wrong key, and of the header.
//! Keys have no expiry, so there is no expired one.

use keel::platform::{
    config::Secret,
    db::SystemTx,
    tenancy::{
        Scope,
        api_key::{ApiKey, NewKey, Pepper},
        store,
    },
};
use reqwest::Method;

use super::{
    document::{Api, UNKNOWN},
    objects::visible,
    raw,
};
use crate::support::{Answer, things};

#[tokio::test(flavor = "multi_thread")]
async fn no_shape_of_a_wrong_key_says_what_is_wrong_with_it() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let id = ApiKey::parse(&acme.key).unwrap().id.to_owned();
    let reader = ApiKey::parse(&acme.read_key).unwrap().id.to_owned();
    let secret = acme.key.rsplit_once('_').unwrap().1.to_owned();
    // In the table, but hashed under another pepper: what a copied database would give.
    let stolen = NewKey::generate(&Pepper::new(&Secret::new("another-pepper".repeat(3)), None)).unwrap();
    let mut tx = SystemTx::begin(app.running.app.db()).await.unwrap();
    store::insert_key(&mut tx, acme.id.as_uuid(), &stolen.id, "stolen", Scope::Write, &stolen.hash).await.unwrap();
    tx.commit().await.unwrap();
    let first = app.get("/v1/tenant", "ak_").await;
    first.problem(401, "invalid_api_key");
    let wrong = [
        stolen.text,
        format!("ak_{reader}_{secret}"),
        format!("ak_{id}_{}", secret.to_uppercase()),
        format!("ak_{}_{secret}", id.to_lowercase()),
        acme.key.to_uppercase(),
        acme.key.replace("ak_", "ak-"),
        acme.key[..acme.key.len() - 1].to_owned(),
        format!("{}x", acme.key),
        format!("{},{}", acme.key, acme.key),
        format!("\"{}\"", acme.key),
        format!("{id}_{secret}"),
        format!("ak_{id}_{}", "%".repeat(32)),
        format!("ak_{id}_' or '1'='1"),
        "null".to_owned(),
        "x".repeat(8_000),
        // A JWT without a signature.
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.".to_owned(),
    ];
    for key in wrong.iter().filter(|key| **key != acme.key) {
        let answer = app.get("/v1/tenant", key).await;
        assert_eq!(visible(&answer), visible(&first), "{key}");
    }
    app.get("/v1/tenant", &acme.key).await.ok(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_counts_in_its_header_only() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let without = app.get("/v1/tenant", "").await;
    without.problem(401, "missing_api_key");
    for name in ["api_key", "key", "access_token", "token", "authorization"] {
        let answer = app.get(&format!("/v1/tenant?{name}={}", acme.key), "").await;
        assert_eq!(visible(&answer), visible(&without), "{name} in the query");
    }
    let bearer = format!("Bearer {}", acme.key);
    for (name, value) in [
        ("cookie", format!("api_key={0}; authorization={0}; session={0}", acme.key)),
        ("x-api-key", acme.key.clone()),
        ("api-key", acme.key.clone()),
        ("proxy-authorization", bearer.clone()),
        ("x-forwarded-authorization", bearer.clone()),
        ("x-authorization", bearer.clone()),
        ("x-original-authorization", bearer),
        ("x-tenant-id", acme.id.to_string()),
    ] {
        let answer = Answer::of(app.request(Method::GET, "/v1/tenant", "").header(name, value)).await;
        assert_eq!(visible(&answer), visible(&without), "{name}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_to_be_another_tenant_beside_a_good_key_changes_nothing() {
    let app = super::start_with_things().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    for name in ["x-tenant-id", "tenant-id", "x-tenant", "x-org-id", "x-user-id", "x-principal-id", "x-scope", "host"] {
        let request = app.request(Method::GET, "/v1/tenant", &acme.key).header(name, globex.id.to_string());
        assert_eq!(Answer::of(request).await.ok(200)["slug"], "acme", "{name}");
    }
    let asked = format!("tenant.id={0},tenant_id={0}", globex.id);
    let request = app.request(Method::GET, "/v1/tenant", &acme.key).header("baggage", asked);
    assert_eq!(Answer::of(request).await.ok(200)["slug"], "acme");
    let listed = app.get(&format!("{}?tenant_id={}", things::PATH, globex.id), &acme.key).await;
    listed.problem(400, "malformed_query");
    for list in Api::of(&app).await.operations().iter().filter(|it| it.is_list) {
        let asked = format!("{}?tenant_id={}", list.path, globex.id);
        app.get(&asked, &acme.key).await.problem(400, "malformed_query");
    }
    app.stop().await;
}

fn get(authorization: &[u8]) -> Vec<u8> {
    [b"GET /v1/tenant HTTP/1.1\r\nhost: a\r\nconnection: close\r\n".as_slice(), authorization, b"\r\n\r\n"].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_is_read_as_the_standard_says_and_never_a_fault() {
    let app = super::start().await;
    let key = app.tenant("acme").await.key;
    for good in [
        format!("authorization: bearer {key}"),
        format!("AUTHORIZATION: BEARER {key}"),
        format!("Authorization:Bearer {key}"),
        format!("Authorization: \t Bearer   {key}  \t"),
    ] {
        let answer = raw(&app, get(good.as_bytes())).await;
        assert_eq!(answer.status(), 200, "{good}: {}", answer.text);
    }
    let megabyte = "x".repeat(1 << 20);
    let bad: [(Vec<u8>, &[u16]); 16] = [
        (b"authorization:".to_vec(), &[401]),
        (b"authorization: Bearer".to_vec(), &[401]),
        (b"authorization: Bearer ".to_vec(), &[401]),
        (format!("authorization: {key}").into(), &[401]),
        (format!("authorization: Bearer{key}").into(), &[401]),
        (format!("authorization: Bearer:{key}").into(), &[401]),
        (format!("authorization: Bearer Bearer {key}").into(), &[401]),
        (format!("authorization: Basic {key}").into(), &[401]),
        (format!("authorization: Token {key}").into(), &[401]),
        (format!("authorization: Bearer {key} x").into(), &[401]),
        (format!("authorization: Bearer {key}, Bearer {key}").into(), &[401]),
        ([b"authorization: Bearer \xff\xfe".as_slice(), key.as_bytes()].concat(), &[401]),
        (format!("authorization: Bearer \u{430}k_{}", &key[3..]).into(), &[401]),
        (format!("authorization: Bearer {}\0{}", &key[..9], &key[9..]).into(), &[400]),
        (format!("authorization : Bearer {key}").into(), &[400]),
        // Too much for the head: the connection may end before the answer is read.
        (format!("authorization: Bearer {megabyte}").into(), &[431, 0]),
    ];
    for (header, expected) in bad {
        let answer = raw(&app, get(&header)).await;
        let shown = String::from_utf8_lossy(&header[..header.len().min(60)]).into_owned();
        assert!(expected.contains(&answer.status()) && answer.closed, "{shown}: {}", answer.text);
    }
    app.get("/v1/tenant", &key).await.ok(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_authorization_headers_are_none() {
    let app = super::start().await;
    let (acme, globex) = (app.tenant("acme").await.key, app.tenant("globex").await.key);
    for (first, second) in [(&acme, &globex), (&acme, &acme), (&acme, &"nonsense".to_owned())] {
        for (first, second) in [(first, second), (second, first)] {
            let two = format!("authorization: Bearer {first}\r\nauthorization: Bearer {second}");
            let answer = raw(&app, get(two.as_bytes())).await;
            assert!(matches!(answer.status(), 400 | 401), "which of the two counts is anyone's guess: {}", answer.text);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_documented_route_does_anything_without_a_good_key() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let api = Api::of(&app).await;
    let ids = api.seed(&app, &acme).await;
    let lists: Vec<_> = api.operations().into_iter().filter(|it| it.is_list).collect();
    let mut before = Vec::new();
    for list in &lists {
        before.push(app.get(&list.path, &acme.key).await.ok(200));
    }
    let wrong = format!("{}x", &acme.key[..acme.key.len() - 1]);
    for operation in api.operations() {
        for id in [operation.id_in(&ids), UNKNOWN, "x"] {
            // All that would be right, but for the key; and what is wrong too, which is not worth a word then.
            let body = api.body(&operation, &ids);
            for body in [body, None] {
                let nobody = operation.send(&app, "", id, body.as_ref()).await;
                nobody.problem(401, "missing_api_key");
                let stranger = operation.send(&app, &wrong, id, body.as_ref()).await;
                stranger.problem(401, "invalid_api_key");
            }
        }
    }
    for (list, before) in lists.iter().zip(before) {
        assert_eq!(app.get(&list.path, &acme.key).await.ok(200), before, "{}", list.path);
    }
    app.stop().await;
}
