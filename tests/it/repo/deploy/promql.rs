//! Whether a query can be answered: each metric it names is exported, each label is on what it is asked of.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::parser::{self, Expr, LabelModifier, VectorMatchCardinality, VectorSelector};

use super::{code, grafana::vocabulary};

/// Put on by the scrape, in compose or in a cluster.
const TARGET_LABELS: [&str; 5] = ["job", "instance", "environment", "namespace", "pod"];
/// What others export, with the labels that may be used; where it was read. `up` is Prometheus' own of every target.
const OTHERS: [(&str, &[&str]); 8] = [
    ("up", &[]),
    ("ALERTS", &["alertname", "alertstate", "severity", "team"]),
    // prometheus v3.13.2: rules/group.go, notifier/metric.go, tsdb/db.go
    ("prometheus_rule_evaluation_failures_total", &["rule_group"]),
    ("prometheus_notifications_alertmanagers_discovered", &[]),
    ("prometheus_notifications_errors_total", &["alertmanager"]),
    ("prometheus_tsdb_storage_blocks_bytes", &[]),
    // alertmanager v0.34.0: notify/metric.go
    ("alertmanager_notifications_failed_total", &["integration", "reason"]),
    ("alertmanager_notifications_total", &["integration"]),
];

/// What each objective may lose. The dashboards have the objectives themselves (`deploy/grafana/shared.yaml`).
const BUDGETS: [(&str, f64); 2] = [("slo:availability:", 0.001), ("slo:latency:", 0.01)];

/// The labels of each metric a query may name: the service's, the recorded ones', others'.
pub struct Known(BTreeMap<String, BTreeSet<String>>);

impl Known {
    pub fn of<'a>(recorded: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known: BTreeMap<String, BTreeSet<String>> = OTHERS
            .iter()
            .map(|(name, labels)| ((*name).to_owned(), labels.iter().map(|it| (*it).to_owned()).collect()))
            .collect();
        for name in recorded {
            // All of them are sums by job and environment.
            known.insert(name.to_owned(), BTreeSet::new());
        }
        Self(known)
    }

    fn labels(&self, name: &str) -> Option<BTreeSet<String>> {
        let own = code().labels(name).map(exported).or_else(|| self.0.get(name).cloned());
        let mut labels = own.or_else(|| vocabulary::labels(name))?;
        labels.extend(TARGET_LABELS.map(ToOwned::to_owned));
        Some(labels)
    }

    pub fn problems(&self, query: &str) -> Vec<String> {
        let expr = match parser::parse(query) {
            Ok(expr) => expr,
            Err(error) => return vec![format!("`{query}` is no PromQL: {error}")],
        };
        let mut problems = Vec::new();
        self.walk(&expr, &mut problems);
        problems
    }

    /// The labels that the series of an expression can have; says what is wrong on the way.
    fn walk(&self, expr: &Expr, problems: &mut Vec<String>) -> BTreeSet<String> {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector, problems),
            Expr::MatrixSelector(range) => self.selector(&range.vs, problems),
            Expr::Paren(inner) => self.walk(&inner.expr, problems),
            Expr::Unary(inner) => self.walk(&inner.expr, problems),
            Expr::Subquery(inner) => self.walk(&inner.expr, problems),
            Expr::Call(call) => call.args.args.iter().flat_map(|argument| self.walk(argument, problems)).collect(),
            Expr::Aggregate(sum) => {
                let labels = self.walk(&sum.expr, problems);
                let used = sum.modifier.as_ref().map(LabelModifier::labels);
                let used: Vec<String> = used.into_iter().flat_map(|it| it.labels.clone()).collect();
                missing(&used, &labels, problems);
                match &sum.modifier {
                    Some(LabelModifier::Include(_)) => used.into_iter().collect(),
                    Some(LabelModifier::Exclude(_)) => labels,
                    // topk and bottomk keep the labels, all others lose them.
                    None if ["topk", "bottomk"].contains(&sum.op.to_string().as_str()) => labels,
                    None => BTreeSet::new(),
                }
            }
            Expr::Binary(both) => {
                let (mut left, right) = (self.walk(&both.lhs, problems), self.walk(&both.rhs, problems));
                if let Some(modifier) = &both.modifier {
                    if let Some(LabelModifier::Include(on)) = &modifier.matching {
                        missing(&on.labels, &left, problems);
                        missing(&on.labels, &right, problems);
                    }
                    if let VectorMatchCardinality::ManyToOne(group) = &modifier.card {
                        missing(&group.labels, &right, problems);
                        left.extend(group.labels.iter().cloned());
                    }
                }
                if [">", ">=", "<", "<=", "=="].contains(&both.op.to_string().as_str()) {
                    problems
                        .extend(burns_nothing(&both.lhs, &both.rhs).or_else(|| burns_nothing(&both.rhs, &both.lhs)));
                }
                if left.is_empty() { right } else { left }
            }
            _ => BTreeSet::new(),
        }
    }

    fn selector(&self, selector: &VectorSelector, problems: &mut Vec<String>) -> BTreeSet<String> {
        // `{__name__=~"a(_total)?"}`: both spellings of a.
        let matched = selector.matchers.matchers.iter().find(|matcher| matcher.name == "__name__");
        let matched = matched.and_then(|matcher| matcher.value.split('(').next().map(ToOwned::to_owned));
        let name = selector.name.clone().or(matched).unwrap_or_default();
        let Some(labels) = self.labels(&name) else {
            problems.push(format!("nobody exports `{name}`: see docs/telemetry.md, or list it with its source"));
            return BTreeSet::new();
        };
        let used = selector.matchers.matchers.iter().map(|matcher| matcher.name.clone());
        let used: Vec<String> = used.filter(|name| name != "__name__").collect();
        missing(&used, &labels, problems);
        labels
    }
}

/// What is wrong with comparing a ratio of an objective with this: a ratio ends at 1, and what is no number can't be
/// judged here. The budget in it is that of the objective.
fn burns_nothing(ratio: &Expr, limit: &Expr) -> Option<String> {
    let Expr::VectorSelector(VectorSelector { name: Some(name), .. }) = plain(ratio) else { return None };
    let (_, budget) = BUDGETS.iter().find(|(objective, _)| name.starts_with(objective))?;
    if !name.contains(":error_ratio_") {
        return None;
    }
    match constant(limit) {
        None => Some(format!("`{name}` is compared with no number: nobody sees whether it can be reached")),
        Some(limit) if limit >= 1.0 => Some(format!("{limit} can never be reached: at worst everything fails")),
        Some(_) => match plain(limit) {
            Expr::Binary(product) if constant(&product.rhs).is_some_and(|of| (of - budget).abs() > 1e-9) => {
                Some(format!("`{name}` is compared with a burn of another budget than {budget}"))
            }
            _ => None,
        },
    }
}

fn plain(expr: &Expr) -> &Expr {
    if let Expr::Paren(inner) = expr { plain(&inner.expr) } else { expr }
}

/// The number that an expression without series is.
fn constant(expr: &Expr) -> Option<f64> {
    match plain(expr) {
        Expr::NumberLiteral(number) => Some(number.val),
        Expr::Unary(inner) => Some(-constant(&inner.expr)?),
        Expr::Binary(both) => {
            let (left, right) = (constant(&both.lhs)?, constant(&both.rhs)?);
            match both.op.to_string().as_str() {
                "+" => Some(left + right),
                "-" => Some(left - right),
                "*" => Some(left * right),
                "/" => Some(left / right),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A label that the target has too is moved out of its way.
fn exported(labels: BTreeSet<String>) -> BTreeSet<String> {
    let moved =
        |label: String| if TARGET_LABELS.contains(&label.as_str()) { format!("exported_{label}") } else { label };
    labels.into_iter().map(moved).collect()
}

fn missing(used: &[String], labels: &BTreeSet<String>, problems: &mut Vec<String>) {
    let unknown = used.iter().filter(|label| !labels.contains(*label));
    problems.extend(unknown.map(|label| format!("label `{label}` is on none of what it is asked of: {labels:?}")));
}
