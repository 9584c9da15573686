//! The routes as /openapi.json describes them, with bodies made from their schemas: what the
//! generated matrices go over. A new route is in all of them without a line here.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::fresh;
use crate::support::{Answer, TestApp, client::Tenant};

/// Never the id of anything.
pub const UNKNOWN: &str = "01890000-0000-7000-8000-00000000000a";

/// A matrix over nothing shows nothing: the example alone has so many.
#[track_caller]
pub fn at_least(least: usize, found: usize, what: &str) {
    println!("{found} {what}; {least} with the example");
    assert!(found >= least, "the shop has {least} {what}, and {found} were found");
}

/// The document.
pub struct Api(pub Value);

/// One method of one path.
#[derive(Clone, Debug)]
pub struct Operation {
    pub method: Method,
    pub path: String,
    pub scope: String,
    /// The schema of the body it takes.
    pub body: Option<Value>,
    /// The schema of each answer, where it has a body.
    pub answers: BTreeMap<u16, Option<Value>>,
    pub wants_idempotency_key: bool,
    pub is_list: bool,
}

/// An id of each collection: `/v1/invoices` and so on.
pub type Ids = BTreeMap<String, String>;

impl Operation {
    /// Whether it is about one resource.
    pub fn is_single(&self) -> bool {
        self.path.contains('{')
    }

    pub fn collection(&self) -> &str {
        self.path.split_once("/{").map_or(&self.path, |(collection, _)| collection)
    }

    /// The path with this id in it.
    pub fn address(&self, id: &str) -> String {
        match self.path.split_once('{') {
            Some((before, after)) => format!("{before}{id}{}", after.split_once('}').unwrap().1),
            None => self.path.clone(),
        }
    }

    pub fn id_in<'a>(&self, ids: &'a Ids) -> &'a str {
        if self.is_single() {
            ids.get(self.collection()).unwrap_or_else(|| panic!("{}: nothing creates one", self.path))
        } else {
            ""
        }
    }

    pub async fn send(&self, app: &TestApp, key: &str, id: &str, body: Option<&Value>) -> Answer {
        let mut request = app.request(self.method.clone(), &self.address(id), key);
        if self.wants_idempotency_key {
            request = request.header("idempotency-key", format!("k-{}", fresh()));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::of(request).await
    }
}

impl Api {
    pub async fn of(app: &TestApp) -> Self {
        Self(app.get("/openapi.json", "").await.ok(200))
    }

    pub fn paths(&self) -> Vec<&str> {
        self.0["paths"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    pub fn operations(&self) -> Vec<Operation> {
        let schema = |content: &Value| Some(content["application/json"]["schema"].clone()).filter(|it| !it.is_null());
        let mut all = Vec::new();
        for (path, operations) in self.0["paths"].as_object().unwrap() {
            for (method, it) in operations.as_object().unwrap() {
                let named = |name: &str| {
                    it["parameters"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name))
                };
                let answers = it["responses"].as_object().unwrap().iter();
                all.push(Operation {
                    method: Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
                    path: path.clone(),
                    scope: it["security"][0]["api_key"][0].as_str().unwrap_or_default().to_owned(),
                    body: schema(&it["requestBody"]["content"]),
                    answers: answers.map(|(status, it)| (status.parse().unwrap(), schema(&it["content"]))).collect(),
                    wants_idempotency_key: named("idempotency-key"),
                    is_list: named("cursor"),
                });
            }
        }
        assert!(!all.is_empty(), "the document has its routes");
        at_least(10, all.len(), "operations");
        all
    }

    /// The schema behind references and "or null".
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema["$ref"].as_str() {
            return self.resolve(&self.0["components"]["schemas"][name.rsplit('/').next().unwrap()]);
        }
        match schema["oneOf"].as_array() {
            Some(options) => self.resolve(options.iter().find(|option| option["type"] != "null").unwrap()),
            None => schema,
        }
    }

    pub fn properties(&self, schema: &Value) -> BTreeMap<String, Value> {
        let properties = self.resolve(schema)["properties"].as_object().cloned().unwrap_or_default();
        properties.into_iter().collect()
    }

    /// `string`, `integer`, `array`, `object`…
    pub fn kind(&self, schema: &Value) -> String {
        let kinds = match &self.resolve(schema)["type"] {
            Value::Array(kinds) => kinds.clone(),
            kind => vec![kind.clone()],
        };
        kinds.iter().find_map(|kind| kind.as_str().filter(|kind| *kind != "null")).unwrap_or("object").to_owned()
    }

    /// A body the route takes, unlike any before; `invoice_id` is the invoice of `ids`.
    pub fn sample(&self, schema: &Value, ids: &Ids) -> Value {
        let schema = self.resolve(schema);
        match &schema["example"] {
            Value::Null => {}
            Value::String(text) if text.contains('@') => return json!(format!("n{}.{text}", fresh())),
            Value::String(text) if text.ends_with("-1") => return json!(format!("{text}-{}", fresh())),
            other => return other.clone(),
        }
        match self.kind(schema).as_str() {
            // Far from its limit.
            "integer" => json!((schema["maximum"].as_i64().unwrap_or(0) / 1_000_000).max(1)),
            "boolean" => json!(true),
            "array" => json!([self.sample(&schema["items"], ids)]),
            "string" if schema["format"] == "uuid" => json!(UNKNOWN),
            "string" if schema["pattern"].as_str().is_some_and(|it| it.starts_with("^[A-Za-z0-9")) => {
                json!(format!("s{}", fresh()))
            }
            "string" => json!(format!("text {}", fresh())),
            _ => {
                let properties = self.properties(schema).into_iter();
                let value = |name: &str, schema: &Value| {
                    let known = name.strip_suffix("_id").and_then(|it| ids.get(&format!("/v1/{it}s")));
                    known.map_or_else(|| self.sample(schema, ids), |id| json!(id))
                };
                properties.map(|(name, schema)| (name.clone(), value(&name, &schema))).collect()
            }
        }
    }

    pub fn body(&self, operation: &Operation, ids: &Ids) -> Option<Value> {
        operation.body.as_ref().map(|schema| self.sample(schema, ids))
    }

    /// One new resource of every collection that can be posted to.
    pub async fn seed(&self, app: &TestApp, tenant: &Tenant) -> Ids {
        let mut ids = Ids::new();
        let creates = |it: &Operation| it.method == Method::POST && !it.is_single() && it.body.is_some();
        let mut creates: Vec<_> = self.operations().into_iter().filter(creates).collect();
        // What refers to another comes last.
        creates.sort_by_key(|it| it.wants_idempotency_key);
        for operation in creates {
            let answer = operation.send(app, &tenant.key, "", self.body(&operation, &ids).as_ref()).await;
            ids.insert(operation.path, answer.ok(201)["id"].as_str().unwrap().to_owned());
        }
        at_least(3, ids.len(), "collections");
        ids
    }
}
