//! PromQL against the vocabulary: each series exists and has the labels that the query matches, groups and joins by.

use std::collections::BTreeSet;

use promql_parser::{
    label::MatchOp,
    parser::{self, Expr, LabelModifier, VectorSelector},
};

use super::vocabulary;

#[derive(Default)]
pub struct Found {
    /// Series the query reads.
    pub series: BTreeSet<String>,
    /// Labels its answer has.
    pub labels: BTreeSet<String>,
    pub problems: Vec<String>,
}

pub fn look(query: &str) -> Found {
    let mut found = Found::default();
    match parser::parse(query) {
        Ok(expr) => found.labels = found.expr(&expr),
        Err(error) => found.problems.push(format!("`{query}` is no PromQL: {error}")),
    }
    found
}

impl Found {
    /// The labels of the expression's answer.
    fn expr(&mut self, expr: &Expr) -> BTreeSet<String> {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(selector) => self.selector(&selector.vs),
            Expr::Paren(inner) => self.expr(&inner.expr),
            Expr::Unary(inner) => self.expr(&inner.expr),
            Expr::Subquery(inner) => self.expr(&inner.expr),
            Expr::Aggregate(aggregate) => {
                if let Some(parameter) = &aggregate.param {
                    self.expr(parameter);
                }
                let inner = self.expr(&aggregate.expr);
                match &aggregate.modifier {
                    Some(LabelModifier::Include(by)) => self.known(&by.labels, &inner, "groups by"),
                    Some(LabelModifier::Exclude(without)) => {
                        let gone = self.known(&without.labels, &inner, "groups without");
                        inner.difference(&gone).cloned().collect()
                    }
                    // These choose series and keep their labels.
                    None if ["topk", "bottomk"].contains(&aggregate.op.to_string().as_str()) => inner,
                    None => BTreeSet::new(),
                }
            }
            Expr::Binary(binary) => {
                let (left, right) = (self.expr(&binary.lhs), self.expr(&binary.rhs));
                if let Some(modifier) = &binary.modifier {
                    if let Some(matching) = &modifier.matching {
                        // What is ignored need be on one side only.
                        let ignored = matches!(matching, LabelModifier::Exclude(_));
                        let all: BTreeSet<String> = left.union(&right).cloned().collect();
                        for side in [&left, &right] {
                            self.known(&matching.labels().labels, if ignored { &all } else { side }, "joins by");
                        }
                    }
                    if let Some(taken) = modifier.card.labels() {
                        self.known(&taken.labels, &left.union(&right).cloned().collect(), "takes over");
                    }
                }
                left.union(&right).cloned().collect()
            }
            Expr::Call(call) => {
                let arguments: Vec<BTreeSet<String>> = call.args.args.iter().map(|each| self.expr(each)).collect();
                let mut labels: BTreeSet<String> = arguments.into_iter().flatten().collect();
                if call.func.name == "histogram_quantile" {
                    if !labels.remove("le") {
                        self.problems.push("histogram_quantile needs the label `le`".to_owned());
                    }
                } else if let ("label_replace" | "label_join", Some(Expr::StringLiteral(name))) =
                    (call.func.name, call.args.args.get(1).map(|each| &**each))
                {
                    labels.insert(name.val.clone());
                }
                labels
            }
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => BTreeSet::new(),
        }
    }

    fn selector(&mut self, selector: &VectorSelector) -> BTreeSet<String> {
        let matchers = selector.matchers.matchers.iter().chain(selector.matchers.or_matchers.iter().flatten());
        let Some(name) = &selector.name else {
            self.problems.push("a selector without a name reads everything".to_owned());
            return BTreeSet::new();
        };
        let Some(labels) = vocabulary::labels(name) else {
            self.problems.push(format!("there is no series `{name}`; docs/telemetry.md has the metrics"));
            return BTreeSet::new();
        };
        let jobs = vocabulary::jobs(name);
        for matcher in matchers {
            if !labels.contains(&matcher.name) {
                self.problems.push(format!("`{name}` has no label `{}`, only {}", matcher.name, list(&labels)));
            }
            let asked: Vec<&str> = match &matcher.op {
                MatchOp::Equal => vec![&*matcher.value],
                MatchOp::Re(_) => matcher.value.split('|').collect(),
                _ => vec!["anything else"],
            };
            if matcher.name == "job" && !jobs.is_empty() && !asked.iter().all(|job| jobs.contains(job)) {
                self.problems.push(format!("`{name}` comes with job=\"{}\"", jobs.join("\" or \"")));
            }
        }
        self.series.insert(name.clone());
        labels
    }

    fn known(&mut self, labels: &[String], of: &BTreeSet<String>, what: &str) -> BTreeSet<String> {
        for label in labels.iter().filter(|label| !of.contains(*label)) {
            self.problems.push(format!("it {what} `{label}`, which is not there: {}", list(of)));
        }
        labels.iter().cloned().collect()
    }
}

fn list(labels: &BTreeSet<String>) -> String {
    labels.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
