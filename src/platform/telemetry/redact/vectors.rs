//! What `scrub` must find and what it must leave: the adversarial list, every secret in every place,
//! every name in every form, properties over arbitrary text.

use std::borrow::Cow;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    MASK, is_secret_key,
    key::{TAILS, WORDS},
    scrub,
};

/// Secrets that are found by their form wherever they stand.
const SECRETS: &[&str] = &[
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "4111.1111.1111.1111",
    "4111+1111+1111+1111",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "3782 822463 10005",
    "30569309025904",
    "6011111111111117",
    "3530111333300000",
    "6200000000000005",
    "4222222222222",
    "DE89 3704 0044 0532 0130 00",
    "DE89370400440532013000",
    "de89370400440532013000",
    "GB82WEST12345698765432",
    "FR1420041010050500013M02606",
    "NO93 8601 1117 947",
    "MT84MALT011000012345MTLCAST001S",
    "078-05-1120",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.",
    "eyJhbGciOiJSU0EtT0FFUCJ9.OKOawDo13gRp.48V1_ALb6US0.5eym8TW_c8SuK.XFBoMYUZodet",
    "Bearer abc.def-ghi_123456",
    "bearer abcdefghijklmnopqrstuvwxyz",
    "bEaReR 0123456789abcdef",
    "Basic dXNlcjpwYXNzd29yZA==",
    "basic YTpiY2RlZg",
    "Negotiate YIIJvwYGKwYBBQUCoIIJszCC",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "rk_test_4eC39HqLyjWDarjtT1zdp7dc",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456",
    "glpat-abcdefghij0123456789",
    "xoxb-123456789012-abcdefghij",
    "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    "SG.abcdefghijklmnop1.abcdefghijklmnop",
    "sk-ant-abcdefghij0123456789xyz",
    "sk-proj-abcdefghij0123456789xyz",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "hf_abcdefghijklmnopqrstuvwxyz01234567",
    "hvs.CAESIJ0123456789abcdefghijkl",
    "ak_PuSaXLnWTIZy_haISuMaJ3SxGDyvB3Ke5GDDxxdONzV25",
    "ak_live_haISuMaJ3SxGDyvB3Ke5GDDxxdONzV25",
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNo",
    "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
    "postgres://app:s3cr3tpw@db:5432/app",
    "postgres://app:p@ss/w0rd@db/app",
    "POSTGRESQL://app:s3cr3tpw@db:5432/app",
    "mongodb+srv://app:p@ss:w0rd@a.example.net/x",
    "redis://:hunter22@cache:6379/0",
    "amqps://u:pass/word@mq/vhost",
    "https://user:tok3n@api.example.com/x",
    "https://tok3nonly@api.example.com/x",
    "https://user:pa/ss@api.example.com/x",
    "app:s3cr3tpw@tcp(db:3306)/app",
    "app:s3cr3tpw@db:5432/app",
    "jane.doe+tag@example.co.uk",
    "JANE@EXAMPLE.COM",
    "jörg@exämple.de",
    "jane%40example.com",
    "jane%2540example.com",
    "jane\\u0040example.com",
    "４１１１１１１１１１１１１１１１",
];

/// Places a secret can stand in.
const PLACES: &[&str] = &[
    "{}",
    "value {} and more",
    "({})",
    "[{}]",
    "\"{}\"",
    "'{}'",
    "`{}`",
    "<{}>",
    "{\"a\":[\"{}\"]}",
    "{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":\"{}\"}}}}}}",
    "{\\\"a\\\":\\\"{}\\\"}",
    "{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"c\\\\\\\":\\\\\\\"{}\\\\\\\"}\\\"}\"}",
    "{\"{}\":1}",
    "panicked at 'bad: {}'",
    "line one\n{}\nline three",
    "line one\\n{}\\nline three",
    "field={}",
    "field: {}",
    "a, {}, b",
    "/reset/{}",
    "user-agent: curl/8.5 ({})",
    "select 1 /* {} */",
    "select 1 -- {}",
    "Some({})",
    "größe {} ß",
];

/// Only a bare scheme, wherever it stands, may keep its name.
fn core(secret: &str) -> &str {
    let rest = secret.split_once("://").map_or(secret, |(_, rest)| rest);
    let rest = if rest.contains('@') && secret.contains([':', '/']) { rest.rsplit_once('@').unwrap().0 } else { rest };
    let rest = if secret.contains("://") || rest.starts_with("app:") { rest.rsplit(':').next().unwrap() } else { rest };
    match rest.split_once(' ') {
        Some((_, token)) if token.len() > 7 && !secret.as_bytes()[1].is_ascii_digit() => token,
        _ => rest,
    }
}

#[test]
fn secrets_are_found_in_every_place() {
    let (mut vectors, mut missed) = (0, Vec::new());
    for secret in SECRETS {
        for place in PLACES {
            let text = place.replace("{}", secret);
            let clean = scrub(&text);
            let core = core(secret);
            if clean.contains(secret) || clean.contains(core) || !clean.contains(MASK) {
                missed.push(format!("{core}: {text} -> {clean}"));
            }
            vectors += 1;
        }
    }
    assert!(vectors >= 1_500, "{vectors}");
    assert!(missed.is_empty(), "{} of {vectors}:\n{}", missed.len(), missed.join("\n"));
}

/// Names of secrets as they are written.
const NAMES: &[&str] = &[
    "password",
    "Password",
    "PASSWORD",
    "PaSsWoRd",
    "passwd",
    "pwd",
    "passphrase",
    "user.password",
    "userPassword",
    "user_pin",
    "userPin",
    "db_password",
    "PGPASSWORD",
    "spring.datasource.password",
    "secret",
    "client_secret",
    "clientSecret",
    "stripeSecret",
    "api_key",
    "apiKey",
    "API-KEY",
    "x-api-key",
    "X-Api-Key",
    "xapikey",
    "token",
    "access_token",
    "accessToken",
    "refresh_token",
    "id_token",
    "auth-token",
    "sessionToken",
    "X-CSRF-Token",
    "access_key",
    "secretKey",
    "private_key",
    "signing_key",
    "encryptionKey",
    "credential",
    "credentials",
    "authorization",
    "Proxy-Authorization",
    "cookie",
    "Set-Cookie",
    "session",
    "session.id",
    "JSESSIONID",
    "sid",
    "xsrf",
    "otp",
    "totp",
    "mfa",
    "cvv",
    "cvc",
    "pan",
    "card_number",
    "creditCard",
    "iban",
    "accountNumber",
    "routing_number",
    "sort-code",
    "ssn",
    "national_id",
    "taxId",
    "passport",
    "dob",
    "date_of_birth",
    "email",
    "userEmail",
    "phone",
    "msisdn",
    "address",
    "shipping_address",
    "street",
    "first_name",
    "lastName",
    "FULL_NAME",
    "signature",
    "dsn",
    "database_url",
    "REDIS_URL",
    "connectionString",
    "webhook_secret",
    "X-Amz-Security-Token",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "aws_secret_access_key",
    "ｐａｓｓｗｏｒｄ",
    "pass\u{200b}word",
    "pass\\u0077ord",
    "pass\\u{200b}word",
];

/// Forms of a name and its value.
const FORMS: &[&str] = &[
    "{n}={v}",
    "{n}: {v}",
    "{n}:{v}",
    "{n} = {v}",
    "{n} == '{v}'",
    "\"{n}\":\"{v}\"",
    "{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"{n}\" : \"{v}\"}}}}}}",
    "{\"{n}\":\n  \"{v}\"}",
    "\\\"{n}\\\":\\\"{v}\\\"",
    "\\\\\\\"{n}\\\\\\\":\\\\\\\"{v}\\\\\\\"",
    "{\"{n}\":[\"{v}\",\"{v}\"]}",
    "{\"{n}\":{\"value\":\"{v}\"}}",
    "[[\"{n}\",\"{v}\"]]",
    "[(\"{n}\", \"{v}\"), (\"a\", \"b\")]",
    "[[\\\"{n}\\\",\\\"{v}\\\"]]",
    "{\"name\":\"{n}\",\"value\":\"{v}\"}",
    "{\"value\":\"{v}\",\"name\":\"{n}\"}",
    "{\"key\":\"{n}\",\"value\":{\"stringValue\":\"{v}\"}}",
    "Header { name: \"{n}\", value: \"{v}\" }",
    "Config { {n}: Some(\"{v}\"), host: \"x\" }",
    "Config { {n}: Secret(Inner { a: \"{v}\" }), host: \"x\" }",
    "host=db {n}={v} user=x",
    "host=db;{n}={v};user=x",
    "{n} => '{v}'",
    "?{n}={v}&limit=1",
    "/a?limit=1&{n}={v}#top",
    "a\\n{n}={v}\\nb",
    "a\r\n{n}: {v}\r\nb: c",
    "a\\r\\n{n}: {v}\\r\\nb: c",
    "{n}=\"{v} {v}\"",
    "{n}='{v} {v}'",
    "{n}=\"ab\\\"{v}\"",
    "{n}='ab''{v}'",
    "{n}=Bearer {v}",
    "user[{n}]={v}",
    "headers[\"{n}\"] = \"{v}\"",
    "select 1 /* {n}={v} */",
    "select 1 -- {n}: {v}",
    "where {n} = '{v}'",
    "export {n}={v}",
    "**{n}**: {v}",
    "%22{n}%22%3A%22{v}%22",
    "next=%2Flogin%3F{n}%3D{v}%26a%3Db",
    "next=%252Flogin%253F{n}%253D{v}",
    "{\\u0022{n}\\u0022:\\u0022{v}\\u0022}",
];

#[test]
fn secrets_are_found_by_the_name_before_them() {
    let (mut vectors, mut missed) = (0, Vec::new());
    for name in NAMES {
        for form in FORMS {
            let text = form.replace("{n}", name).replace("{v}", "hunter2xyz");
            let clean = scrub(&text);
            if clean.contains("hunter2xyz") || !clean.contains(MASK) {
                missed.push(format!("{text} -> {clean}"));
            }
            vectors += 1;
        }
    }
    assert!(vectors >= 3_000, "{vectors}");
    assert!(missed.is_empty(), "{} of {vectors}:\n{}", missed.len(), missed.join("\n"));
}

/// What is written in ways of its own, and what of it must be gone.
const CASES: &[(&str, &[&str])] = &[
    ("{\"password\":123456}", &["123456"]),
    ("{\"pin\":1234,\"a\":1}", &["1234"]),
    ("{\"otp\":-12.5e3}", &["12.5"]),
    ("{\"mfa\":true}", &["true"]),
    ("{\"tokens\":[\"first1\",\"second2\"]}", &["first1", "second2"]),
    ("{\"api_keys\":[\"first1\"]}", &["first1"]),
    ("{\"password\":[[\"deep1\"],{\"x\":\"deep2\"}]}", &["deep1", "deep2"]),
    ("{\"password\":\"with \\\"quotes\\\" inside\"}", &["quotes", "inside"]),
    ("{\"password\":\"ends in a backslash\\\\\",\"a\":\"kept\"}", &["backslash"]),
    ("{\"password\":\"cut off in the midd", &["midd"]),
    ("{\"password\":\"line one\nline two\"}", &["line one", "line two"]),
    ("{\"a\":\"{\\\"password\\\":\\\"x \\\\\\\"y\\\\\\\" zebra\\\"}\"}", &["zebra"]),
    ("{\"a\":\"{\\\"password\\\":\\\"cut o", &["cut o"]),
    ("{\"credentials\":{\"user\":\"bob\",\"pw\":\"hunter2\"}}", &["hunter2", "bob"]),
    ("[\"authorization\",\"Bearer abc\"]", &["abc"]),
    ("{'password': 'hunter2', 'a': 1}", &["hunter2"]),
    ("{'password': b'hunter2'}", &["hunter2"]),
    ("password: Some(Secret(\"hunter2\"))", &["hunter2"]),
    ("password: SecretBox<str>(\"hunter2\")", &["hunter2"]),
    ("Login { password: Password { inner: \"hunter2\" }, n: 1 }", &["hunter2"]),
    ("password=hun,ter2;z", &["hun", "ter2", ";z"]),
    ("password=hun&ter2 a=1", &["hun", "ter2"]),
    ("password=hun)ter2", &["ter2"]),
    ("password=hun\"ter2", &["ter2"]),
    ("password=hun\\ter2", &["ter2"]),
    ("password=hun%20ter2", &["ter2"]),
    ("password%3Dhun%20ter2", &["ter2"]),
    ("password%3Dhun%2520ter2", &["ter2"]),
    ("password=[REDACTED]hunter2", &["hunter2"]),
    ("password: hunter", &["hunter"]),
    ("password: sesame, user: bob", &["sesame"]),
    ("password:sesame", &["sesame"]),
    ("my api key: abc123", &["abc123"]),
    ("the access token = abc123", &["abc123"]),
    ("--password hunter2 --host db", &["hunter2"]),
    ("psql --password='hunter two'", &["hunter two"]),
    ("cmd --api-key abc123", &["abc123"]),
    ("<password>hunter2</password>", &["hunter2"]),
    ("<user password=\"hunter2\"/>", &["hunter2"]),
    ("authorization: Bearer abc", &["abc"]),
    ("authorization: Bearer\n  abcdefghijklmnop", &["abcdefghijklmnop"]),
    ("authorization: ApiKey abc", &["abc"]),
    ("authorization: Digest username=\"bob1\", realm=\"r\", response=\"6629fae4\"", &["bob1", "6629fae4"]),
    ("Digest username=\"bob1\", realm=\"r\", response=\"6629fae4\"", &["bob1", "6629fae4"]),
    (
        "authorization: AWS4-HMAC-SHA256 Credential=AKIDEX/2026/s3, SignedHeaders=host, Signature=fe5f80",
        &["AKIDEX", "fe5f80"],
    ),
    ("cookie: sid=abc123; theme=dark; remember=xyz789", &["abc123", "xyz789"]),
    ("set-cookie: sid=abc123; Path=/; HttpOnly", &["abc123"]),
    ("cookie: a=\"x1y2\"; b=xyz789", &["x1y2", "xyz789"]),
    ("{\"cookie\":\"sid=abc123; b=xyz789\"}", &["abc123", "xyz789"]),
    ("GET / HTTP/1.1\\r\\nauthorization: Bearer abc\\r\\nhost: x", &["abc"]),
    ("curl -H 'x-api-key: abc123' https://x", &["abc123"]),
    ("{\"headers\":{\"authorization\":[\"Bearer abc\"]}}", &["abc"]),
    ("Authorization%3A%20Bearer%20abc123def", &["abc123def"]),
    ("Bearer%20abc123def", &["abc123def"]),
    ("Basic%20dXNlcjpwYXNzd29yZA%3D%3D", &["dXNlcjpwYXNzd29yZA"]),
    ("https://dXNlcjpwYXNz@example.com/", &["dXNlcjpwYXNz"]),
    ("https%3A%2F%2Fuser%3Atok3n%40example.com", &["tok3n"]),
    ("https%253A%252F%252Fuser%253Atok3n%2540example.com", &["tok3n"]),
    ("postgres%3A%2F%2Fapp%3As3cret%40db%2Fapp", &["s3cret"]),
    ("postgres://app:pa'ss\"w@db/app", &["pa'ss", "ss\"w"]),
    ("jdbc:postgresql://db/app?user=app&password=s3cret", &["s3cret"]),
    ("Server=db;User Id=app;Password=s3cret;Encrypt=true", &["s3cret"]),
    ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=c2VjcmV0a2V5==;Suffix=x", &["c2VjcmV0a2V5"]),
    ("host=db password='it\\'s s3cret' user=x", &["s3cret"]),
    ("/callback?code=4/0AX4XfWhabcdef&state=1", &["0AX4XfWhabcdef"]),
    ("/x?sig=abc%2Bdef&se=2026", &["abc%2Bdef"]),
    ("/x?key=abcdefgh", &["abcdefgh"]),
    ("/x?jane=1&e=jane@example.com", &["jane@"]),
    ("/reset/ak_PuSaXLnWTIZy_haISuMaJ3SxGDyvB3Ke5GDDxxdONzV25/confirm", &["haISuMaJ3SxGDyvB3Ke5GDDxxdONzV25"]),
    ("x-ak_PuSaXLnWTIZy_haISuMaJ3SxGDyvB3Ke5GDDxxdONzV25: 1", &["haISuMaJ3SxGDyvB3Ke5GDDxxdONzV25"]),
    ("ak_PuSaXLnWTIZy_haISuMaJ3S", &["haISuMaJ3S"]),
    ("Key (email)=(bob) already exists.", &["bob"]),
    ("Key (tenant_id, email)=(1, bob@example.com) already exists.", &["bob@"]),
    ("Failing row contains (1, hunter2, null).", &["hunter2"]),
    ("address: 12 Main Street, Springfield", &["Main Street"]),
    ("phone: +1 555 123 4567 next=1", &["555", "4567"]),
    ("{\"a\":\"pass\",\"password\" : \"hunter2\"}", &["hunter2"]),
    ("{\"prompt\":\"Enter password:\",\"password\":\"hunter2\"}", &["hunter2"]),
    (
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOi\n  IxIn0abc.c2lnbmF0dXJlc2lnbmF0dXJl\n  bWFpbHdyYXBzbGluZXM4MA",
        &["IxIn0abc", "bWFpbHdyYXBz"],
    ),
    ("-----BEGIN PRIVATE KEY-----\nMIIEvQ\nabcd\n-----END PRIVATE KEY-----\nafter", &["MIIEvQ", "abcd"]),
    ("-----BEGIN RSA PRIVATE KEY-----\\nMIIEvQ\\nabcd", &["MIIEvQ", "abcd"]),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk", &["b3BlbnNz"]),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----", &["lQOYBF"]),
    ("MIIEvQ\nabcd\n-----END PRIVATE KEY-----\nafter", &["MIIEvQ", "abcd"]),
    ("order 2026 4111 1111 1111 1111 12", &["4111"]),
    ("id_4111111111111111_x", &["4111111111111111"]),
    ("4111%201111%201111%201111", &["4111"]),
    ("4111\u{a0}1111\u{a0}1111\u{a0}1111", &["4111"]),
    ("ｂｏｂ＠ｅｘａｍｐｌｅ．ｃｏｍ", &["ｂｏｂ"]),
    ("'bob@example.com','eve@example.com'", &["bob@", "eve@"]),
    ("mailto:bob@example.com.", &["bob@"]),
    ("bob@example.com-1", &["bob@example.com"]),
    ("\u{1b}[3mpassword\u{1b}[0m\u{1b}[2m=\u{1b}[0mhunter2", &["hunter2"]),
    ("\\u001b[31m4111111111111111\\u001b[0m", &["4111"]),
    ("postgres://user:hunter2@host.docker.internal:5432/a", &["hunter2"]),
    ("postgres://user:hunter2@host/a", &["hunter2"]),
    ("bob@example.com4111111111111111", &["4111111111111111"]),
    ("image (user:hunter2@db.internal:5432)", &["hunter2"]),
];

#[test]
fn each_case_is_found() {
    let mut missed = Vec::new();
    for (text, secrets) in CASES {
        let clean = scrub(text);
        if secrets.iter().any(|secret| clean.contains(secret)) || !clean.contains(MASK) {
            missed.push(format!("{text} -> {clean}"));
        }
    }
    assert!(missed.is_empty(), "{} of {}:\n{}", missed.len(), CASES.len(), missed.join("\n"));
}

/// What is around a secret stays.
#[test]
fn no_more_than_the_secret_is_hidden() {
    for (text, clean) in [
        ("host=db password=x1 user=y", "host=db password=[REDACTED] user=y"),
        ("{\"password\":\"x1\",\"a\":\"b\"}", "{\"password\":\"[REDACTED]\",\"a\":\"b\"}"),
        ("{\\\"password\\\":\\\"x1\\\",\\\"a\\\":1}", "{\\\"password\\\":\\\"[REDACTED]\\\",\\\"a\\\":1}"),
        ("{\"pin\":1234,\"a\":1}", "{\"pin\":[REDACTED],\"a\":1}"),
        ("{\"password\":\"x\\\\\",\"a\":1}", "{\"password\":\"[REDACTED]\",\"a\":1}"),
        (r#"{\"password\":\"x\\\\\",\"a\":1}"#, r#"{\"password\":\"[REDACTED]\",\"a\":1}"#),
        (r#"{\"password\":\"x\\\"y\",\"a\":1}"#, r#"{\"password\":\"[REDACTED]\",\"a\":1}"#),
        (r#""{\"password\":\"cut o","a":1"#, r#""{\"password\":\"[REDACTED]","a":1"#),
        ("?token=x1&limit=1", "?token=[REDACTED]&limit=1"),
        ("postgres://app:x1@db:5432/app", "postgres://[REDACTED]@db:5432/app"),
        ("https://a:b@c/d?e=f", "https://[REDACTED]@c/d?e=f"),
        ("GET /users/bob@example.com 200", "GET /users/[REDACTED] 200"),
        ("Config { password: Some(\"x1\"), host: \"h\" }", "Config { password: [REDACTED], host: \"h\" }"),
        ("authorization: Bearer abc request_id=1", "authorization: [REDACTED] request_id=1"),
        ("a Bearer abc12345 z", "a Bearer [REDACTED] z"),
        ("a\r\ncookie: b=c; d=e\r\nhost: f", "a\r\ncookie: [REDACTED]\r\nhost: f"),
        ("card 4111 1111 1111 1111 exp 12/27", "card [REDACTED] exp 12/27"),
        ("ä pass\\u0077ord=x1 ö", "ä pass\\u0077ord=[REDACTED] ö"),
        (
            "{\"name\":\"password\",\"value\":\"x1\"},{\"name\":\"a\",\"value\":\"b\"}",
            "{\"name\":\"password\",\"value\":\"[REDACTED]\"},{\"name\":\"a\",\"value\":\"b\"}",
        ),
        (
            "{\"value\":\"b\",\"name\":\"a\"},{\"name\":\"password\"}",
            "{\"value\":\"b\",\"name\":\"a\"},{\"name\":\"password\"}",
        ),
        ("Key (email)=(bob) already exists.", "Key (email)=[REDACTED] already exists."),
    ] {
        assert_eq!(scrub(text), clean);
    }
}

/// What is no secret stays as it is.
const HARMLESS: &[&str] = &[
    "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span 00f067aa0ba902b7",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate: congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
    "{\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"span_id\":\"b7ad6b7169203331\"}",
    "order 123e4567-e89b-12d3-a456-426614174000",
    "01a1fb75-faf8-755a-b806-df5192a3e0c4",
    "018f4111-1111-7111-8111-111111111111",
    "550e8400-e29b-41d4-a716-446655440000 and f47ac10b-58cc-4372-a567-0e02b2c3d479",
    "version v1.2.3 sha 1d15be8a5fd1d1bcdd37fb9e8aa3c9c2971b24fb",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "keel:1.2@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "ts_ns 1763639853000000000 ok",
    "ts_ms=1763639853123 ts_us=1763639853123456",
    "2026-11-20T11:44:36.123456789Z",
    "2026-11-20 11:44:36.123456+00",
    "1763639853.123456",
    "ratio 0.4111111111111111 of 5.105105105105100",
    "10.0.0.1:5432 [::1]:8080 fe80::1%eth0",
    "127.0.0.1, 192.168.178.254, 2001:db8::ff00:42:8329",
    "took 1.234567s (1234567890 ns), 12ms, 3.5µs",
    "order number 1234567890123456",
    "order 4111-1111-1111-1112",
    "1234 5678 9012 3456",
    "EAN 4006381333931 and 9780306406157",
    "sku 4012345678902, EAN 4006381000994 and 4006381001281",
    "address: 10.0.0.1:5432, address=127.0.0.1 address=[::1]:80 address: localhost:80",
    "bytes 0-1023/2048 content-length: 1048576",
    "phone ext 123-45-678",
    "build 000-12-3456 666-12-3456 900-12-3456",
    "1.2.3-123-45-6789-rc1",
    "keel 0.1.0 (rustc 1.94.0 2026-03-05), tokio 1.54.0-rc.1+build.5",
    "serde@1.0.0 tokio@1.54.0-beta.rc @scope/package@2.0.1 react@18.x",
    "logo@2x.png user@1000.service getty@tty1.service",
    "tokens_used=512 max_tokens=2048 token_count: 7",
    "{\"tokens_used\":512,\"total_tokens\":1024,\"tokens\":3}",
    "page_token=abc123&limit=10&cursor=eyJpZCI6MX0",
    "{\"next_page_token\":\"CAUQAA\",\"nextPageToken\":\"x1\",\"cursor\":\"abc\"}",
    "path /v1/orders/{id} /v1/orders/{order_id}/cancel",
    "GET https://api.example.com/v1/users/@me 200",
    "https://medium.com/@someone/title-1a2b3c4d5e6f",
    "http://127.0.0.1:8080/health/ready",
    "https://example.com:8443/a/b;c=d?e=f&g=h#i",
    "otlp http://collector:4317 and grpc://[::1]:4317/x",
    "SELECT id FROM orders WHERE tenant_id = $1 AND secret_ref = $2",
    "select id from users where password_hash = $1 and email = $2",
    "insert into api_keys (id, token_hash) values ($1, $2)",
    "insert into users (\"id\", \"email\", \"password\") values ($1, $2, $3)",
    "update users set password = $1, token = $2, email = coalesce($3, email) where id = $4",
    "update sessions set session = ? where sid = ?",
    "select * from t where secret = :secret and token = @p1",
    "select s.id from sessions s join tokens t on s.token = t.token",
    "on conflict (email) do update set token = excluded.token",
    "where token = lower($1) and secret is not null",
    "INSERT orders, UPDATE sessions, DELETE api_keys",
    "key_id PuSaXLnWTIZy",
    "key_id=PuSaXLnWTIZy public_key=ssh-ed25519 idempotency_key=k-1",
    "the monkey took the keyboard",
    "cache key=orders:1 hit",
    "redis get key=orders:01a1fb75 ttl_seconds=60",
    "code=404 status=404",
    "error code: 23505 (unique_violation)",
    "basic information",
    "Basic Authentication is off, Digest Authentication too",
    "a bearer of news",
    "Bearer realm=\"api\", error=\"invalid_token\"",
    "www-authenticate: Bearer error=invalid_token",
    "digest mismatch",
    "digest sha256 differs",
    "negotiate the terms",
    "cookies are fine",
    "it is no secret that the secret garden blooms",
    "the password is wrong",
    "password is required",
    "password: required",
    "password: must be at least 12 characters long",
    "invalid token: end of input",
    "unexpected token: found eof",
    "the token expired",
    "token=expired session: none",
    "secret: null, token: None, password=\"\"",
    "password: \"********\" token=<redacted> secret={secret}",
    "password=${DB_PASSWORD} token=$1",
    "has_password=true is_secret: false",
    "session_count=4 sessions: 12",
    "idempotency_key k-1",
    "idempotent-replayed: true",
    "public_key",
    "@app.route(\"/x\") def f(): pass",
    "#[tokio::main(flavor = \"current_thread\")]",
    "git@github.com:org/repo.git ssh://git@github.com/org/repo",
    "thread 'main' panicked at src/main.rs:12:5: index out of bounds: the len is 3 but the index is 7",
    "called `Result::unwrap()` on an `Err` value: Os { code: 2, kind: NotFound, message: \"No such file or \
        directory\" }",
    "   3: keel::platform::token::verify\n             at ./src/platform/token.rs:12:5\n   4: \
        core::ops::function::FnOnce::call_once\n             at \
        /rustc/1159e78c4747b02ef996e55082b704c09b970588/library/core/src/ops/function.rs:250:5",
    "<alloc::boxed::Box<F,A> as core::ops::function::Fn<Args>>::call",
    "Option<Token>, Vec<Secret>, Result<Password, Error>",
    "fn verify(token: &str, secret: &'a Secret) -> bool",
    "missing field `password` at line 1 column 5",
    "unknown field `token`, expected `email` or `phone`",
    "a value is required for '--token <TOKEN>' but none was supplied",
    "--password-file /run/secrets/db --host db",
    "missing [\"email\",\"phone\"] and (\"password\", \"token\")",
    "PWD=/srv/app OLDPWD=/tmp",
    "listening address: 127.0.0.1:8080 server.address=db.internal",
    "network.peer.address=10.0.0.7 client.address: 10.0.0.8",
    "base64 aGVsbG8gd29ybGQgdGhpcyBpcyBhIHRlc3Q=",
    "etag \"33a64df551425fcc55e4d42a148795d9f25f89d4\"",
    "{\"id\":1,\"name\":\"widget\",\"price\":{\"amount_minor\":1999,\"currency\":\"EUR\"},\"tags\":[\"a\",\"b\"]}",
    "{\"type\":\"about:blank\",\"title\":\"Unprocessable Entity\",\"status\":422,\"detail\":\"1 field is \
        invalid\",\"code\":\"validation_failed\",\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"errors\":[{\"fi\
        eld\":\"email\",\"code\":\"required\",\"detail\":\"must not be empty\"}]}",
    "{\"name\":\"widget\",\"value\":\"12\"},{\"key\":\"orders\",\"value\":3}",
    "sum by (job) (rate(http_server_request_duration_seconds_bucket{http_route!~\"/(livez|readyz)\",le=\"0.25\"}[5m]\
        )) > 0.01",
    "method=GET route=/v1/orders path=/v1/orders status=200 outcome=success duration_ms=12.345 db_queries=3 \
        db_ms=4.2 db_pool_wait_ms=0.1 redis_ops=2 redis_ms=0.4 request_bytes=0 response_bytes=1234",
    "request_id=01a1fb75-faf8-755a-b806-df5192a3e0c4 correlation_id=abc-123 \
        tenant_id=018f4111-1111-7111-8111-111111111111 principal_id=key:PuSaXLnWTIZy",
    "job=orders.confirm job_id=42 attempt=3 queue=default dependency=payments from=closed to=open signal=SIGTERM \
        rows=7 listen_ms=3",
    "{\"timestamp\":\"2026-11-20T11:44:36.123456Z\",\"level\":\"INFO\",\"message\":\"request_completed\",\"target\":\
        \"keel::platform::http\",\"service\":\"keel\",\"environment\":\"production\",\"version\":\"0.1.0\"}",
    "db_query_summary=\"SELECT orders\" db_query_text=\"select id, status from orders where tenant_id = $1 and id = \
        $2 limit $3\"",
    "filter=info,keel=debug,sqlx=warn location=src/main.rs:12:5",
    "redis.url: not a Redis URL (redis://user:password@host:port/0)",
    "database.url: not a Postgres URL (postgres://user:password@host:port/database)",
    "sentry.dsn: not a Sentry DSN (https://key@host/project)",
    "Send the API key as Authorization: Bearer <key>.",
    "public=0.0.0.0:8080 admin=0.0.0.0:9090",
    "shipping: standard, mapping: none, spin: 3, japan: 1, inside: yes",
    "Accept: application/json; charset=utf-8, text/html;q=0.9",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "100% done, 50%25 left, C:\\users\\new \\d+ \\u12",
    "Größe: 5 – „gut“ … 日本語: テスト",
    "task-runner-with-a-long-name ask-me-anything-about-this sk-learn-contrib-packages-all",
    "ghp_short sk_live_ akia AKIA123 npm_config_registry eyJ eyJabc.def",
    "a=1 b=2, c: 3; d => 4, e == 5, f != 6, g <= 7",
    "DE12 3456 7890 1234 5678 90",
    "DE89ABCDEF0123456789ABCDEF0123456789ABCD",
    "",
];

#[test]
fn what_is_no_secret_stays_as_it_is() {
    let mut hits = Vec::new();
    for text in HARMLESS {
        let clean = scrub(text);
        if !matches!(clean, Cow::Borrowed(same) if same == *text) {
            hits.push(format!("{text} -> {clean}"));
        }
    }
    assert!(HARMLESS.len() >= 80);
    assert!(hits.is_empty(), "{} of {}:\n{}", hits.len(), HARMLESS.len(), hits.join("\n"));
}

#[test]
fn cost_grows_with_the_text_and_no_faster() {
    const PARTS: &[&str] = &[
        "a",
        ":",
        "=",
        "@",
        "%",
        "\\",
        "\"",
        "'",
        "{",
        "[",
        "(",
        "-",
        " ",
        "1",
        "4111 ",
        "a:",
        "a=",
        "a@",
        "://",
        "a://",
        "redis://",
        "redis://a:b",
        "eyJ",
        "eyJ-",
        "eyJ.",
        "eyJabcde.",
        "sk-",
        "ak_",
        "SG.",
        "password",
        "password=",
        "password:",
        "password=$1 ",
        "password={",
        "password={a",
        "\"password\":\"",
        "password='",
        "[\"password\",",
        "name=",
        "name:\"",
        "name=password ",
        "value=",
        "value={ name=password ",
        "\"name\":\"password\",",
        "--password ",
        "bearer ",
        "digest username=",
        "<password>",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "-----END ",
        "-----END PRIVATE KEY-----",
        "Failing row contains (",
        "%25",
        "\\u00",
        "\\\\u0041",
        "\u{200b}",
        "ö",
        "DE89",
        "cookie: a; ",
        "address: a ",
        "[REDACTED]",
        "a.a@",
        "@a.",
        "a:b@c:1",
        "--",
        ",a",
        "password=,a",
        "password=\\",
        "$1",
        "= ",
        "--password",
        "password--",
        "authorization: digest (",
        "<password>",
    ];
    for part in PARTS {
        let text = part.repeat(50_000 / part.len());
        let start = std::time::Instant::now();
        let clean = scrub(&text);
        assert!(!clean.is_empty());
        assert!(start.elapsed().as_secs() < 2, "{part:?} took {:?}", start.elapsed());
    }
}

/// A name of the lists, in some spelling.
fn name() -> impl Strategy<Value = String> {
    let alternating = |name: &str| -> String {
        name.char_indices().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect()
    };
    let listed = (select([TAILS, WORDS].concat()), 0..7).prop_map(move |(name, spelling)| match spelling {
        0 => name.to_owned(),
        1 => name.to_uppercase(),
        2 => format!("user.{name}"),
        3 => format!("DB_{}", name.to_uppercase()),
        4 => format!("x-{}{}", name[..1].to_uppercase(), &name[1..]),
        5 => alternating(name),
        _ => name.chars().map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap()).collect(),
    });
    prop_oneof![listed, select(NAMES).prop_map(str::to_owned)]
}

/// JSON that holds the secret, and how deep it's in strings of JSON.
fn json(secret: String) -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let other = prop_oneof![Just(json!(1)), Just(json!(null)), Just(json!("x: \"y\" \\")), Just(json!({"a": [true]}))];
    let pair = (name(), other, 0..7).prop_map(move |(name, other, shape)| match shape {
        0 => json!({ "before": other, name: secret, "z": 1 }),
        1 => json!({ name: [secret, other] }),
        2 => json!({ name: { "inner": secret }, "z": other }),
        3 => json!([[name, secret], other]),
        4 => json!({ "name": name, "value": secret }),
        5 => json!({ "key": name, "other": 1, "value": secret }),
        _ => json!({ name: { "list": [{ "deep": secret }] } }),
    });
    (pair, vec(0..4, 0..6)).prop_map(|(pair, steps)| {
        steps.into_iter().fold(pair, |inner, step| match step {
            0 => json!({ "a": inner, "b": 2 }),
            1 => json!([null, inner, "z"]),
            2 => Value::String(inner.to_string()),
            _ => json!({ "body": inner.to_string() }),
        })
    })
}

#[test]
fn a_field_of_a_megabyte_is_searched_to_its_end() {
    let line = "GET /v1/orders?limit=50 200 01a1fb75-faf8-755a-b806-df5192a3e0c4 \"ok\", ";
    let text = line.repeat(1_000_000 / line.len()) + "password=hunter2xyz";
    let start = std::time::Instant::now();
    let clean = scrub(&text);
    assert!(clean.ends_with("password=[REDACTED]") && clean.len() == text.len(), "{}", clean.len());
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
}

/// What texts are made of between words.
const MARKS: &[&str] = &[
    "\"",
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ":",
    "=",
    ",",
    ";",
    "&",
    " ",
    "\n",
    "@",
    "%",
    "://",
    ".",
    "-",
    "ö",
    "\u{200b}",
    "\u{1b}[0m",
    MASK,
];

/// Text in which the beginnings of secrets are frequent.
fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => select(CASES).prop_map(|(text, _)| text.to_owned()),
        2 => select(SECRETS).prop_map(str::to_owned),
        2 => select(HARMLESS).prop_map(str::to_owned),
        3 => (select(FORMS), select(NAMES)).prop_map(|(form, name)| form.replace("{n}", name)),
        6 => select(MARKS).prop_map(str::to_owned),
        2 => "\\PC{0,8}",
        2 => any::<String>(),
    ];
    vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn no_value_under_a_secrets_name_is_left_in_json(
        (secret, json) in "[a-zA-Z0-9]{6,24}".prop_filter("in no name", |secret| !is_secret_key(secret))
            .prop_flat_map(|secret| (Just(secret.clone()), json(secret)))
    ) {
        for text in [json.to_string(), serde_json::to_string_pretty(&json).unwrap()] {
            let clean = scrub(&text);
            prop_assert!(!clean.contains(&secret), "{text} -> {clean}");
        }
    }

    #[test]
    fn every_spelling_of_a_name_is_known(name in name()) {
        // Escapes are read by `scrub` only.
        prop_assert!(name.contains('\\') || is_secret_key(&name), "{name}");
    }

    #[test]
    fn clean_text_stays_clean(text in any_text()) {
        let clean = scrub(&text);
        prop_assert_eq!(scrub(&clean), clean.clone(), "{}", text);
    }

    #[test]
    fn any_text_is_taken(text in any::<String>()) {
        scrub(&text);
        is_secret_key(&text);
    }

    #[test]
    fn text_without_marks_is_borrowed(text in "[a-zA-Z .,!?]{0,80}") {
        prop_assert!(matches!(scrub(&text), Cow::Borrowed(_)));
    }
}
