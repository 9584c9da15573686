//! Prometheus as a process, and what is asked of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::daemon::{Daemon, address, program};
use crate::support::client::{Answer, Client};

/// What is scraped under one job name.
pub struct Job {
    pub name: &'static str,
    pub targets: Vec<SocketAddr>,
}

pub type Labels = BTreeMap<String, String>;

/// One series of an answer; of a range the last value.
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: Labels,
    pub value: f64,
}

/// A sample that names a trace.
#[derive(Clone, Debug)]
pub struct Exemplar {
    pub series: Labels,
    pub trace_id: String,
}

/// A running server; its data goes with the directory it was given.
pub struct Prometheus {
    pub client: Client,
    _process: Daemon,
}

/// The labels that each target gets are those of the manifests.
fn config(jobs: &[Job], environment: &str, rules: &[PathBuf]) -> Value {
    let scrapes: Vec<Value> = jobs
        .iter()
        .map(|job| {
            json!({
                "job_name": job.name,
                "honor_labels": false,
                "static_configs": [{"targets": job.targets, "labels": {"environment": environment}}],
            })
        })
        .collect();
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "storage": {"exemplars": {"max_exemplars": 100_000}},
        "rule_files": rules,
        "scrape_configs": scrapes,
    })
}

impl Prometheus {
    pub async fn start(directory: &Path, jobs: &[Job], environment: &str, rules: &[PathBuf]) -> Self {
        let (address, file) = (address(), directory.join("prometheus.json"));
        // JSON is YAML.
        std::fs::write(&file, config(jobs, environment, rules).to_string()).unwrap();
        let mut command = program("PROMETHEUS");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage")
            .arg("--log.level=warn");
        let mut process = Daemon::start("prometheus", command, directory);
        let client = Client::new(format!("http://{address}"));
        process.answers(&client, "/-/ready").await;
        Self { client, _process: process }
    }

    /// Its `data`, or its error in words.
    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let form: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let answer: Answer = self.client.get(&format!("{path}?{}", form.join("&")), "").await;
        let body = answer.json();
        if body["status"] == "success" {
            Ok(body["data"].clone())
        } else {
            Err(format!("{}: {}", answer.status, body["error"].as_str().unwrap_or(&answer.text)))
        }
    }

    /// What an expression is now.
    pub async fn query(&self, expression: &str) -> Result<Vec<Series>, String> {
        let data = self.ask("/api/v1/query", &[("query", expression)]).await?;
        let result = &data["result"];
        Ok(match data["resultType"].as_str() {
            Some("scalar") => vec![Series { labels: Labels::new(), value: number(&result[1]) }],
            Some("vector") => list(result)
                .map(|series| Series { labels: labels(&series["metric"]), value: number(&series["value"][1]) })
                .collect(),
            Some("matrix") => list(result)
                .map(|series| Series {
                    labels: labels(&series["metric"]),
                    value: list(&series["values"]).last().map_or(f64::NAN, |sample| number(&sample[1])),
                })
                .collect(),
            other => return Err(format!("an answer of the type {other:?}")),
        })
    }

    /// All series that a selector has ever met.
    pub async fn series(&self, selector: &str) -> Result<Vec<Labels>, String> {
        Ok(list(&self.ask("/api/v1/series", &[("match[]", selector)]).await?).map(labels).collect())
    }

    pub async fn label_values(&self, label: &str, selector: &str) -> Result<Vec<String>, String> {
        let values = self.ask(&format!("/api/v1/label/{label}/values"), &[("match[]", selector)]).await?;
        Ok(list(&values).filter_map(Value::as_str).map(ToOwned::to_owned).collect())
    }

    /// Kinds and helps of each metric family: one for each target that says it otherwise.
    pub async fn metadata(&self) -> Result<BTreeMap<String, Vec<(String, String)>>, String> {
        let data = self.ask("/api/v1/metadata", &[]).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rows = |rows: &Value| list(rows).map(|row| (text(&row["type"]), text(&row["help"]))).collect();
        Ok(data.as_object().into_iter().flatten().map(|(name, of)| (name.clone(), rows(of))).collect())
    }

    /// All exemplars of a selector since the epoch second `since`.
    pub async fn exemplars(&self, selector: &str, since: f64) -> Result<Vec<Exemplar>, String> {
        let (since, until) = (since.to_string(), (since + 86_400.0).to_string());
        let data =
            self.ask("/api/v1/query_exemplars", &[("query", selector), ("start", &since), ("end", &until)]).await?;
        let each = |series: &Value| {
            let of = labels(&series["seriesLabels"]);
            list(&series["exemplars"])
                .map(|exemplar| Exemplar {
                    series: of.clone(),
                    trace_id: exemplar["labels"]["trace_id"].as_str().unwrap_or_default().to_owned(),
                })
                .collect::<Vec<_>>()
        };
        Ok(list(&data).flat_map(each).collect())
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn labels(value: &Value) -> Labels {
    let text = |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap_or_default().to_owned());
    value.as_object().into_iter().flatten().map(text).collect()
}

/// Prometheus writes numbers as text, `NaN` and `+Inf` among them.
fn number(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}
