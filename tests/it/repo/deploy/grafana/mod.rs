//! From the short sources of the dashboards to the JSON that Grafana reads, and what of PromQL, LogQL and TraceQL is
//! understood here to hold queries against the names the code has. The checks are in `dashboards.rs` and
//! `datasources.rs`; they read the JSON and not the sources, so that a mistake of the generator is seen too.

pub mod generate;
pub mod inspect;
pub mod layout;
pub mod links;
pub mod logql;
mod losses;
mod panel;
pub mod promql;
mod provisioning;
pub mod source;
pub mod vocabulary;
