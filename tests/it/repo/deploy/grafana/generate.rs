//! Makes a dashboard of a source: layout, variables, annotations, links. Panels are in `panel.rs`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    super::Tree,
    panel,
    source::{self, Annotation, Dashboard, Kind, Panel, SHARED, Shared, Variable},
};

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;
/// What the pinned Grafana writes (`defaultDashboard` of its npm package `@grafana/schema`).
const SCHEMA_VERSION: u32 = 42;

pub fn uid(name: &str) -> String {
    format!("keel-{name}")
}

pub fn path(name: &str) -> String {
    format!("deploy/grafana/dashboards/{name}.json")
}

/// The text of the file of each dashboard, by its path.
pub fn all(tree: &Tree) -> Result<BTreeMap<String, String>, String> {
    let shared: Shared = source::read(tree, SHARED)?;
    let mut made = BTreeMap::new();
    for name in source::names(tree) {
        let from = format!("{}/{name}.yaml", source::FOLDER);
        let dashboard = source::read(tree, &from)?;
        let value = sorted(make(&name, &dashboard, &shared).map_err(|problem| format!("{from}: {problem}"))?);
        made.insert(path(&name), format!("{}\n", serde_json::to_string_pretty(&value).unwrap()));
    }
    Ok(made)
}

/// Whether a map keeps its order is a feature that any dependency can switch on.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<String, Value> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}

fn make(name: &str, dashboard: &Dashboard, shared: &Shared) -> Result<Value, String> {
    let variables: Vec<Value> =
        dashboard.variables.iter().map(|name| variable(name, shared)).collect::<Result<_, _>>()?;
    let mut annotations = vec![json!({
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": true,
        "hide": true,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    })];
    for name in &dashboard.annotations {
        annotations.push(annotation(name, shared)?);
    }
    Ok(json!({
        "annotations": {"list": annotations},
        "description": dashboard.description.trim(),
        "editable": false,
        "graphTooltip": 1,
        "id": null,
        "links": [{
            "asDropdown": true,
            "icon": "external link",
            "includeVars": true,
            "keepTime": true,
            "tags": ["keel"],
            "targetBlank": false,
            "title": "Dashboards",
            "tooltip": "",
            "type": "dashboards",
            "url": "",
        }],
        "panels": panels(name, dashboard, shared)?,
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["keel"],
        "templating": {"list": variables},
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "title": dashboard.title,
        "uid": uid(name),
        "version": 1,
    }))
}

/// Rows one below the other; in a row panels from left to right, and a new line where one does not fit.
fn panels(name: &str, dashboard: &Dashboard, shared: &Shared) -> Result<Vec<Value>, String> {
    let (mut made, mut y) = (Vec::new(), 0);
    for row in &dashboard.rows {
        let mut head = json!({
            "collapsed": row.collapsed,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
            "id": id(name, &format!("row {}", row.title)),
            "panels": [],
            "title": row.title,
            "type": "row",
        });
        y += 1;
        let (mut inside, mut x, mut line) = (Vec::new(), 0, 0);
        for panel in &row.panels {
            let (width, height) =
                (panel.width.unwrap_or(default_width(panel)), panel.height.unwrap_or(default_height(panel)));
            if x + width > COLUMNS {
                (x, y, line) = (0, y + line, 0);
            }
            let mut value =
                panel::make(panel, shared).map_err(|problem| format!("panel `{}`: {problem}", panel.title))?;
            value["gridPos"] = json!({"h": height, "w": width, "x": x, "y": y});
            value["id"] = id(name, &panel.title).into();
            inside.push(value);
            (x, line) = (x + width, line.max(height));
        }
        // Panels of a closed row take no room until it is opened, when Grafana moves what is below.
        if row.collapsed {
            head["panels"] = inside.into();
            made.push(head);
        } else {
            made.push(head);
            made.append(&mut inside);
            y += line;
        }
    }
    Ok(made)
}

fn default_width(panel: &Panel) -> u32 {
    match panel.kind {
        Kind::Stat => 4,
        Kind::Table | Kind::Logs | Kind::NodeGraph => COLUMNS,
        _ => 8,
    }
}

fn default_height(panel: &Panel) -> u32 {
    match panel.kind {
        Kind::Stat => 4,
        Kind::Logs | Kind::NodeGraph => 12,
        _ => 8,
    }
}

/// FNV-1a of the title: a panel keeps its id, and links to it hold, when another one comes before it.
fn id(dashboard: &str, title: &str) -> u32 {
    let bytes = dashboard.bytes().chain([0]).chain(title.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % 1_000_000_000 + 1
}

fn variable(name: &str, shared: &Shared) -> Result<Value, String> {
    let variable: &Variable =
        shared.variables.get(name).ok_or_else(|| format!("no variable `{name}`; {SHARED} has the variables"))?;
    let mut value = json!({
        "name": name,
        "label": variable.label,
        "description": variable.description,
        "skipUrlSync": false,
    });
    let all = json!({"selected": true, "text": "All", "value": "$__all"});
    match (&variable.query, &variable.choices, &variable.text, &variable.constant) {
        (Some(query), None, None, None) => {
            let query = shared.query(query)?;
            value["type"] = "query".into();
            value["datasource"] = json!({"type": "prometheus", "uid": "prometheus"});
            // 1: a label_values() query, as the editor writes it.
            value["query"] = json!({"qryType": 1, "query": query, "refId": format!("variable-{name}")});
            // When the time range changes, so do the routes and tenants that exist.
            value["refresh"] = 2.into();
            value["sort"] = 1.into();
        }
        (None, Some(choices), None, None) => {
            value["type"] = "custom".into();
            value["query"] = choices.join(",").into();
            value["options"] =
                choices.iter().map(|text| json!({"selected": false, "text": text, "value": text})).collect();
        }
        (None, None, Some(text), None) | (None, None, None, Some(text)) => {
            let option = json!({"selected": true, "text": text, "value": text});
            value["type"] = if variable.text.is_some() { "textbox" } else { "constant" }.into();
            value["query"] = text.clone().into();
            value["options"] = json!([option]);
            value["current"] = option;
            if variable.constant.is_some() {
                value["hide"] = 2.into();
                value["skipUrlSync"] = true.into();
            }
        }
        _ => return Err(format!("variable `{name}` needs exactly one of query, choices, text and constant")),
    }
    if variable.multi {
        value["multi"] = true.into();
        value["includeAll"] = true.into();
        value["allValue"] = ".*".into();
        value["current"] = all;
    }
    Ok(value)
}

fn annotation(name: &str, shared: &Shared) -> Result<Value, String> {
    let annotation: &Annotation =
        shared.annotations.get(name).ok_or_else(|| format!("no annotation `{name}`; {SHARED} has the annotations"))?;
    Ok(json!({
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "enable": annotation.enable,
        "expr": shared.query(&annotation.expr)?,
        "hide": false,
        "iconColor": annotation.color,
        "name": name,
        "textFormat": annotation.text,
        "titleFormat": annotation.title,
        "useValueForTime": true,
    }))
}
