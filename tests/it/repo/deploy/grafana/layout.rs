//! Where panels lie on Grafana's grid.

use serde_json::Value;

use super::inspect::text;

/// Panels that overlap each other or the edge.
pub fn overlaps(panels: &[Value]) -> Vec<String> {
    let at = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().unwrap_or(u64::MAX / 4);
    let mut problems = Vec::new();
    for (index, one) in panels.iter().enumerate() {
        if at(one, "x") + at(one, "w") > 24 {
            problems.push(format!("panel `{}` is wider than the 24 columns", text(one, "title")));
        }
        for other in &panels[index + 1..] {
            let apart = |start, size| {
                at(one, start) + at(one, size) <= at(other, start)
                    || at(other, start) + at(other, size) <= at(one, start)
            };
            if !apart("x", "w") && !apart("y", "h") {
                problems.push(format!("panels `{}` and `{}` overlap", text(one, "title"), text(other, "title")));
            }
        }
    }
    problems
}
