//! The PromQL of the pages.

use super::{caught, none, page, pages, parts};
use crate::repo::{File, deploy::grafana::promql};

/// What is wrong with the PromQL of the pages: whether it is any, and whether somebody exports what it names. A query
/// ends at an empty line, or each line is one.
fn wrong_queries(pages: &[File]) -> Vec<String> {
    let is_query = |text: &str| promql_parser::parser::parse(text).is_ok();
    let mut problems = Vec::new();
    for page in pages {
        for fence in parts(&page.text).1.iter().filter(|fence| fence.language == "promql") {
            for lines in fence.lines.split(|line| line.trim().is_empty()) {
                let lines: Vec<&str> = lines.iter().filter(|line| !line.starts_with('#')).copied().collect();
                let listed = lines.len() > 1 && lines.iter().all(|line| is_query(line));
                let queries =
                    if listed { lines.into_iter().map(str::to_owned).collect() } else { vec![lines.join("\n")] };
                for query in queries {
                    let wrong = promql::look(&query).problems;
                    problems.extend(wrong.iter().map(|wrong| format!("{}:{}: {wrong}", page.path, fence.first)));
                }
            }
        }
    }
    problems
}

#[test]
fn every_query_of_the_pages_can_be_asked() {
    let mut asked = pages();
    // Generated from the rules, which `deploy::prometheus` looks at, with what they record.
    asked.retain(|page| !page.path.starts_with("docs/alerts"));
    none(&wrong_queries(&asked));
    let count = asked.iter().map(|page| page.text.matches("```promql").count()).sum::<usize>();
    assert!(count >= 10, "only {count} blocks were looked at");
}

#[test]
fn a_query_that_nobody_could_ask_is_caught() {
    let text = "```promql\nup\nsum(rate(log_line_total[5m]))\n\n# Said in words.\n(<the new one>) > 2 * up\n\n\
                sum by (route) (up)\n```\n";
    caught(
        &wrong_queries(&page("docs/x.md", text)),
        &["no series `log_line_total`", "`(<the new one>) > 2 * up` is no PromQL", "groups by `route`"],
    );
}
