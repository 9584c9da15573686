//! Makes a panel's JSON: what a type needs beside its queries.

use serde_json::{Value, json};

use super::{
    generate::uid,
    source::{Kind, Link, Panel, Query, Shared},
};

pub fn make(panel: &Panel, shared: &Shared) -> Result<Value, String> {
    let targets = targets(panel, shared)?;
    let Some(source) = targets.first().map(|target| target["datasource"].clone()) else {
        return Err("it has no query".to_owned());
    };
    if targets.iter().any(|target| target["datasource"] != source) {
        return Err("its queries go to different data sources".to_owned());
    }
    let (on_series, on_panel): (Vec<_>, Vec<_>) = panel.links.iter().partition(|link| !link.set.is_empty());
    let mut value = json!({
        "datasource": source,
        "description": panel.description.trim(),
        "fieldConfig": {"defaults": defaults(panel, &on_series), "overrides": overrides(panel)},
        "links": on_panel.into_iter().map(|each| link(each, panel.kind)).collect::<Vec<_>>(),
        "options": options(panel),
        "targets": targets,
        "title": panel.title,
        "transparent": false,
        "type": panel.kind.name(),
    });
    if panel.kind == Kind::Table && panel.queries.iter().all(|query| query.expr.is_some()) {
        value["transformations"] = transformations(panel);
    }
    Ok(value)
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Timeseries => "timeseries",
            Self::Stat => "stat",
            Self::Table => "table",
            Self::Heatmap => "heatmap",
            Self::Logs => "logs",
            Self::Bargauge => "bargauge",
            Self::NodeGraph => "nodeGraph",
        }
    }
}

fn targets(panel: &Panel, shared: &Shared) -> Result<Vec<Value>, String> {
    (b'A'..=b'Z').zip(&panel.queries).map(|(letter, query)| target(panel, query, char::from(letter), shared)).collect()
}

fn target(panel: &Panel, query: &Query, letter: char, shared: &Shared) -> Result<Value, String> {
    // One figure, or a row of a table, is of the end of the range and not of each step.
    let instant = matches!(panel.kind, Kind::Table | Kind::Bargauge);
    match (&query.expr, &query.logql, &query.traceql, query.service_graph) {
        (Some(expr), None, None, false) => Ok(json!({
            "datasource": {"type": "prometheus", "uid": "prometheus"},
            "editorMode": "code",
            "exemplar": query.exemplars,
            "expr": shared.query(expr)?,
            "format": match panel.kind {
                Kind::Table => "table",
                Kind::Heatmap => "heatmap",
                _ => "time_series",
            },
            "instant": instant,
            "legendFormat": query.legend,
            "range": !instant,
            "refId": letter,
        })),
        (None, Some(logql), None, false) => Ok(json!({
            "datasource": {"type": "loki", "uid": "loki"},
            "editorMode": "code",
            "expr": shared.query(logql)?,
            "legendFormat": query.legend,
            "queryType": if instant { "instant" } else { "range" },
            "refId": letter,
        })),
        (None, None, Some(traceql), false) => Ok(json!({
            "datasource": {"type": "tempo", "uid": "tempo"},
            "limit": 20,
            "query": shared.query(traceql)?,
            "queryType": "traceql",
            "refId": letter,
            "tableType": "traces",
        })),
        (None, None, None, true) => Ok(json!({
            "datasource": {"type": "tempo", "uid": "tempo"},
            "queryType": "serviceMap",
            "refId": letter,
            "serviceMapQuery": "",
        })),
        _ => Err("each query needs exactly one of expr, logql, traceql and service_graph".to_owned()),
    }
}

fn defaults(panel: &Panel, links: &[&Link]) -> Value {
    let mut steps = vec![json!({"color": panel.base.as_deref().unwrap_or("green"), "value": null})];
    let mut above: Vec<_> = panel.thresholds.iter().collect();
    above.sort_by(|a, b| a.1.total_cmp(b.1));
    steps.extend(above.into_iter().map(|(color, value)| json!({"color": color, "value": value})));
    let mut value = json!({
        "links": links.iter().map(|each| link(each, panel.kind)).collect::<Vec<_>>(),
        "mappings": [],
        "thresholds": {"mode": "absolute", "steps": steps},
        "unit": panel.unit,
    });
    for (key, limit) in [("min", panel.min), ("max", panel.max)] {
        if let Some(limit) = limit {
            value[key] = limit.into();
        }
    }
    if panel.kind == Kind::Timeseries {
        value["color"] = json!({"mode": "palette-classic"});
        value["custom"] = json!({
            "drawStyle": "line",
            "fillOpacity": if panel.stacked { 20 } else { 5 },
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": false,
            "stacking": {"group": "A", "mode": if panel.stacked { "normal" } else { "none" }},
            "thresholdsStyle": {"mode": if panel.thresholds.is_empty() { "off" } else { "line" }},
        });
    } else if matches!(panel.kind, Kind::Stat | Kind::Bargauge) {
        value["color"] = json!({"mode": "thresholds"});
    }
    value
}

/// The unit of a table's column.
fn overrides(panel: &Panel) -> Vec<Value> {
    let units = panel.queries.iter().filter_map(|query| Some((query.legend.as_str(), query.unit.as_ref()?)));
    units
        .map(|(legend, unit)| {
            json!({
                "matcher": {"id": "byName", "options": legend},
                "properties": [{"id": "unit", "value": unit}],
            })
        })
        .collect()
}

fn options(panel: &Panel) -> Value {
    let last = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
    match panel.kind {
        Kind::Timeseries => json!({
            "legend": {"calcs": ["mean", "max"], "displayMode": "table", "placement": "bottom", "showLegend": true},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }),
        Kind::Stat => json!({
            "colorMode": if panel.thresholds.is_empty() { "none" } else { "value" },
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": last,
            "textMode": "auto",
        }),
        Kind::Bargauge => json!({
            "displayMode": "gradient",
            "orientation": "horizontal",
            "reduceOptions": last,
            "showUnfilled": true,
            "valueMode": "color",
        }),
        Kind::Heatmap => json!({
            "calculate": false,
            "cellGap": 1,
            "color": {
                "exponent": 0.5,
                "fill": "dark-orange",
                "mode": "scheme",
                "reverse": false,
                "scheme": "Oranges",
                "steps": 64,
            },
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "legend": {"show": true},
            "tooltip": {"mode": "single", "yHistogram": false},
            "yAxis": {"axisPlacement": "left", "unit": panel.unit},
        }),
        Kind::Table => json!({"cellHeight": "sm", "showHeader": true}),
        Kind::Logs => json!({
            "dedupStrategy": "none",
            "enableLogDetails": true,
            "prettifyLogMessage": false,
            "showCommonLabels": false,
            "showLabels": false,
            "showTime": true,
            "sortOrder": "Descending",
            "wrapLogMessage": true,
        }),
        Kind::NodeGraph => json!({}),
    }
}

/// One row a series: the columns of all queries joined by their labels, named as their legends say.
fn transformations(panel: &Panel) -> Value {
    let mut names = serde_json::Map::new();
    for (letter, query) in (b'A'..=b'Z').zip(&panel.queries) {
        // A table of one query calls its column so, one of several adds the letter.
        let column =
            if panel.queries.len() == 1 { "Value".to_owned() } else { format!("Value #{}", char::from(letter)) };
        names.insert(column, query.legend.clone().into());
    }
    json!([
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": true}, "indexByName": {}, "renameByName": names}},
    ])
}

/// Keeps the time range and what both dashboards filter by.
fn link(link: &Link, kind: Kind) -> Value {
    let mut url = format!(
        "/d/{}?${{__url_time_range}}&var-environment=${{environment}}&var-service=${{service}}",
        uid(&link.dashboard)
    );
    // In a table labels are columns. Routes have braces and slashes.
    let from = if kind == Kind::Table { "__data.fields" } else { "__field.labels" };
    for (variable, label) in &link.set {
        url.push_str(&format!("&var-{variable}=${{{from}.{label}:percentencode}}"));
    }
    json!({"targetBlank": false, "title": link.title, "url": url})
}
