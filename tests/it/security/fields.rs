//! API4: every field of every body in the document, at its limit and beyond, and with what is no value
//! of it. `platform::bad_input` has the same for one route, with the reasons.

use serde_json::{Value, json};

use super::{document::Api, resources::with_bodies};
use crate::support::Answer;

/// Every place of a body: a path of names and the schema there.
fn places(api: &Api, schema: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    for (name, schema) in api.properties(schema) {
        let here = format!("{at}/{name}");
        match api.kind(&schema).as_str() {
            "object" => places(api, &schema, &here, found),
            "array" => places(api, &api.resolve(&schema)["items"], &format!("{here}/0"), found),
            _ => found.push((here, api.resolve(&schema).clone())),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_every_route_takes_its_limit_and_nothing_beyond() {
    let app = super::start().await;
    let acme = app.tenant("acme").await;
    let (api, ids, operations) = with_bodies(&app, &acme).await;
    for operation in &operations {
        let mut found = Vec::new();
        places(&api, operation.body.as_ref().unwrap(), "", &mut found);
        for (at, schema) in found {
            let send = async |value: &str| {
                let mut body = api.body(operation, &ids).unwrap();
                *body.pointer_mut(&at).unwrap() = json!("@@");
                let text = body.to_string().replacen("\"@@\"", value, 1);
                let address = operation.address(operation.id_in(&ids));
                let request = app.request(operation.method.clone(), &address, &acme.key);
                let request = request.header("idempotency-key", format!("k-{}", super::fresh()));
                Answer::of(request.header("content-type", "application/json").body(text)).await
            };
            let refused = async |value: String| {
                let answer = send(&value).await;
                let shown = value.chars().take(40).collect::<String>();
                let label = format!(
                    "{} {} {at} = {shown}: {} {}",
                    operation.method, operation.path, answer.status, answer.text
                );
                assert!(matches!(answer.status, 400 | 422), "{label}");
                let named = answer.json()["errors"][0]["field"].as_str().unwrap_or_default().to_owned();
                let expected = at.trim_start_matches('/').replace("/0", "[0]").replace('/', ".");
                assert!(answer.status == 400 || named == expected, "{label}");
            };
            let optional = schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("null")));
            for wrong in ["true", "[]", "{}", "[1]", "1e400", "-1e400", "NaN", "\"\\ud800\"", "'x'"] {
                refused(wrong.to_owned()).await;
            }
            if !optional && !operation.method.as_str().eq("PATCH") {
                refused("null".to_owned()).await;
            }
            if api.kind(&schema) == "integer" {
                let (least, most) = (schema["minimum"].as_i64().unwrap(), schema["maximum"].as_i64().unwrap());
                for beyond in [least - 1, most + 1, i64::MAX, i64::MIN] {
                    refused(beyond.to_string()).await;
                }
                for no in ["9223372036854775808", "18446744073709551616", "0.5", "1e2", "\"1\"", "\"0x1\"", "1e-400"] {
                    refused(no.to_owned()).await;
                }
                for at_limit in [least, most] {
                    assert!(send(&at_limit.to_string()).await.status < 500);
                }
                continue;
            }
            for bad in ["\"\\u0000\"", "\"a\\u0000b\"", "\"\"", "\"  \"", "\"a\\u001bb\"", "1"] {
                refused(bad.to_owned()).await;
            }
            if let Some(most) = schema["maxLength"].as_u64().filter(|_| schema["pattern"] == "\\S") {
                // Characters are counted, however many bytes each has.
                for character in ["x", "é", "字", "🦀"] {
                    let full = json!(character.repeat(usize::try_from(most).unwrap())).to_string();
                    let answer = send(&full).await;
                    assert!((200..300).contains(&answer.status) || answer.status == 402, "{at}: {}", answer.text);
                    refused(json!(character.repeat(usize::try_from(most).unwrap() + 1)).to_string()).await;
                }
            }
            refused(json!("x".repeat(100_000)).to_string()).await;
        }
    }
    app.stop().await;
}
