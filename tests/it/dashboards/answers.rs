//! Whether queries answer: each is asked until it does or the time is up, and so is each selector in it, because a
//! query that ends in `or vector(0)` always answers. What can't answer here is in `allowed.yaml`, with the reason, and
//! must then really be silent.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use promql_parser::{
    parser::{Expr, VectorSelector, parse},
    util::{ExprVisitor, walk_expr},
};
use serde::Deserialize;

use crate::support::stack::Prometheus;

/// A query and where it stands.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `red`, `queries.md`.
    pub document: String,
    /// Panel and reference, or the line.
    pub place: String,
    pub expr: String,
}

/// What only exists elsewhere.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// The selectors that hold this text may be silent.
    pub selector: String,
    pub reason: String,
}

pub fn allowed() -> Vec<Allowed> {
    serde_saphyr::from_str(include_str!("allowed.yaml")).unwrap()
}

impl Allowed {
    /// Why the entry is wrong.
    async fn stale(&self, prometheus: &Prometheus, rows: &[(Asked, Outcome)]) -> Option<String> {
        let excuse = format!("allowed.yaml: `{}` may be silent ({})", self.selector, self.reason);
        let mut needed = false;
        for (asked, _) in rows {
            for text in selectors(&asked.expr).iter().map(ToString::to_string) {
                if text.contains(&self.selector) {
                    needed = true;
                    if prometheus.series(&text).await.is_ok_and(|series| !series.is_empty()) {
                        return Some(format!("{excuse}, but {text} has series: remove the entry"));
                    }
                }
            }
        }
        (!needed).then(|| format!("{excuse}, but no query asks for it: remove the entry"))
    }
}

/// What became of a query.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// So many series with a number, and each of its selectors that is silent is excused.
    Answers(usize),
    /// No answer, and each of its selectors that is silent is excused.
    Allowed,
    /// Why, in words.
    Silent(String),
}

/// What became of all.
pub struct Report {
    pub rows: Vec<(Asked, Outcome)>,
    /// Entries of the list that nothing needs, in words.
    stale: Vec<String>,
}

impl Report {
    /// Asks all, and those without an answer again and again for `patience`.
    pub async fn of(prometheus: &Prometheus, queries: Vec<Asked>, allowed: &[Allowed], patience: Duration) -> Self {
        let deadline = Instant::now() + patience;
        let mut rows = Vec::new();
        for asked in queries {
            let outcome = look(prometheus, &asked.expr, allowed).await;
            rows.push((asked, outcome));
        }
        while Instant::now() < deadline && rows.iter().any(|(_, outcome)| matches!(outcome, Outcome::Silent(_))) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for (asked, outcome) in rows.iter_mut().filter(|(_, outcome)| !matches!(outcome, Outcome::Answers(_))) {
                *outcome = look(prometheus, &asked.expr, allowed).await;
            }
        }
        // The first answer came from half of the targets.
        for (asked, outcome) in &mut rows {
            if let (Outcome::Answers(now), Outcome::Answers(count)) =
                (look(prometheus, &asked.expr, allowed).await, outcome)
            {
                *count = now.max(*count);
            }
        }
        let mut stale = Vec::new();
        for entry in allowed {
            stale.extend(entry.stale(prometheus, &rows).await);
        }
        Self { rows, stale }
    }

    /// What is wrong.
    pub fn problems(&self) -> Vec<String> {
        let silent = self.rows.iter().filter_map(|(asked, outcome)| match outcome {
            Outcome::Silent(why) => Some(format!("{}: {}: {why}\n    {}", asked.document, asked.place, asked.expr)),
            _ => None,
        });
        silent.chain(self.stale.iter().cloned()).collect()
    }

    /// A line for each query, and a sum.
    pub fn table(&self) -> String {
        let mut table = "| dashboard | panel | series |\n|---|---|---|\n".to_owned();
        let (mut answers, mut excused) = (0, 0);
        for (asked, outcome) in &self.rows {
            let series = match outcome {
                Outcome::Answers(count) => {
                    answers += 1;
                    count.to_string()
                }
                Outcome::Allowed => {
                    excused += 1;
                    "– (allowed)".to_owned()
                }
                Outcome::Silent(_) => "**none**".to_owned(),
            };
            writeln!(table, "| {} | {} | {series} |", asked.document, asked.place).unwrap();
        }
        writeln!(table, "\n{} queries: {answers} answer, {excused} can't here.", self.rows.len()).unwrap();
        table
    }
}

async fn look(prometheus: &Prometheus, expr: &str, allowed: &[Allowed]) -> Outcome {
    let series = match prometheus.query(expr).await {
        Ok(series) => series,
        Err(error) => return Outcome::Silent(error),
    };
    // A panel of `NaN` shows nothing.
    let answers = series.iter().filter(|series| !series.value.is_nan()).count();
    // Which of its selectors never met a series.
    let (mut silent, mut excused) = (Vec::new(), false);
    for mut selector in selectors(expr) {
        // A series of the past is one all the same.
        (selector.offset, selector.at) = (None, None);
        let text = selector.to_string();
        if prometheus.series(&text).await.is_ok_and(|series| !series.is_empty()) {
            continue;
        }
        if allowed.iter().any(|entry| text.contains(&entry.selector)) {
            excused = true;
        } else {
            silent.push(text);
        }
    }
    match (silent.is_empty(), answers, excused) {
        (false, ..) => Outcome::Silent(format!("no series: {}", silent.join(", "))),
        (true, 0, true) => Outcome::Allowed,
        (true, 0, false) => Outcome::Silent("each selector has series, and yet no number comes out".to_owned()),
        (true, ..) => Outcome::Answers(answers),
    }
}

/// The selectors of an expression.
fn selectors(expr: &str) -> Vec<VectorSelector> {
    struct Found(Vec<VectorSelector>);
    impl ExprVisitor for Found {
        type Error = std::convert::Infallible;

        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
            match expr {
                Expr::VectorSelector(selector) => self.0.push(selector.clone()),
                Expr::MatrixSelector(matrix) => self.0.push(matrix.vs.clone()),
                _ => {}
            }
            Ok(true)
        }
    }
    let mut found = Found(Vec::new());
    if let Ok(expr) = parse(expr) {
        let Ok(_) = walk_expr(&mut found, &expr);
    }
    found.0
}
