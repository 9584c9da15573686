//! `make prr` on a copy of the tree: with everything mended each item is ok, with everything broken none is, and what
//! lies between says what it is.

use std::{collections::BTreeMap, process::Output};

use regex::Regex;
use serde_json::Value;

use super::{habits::tracked, scratch::Scratch};

/// What of the tree the script reads, and the script.
const READ: [&str; 13] = [
    ".github/",
    "Cargo.",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "config/",
    "deny.toml",
    "deploy/",
    "docs/deploy.md",
    "docs/production.md",
    "runbooks/",
    "scripts/lib/",
    "scripts/prr.sh",
];
const TODAY: &str = "2026-11-21";
const OVERLAY: &str = "deploy/kubernetes/overlays/production/kustomization.yaml";
const BASE: &str = "deploy/kubernetes/base";
/// In two parts: what the template is called, and its example, whatever this tree is called.
const TEMPLATE: &str = concat!("ke", "el");
const EXAMPLE: &str = concat!("src/sh", "op/mod.rs");

/// A clone, as far as the script reads it.
struct Fork(Scratch);

impl std::ops::Deref for Fork {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.0
    }
}

impl Fork {
    fn new() -> Self {
        let fork = Self(Scratch::of(|path| READ.iter().any(|start| path.starts_with(start))));
        fork.commit();
        fork.drilled("2026-11-20", &fork.head());
        fork
    }

    /// Nothing, where it is not.
    fn read(&self, path: &str) -> String {
        if self.path(path).exists() { self.0.read(path) } else { String::new() }
    }

    /// All matches; what it comes to, the script says.
    fn edit(&self, path: &str, pattern: &str, to: &str) {
        let text = self.read(path);
        self.write(path, Regex::new(&format!("(?m){pattern}")).unwrap().replace_all(&text, to).as_bytes());
    }

    /// The same in all files below.
    fn edit_all(&self, folder: &str, pattern: &str, to: &str) {
        for path in tracked().iter().filter(|path| path.starts_with(folder)) {
            self.edit(path, pattern, to);
        }
    }

    fn remove(&self, path: &str) {
        // What is not there need not go.
        let _absent = std::fs::remove_file(self.path(path));
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "--short=12", "HEAD"]).trim().to_owned()
    }

    /// The document of drills, with all there are.
    fn drilled(&self, day: &str, commit: &str) {
        let mut text = format!("# Drills\n\n{day} at {commit}, on 2 cores (x86_64), 529 s for all of them.\n\n");
        for path in tracked().iter().filter(|path| path.starts_with("runbooks/drills/")) {
            let name = path.rsplit('/').next().unwrap().trim_end_matches(".yaml").replacen('-', ": ", 1);
            text += &format!("| {name} | page | 1.0 | 1.0 | 1.0 | 0 |\n");
        }
        self.write("docs/drills.md", &text);
    }

    /// The last day of each row of docs/production.md.
    fn stated(&self, day: &str) {
        self.edit("docs/production.md", r"^(\| `[a-z-]+` \| .+? \| \d+ \|) [^|]* \|", &format!("$1 {day} |"));
    }

    fn prr(&self, variables: &[(&str, &str)]) -> Output {
        self.run("scripts/prr.sh", &[&[("TODAY", TODAY)], variables].concat())
    }

    /// State and reason of each item.
    fn items(&self, variables: &[(&str, &str)]) -> BTreeMap<String, (String, String)> {
        let output = self.prr(&[variables, &[("JSON", "1")]].concat());
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
        let items = said["items"].as_array().unwrap();
        let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
        for item in items {
            assert_eq!(item["state"] != "ok", !text(item, "mend").is_empty(), "what is not ok is to be mended: {item}");
        }
        let count = |state: &str| items.iter().filter(|item| item["state"] == state).count();
        assert_eq!([&said["ok"], &said["open"], &said["unknown"]], ["ok", "open", "unknown"].map(count));
        items.iter().map(|item| (text(item, "item"), (text(item, "state"), text(item, "reason")))).collect()
    }

    #[track_caller]
    fn says(&self, variables: &[(&str, &str)], item: &str, state: &str, reason: &str) {
        let items = self.items(variables);
        let found = items.get(item).unwrap_or_else(|| panic!("no item `{item}`: {:?}", items.keys()));
        assert!(found.0 == state && found.1.contains(reason), "{item}: {found:?}, expected {state} ({reason})");
    }
}

/// All that a clone has to do, done.
fn mend(scratch: &Fork) {
    scratch.edit("Cargo.toml", r#"\A((?s:.*?))^name = ".*"$"#, "${1}name = \"your-service\"");
    scratch.edit("Cargo.toml", "^description = .*$", "description = \"Bills whoever ordered\"");
    scratch.write("README.md", "# Billing\n\nBills whoever ordered.\n");
    scratch.edit("LICENSE-MIT", "^Copyright .*$", "Copyright (c) 2026 Acme");
    scratch.remove(EXAMPLE);
    for place in ["Cargo.toml", "deploy/"] {
        scratch.edit_all(place, r"\bexample\.com\b", "acme.io");
        scratch.edit_all(place, "/example/", "/acme/");
    }
    scratch.edit_all("deploy/prometheus/rules/", r"\bteam: .*$", "team: billing");
    scratch.edit_all("runbooks/", "^owner: .*$", "owner: billing");
    scratch.write(".github/CODEOWNERS", "# Who is asked.\n/migrations/ @acme/data\n");
    scratch.edit("SECURITY.md", r"[\w.]+@[\w.]+\w", "security@acme.io");
    scratch.edit(
        OVERLAY,
        "^( +- )APP_ENVIRONMENT=.*$",
        "${1}APP_ENVIRONMENT=production\n${1}APP__HTTP__TRUSTED_PROXIES=10.4.0.0/20\n${1}APP__RATE_LIMIT__PER_SECOND=50",
    );
    scratch.stated("2026-11-01");
    scratch.commit();
    scratch.drilled("2026-11-20", &scratch.head());
}

/// All that there is to get wrong.
fn spoil(scratch: &Fork) {
    scratch.edit("Cargo.toml", r#"\A((?s:.*?))^name = ".*"$"#, &format!("${{1}}name = \"{TEMPLATE}\""));
    scratch.edit("Cargo.toml", "^description = .*$", "description = \"A boilerplate\"");
    scratch.edit("Cargo.toml", "^repository = .*$", "repository = \"https://example.com/x/x\"");
    scratch
        .write("docs/deploy.md", "### Replace these names\n\n| name |\n|---|\n| `https://example.com/x/x` | yours |\n");
    scratch.write("README.md", "# It\n\nBegin with `make rename NAME=x`.\n");
    scratch.write("LICENSE-MIT", format!("Copyright (c) 2026 The {TEMPLATE} authors\n"));
    scratch.write(EXAMPLE, "");
    scratch.edit_all("deploy/prometheus/rules/", r"\bteam: .*$", &format!("team: {TEMPLATE}"));
    scratch.edit_all("runbooks/", "^owner: .*$", &format!("owner: {TEMPLATE}"));
    scratch.write(".github/CODEOWNERS", "* @example/team\n");
    scratch.edit("SECURITY.md", r"[\w.]+@[\w.]+\w", "security@example.com");

    let spoilt = "${1}APP_ENVIRONMENT=staging\n${1}APP__HTTP__TRUSTED_PROXIES=10.0.0.0/8\n\
                  ${1}APP__FAULTS__ENABLED=true\n${1}OTEL_EXPORTER_OTLP_ENDPOINT=\n${1}APP__PEER=http://x.example.com";
    scratch.edit(OVERLAY, "^( +- )APP_ENVIRONMENT=.*$", spoilt);
    scratch.edit(OVERLAY, "^ +- APP__(RATE_LIMIT__PER_SECOND|HTTP__TRUSTED_PROXIES)=[^/]*(/20)?$", "");
    scratch.edit(OVERLAY, "newTag: .*$", "newTag: latest");
    scratch.edit(OVERLAY, "^ +- .*components/monitoring$", "");
    scratch.edit_all("deploy/kubernetes/", r"minReplicas: \d+", "minReplicas: 1");
    scratch.edit(
        &format!("{BASE}/kustomization.yaml"),
        r"^ +- (disruption-budget|network-policies|migration)\.yaml$",
        "",
    );
    for (from, to) in [
        ("limits:", "unlimited:"),
        ("livenessProbe:", "liveProbe:"),
        ("runAsNonRoot: true", "runAsNonRoot: false"),
        ("SENTRY_DSN_FILE", "SENTRY_FILE"),
    ] {
        scratch.edit(&format!("{BASE}/deployment.yaml"), from, to);
    }
    scratch.edit(&format!("{BASE}/ingress.yaml"), r"[\w.-]+\.(com|io)$", "it.example.com");
    scratch.edit(&format!("{BASE}/ingress.yaml"), "^  tls:", "  clear:");
    scratch.edit_all("deploy/kubernetes/components/external-secrets/", "secretKey: redis-url", "secretKey: cache");

    scratch.edit(
        "deploy/alertmanager/alertmanager.yaml",
        r"url_file: .*/(\w+-url)$",
        "url_file: /etc/alertmanager/secrets/$1",
    );
    for path in ["runbooks/platform/PostgresDown.md", "runbooks/drills/platform/RedisUnavailable.yaml"] {
        scratch.remove(path);
    }
    scratch.remove("runbooks/drills/platform/RedisUnavailable-frozen.yaml");
    scratch.edit("docs/drills.md", r"^\| ServicePanics \|.*$", "");
    for (from, to) in [("make ci", "make it"), ("make deny", "make it"), ("cosign sign", "cosign show")] {
        scratch.edit_all(".github/workflows/", from, to);
    }
    scratch.remove(".github/dependabot.yml");
    scratch.git(&["rm", "--quiet", "--cached", "Cargo.lock"]);
    scratch.stated("never");
}

#[test]
fn each_item_is_ok_when_mended_and_open_when_spoilt() {
    let scratch = Fork::new();
    mend(&scratch);
    let mended = scratch.items(&[]);
    let left: Vec<_> = mended.iter().filter(|(_, (state, _))| state != "ok").collect();
    assert!(mended.len() >= 50 && left.is_empty(), "{} items, and not mended: {left:#?}", mended.len());
    assert!(scratch.prr(&[("STRICT", "1")]).status.success());

    spoil(&scratch);
    // Half a year after the last drill.
    let later = [("TODAY", "2027-06-21")];
    let spoilt = scratch.items(&later);
    let well: Vec<_> = spoilt.iter().filter(|(_, (state, _))| state != "open").collect();
    assert!(well.is_empty(), "spoilt and not seen: {well:#?}");
    let names = |items: &BTreeMap<String, _>| -> Vec<String> {
        items.keys().filter(|name| !name.starts_with("name ")).cloned().collect()
    };
    assert_eq!(names(&mended), names(&spoilt));
    assert_eq!(scratch.prr(&[later[0], ("STRICT", "1")]).status.code(), Some(1));
    let lines = scratch.prr(&later);
    let said = String::from_utf8(lines.stdout).unwrap();
    assert!(
        lines.status.success() && said.ends_with(&format!("\n0 of {0}; open: {0}, unknown: 0\n", spoilt.len())),
        "{said}"
    );
}

#[test]
fn what_was_drilled_is_compared_with_what_there_is() {
    let scratch = Fork::new();
    let item = "drilled as it is";
    scratch.says(&[], item, "ok", "nothing changed");
    let rules = "deploy/prometheus/rules/platform.yaml";
    let before = scratch.read(rules);

    scratch.write(rules, format!("# A remark.\n{before}"));
    scratch.says(&[], item, "ok", "nothing changed");
    scratch.edit(rules, "summary: \"Postgres ", "summary: \"The database ");
    let said = scratch.items(&[]).remove(item).unwrap().1;
    assert!(said.contains("PostgresDown") && !said.contains("HttpErrorBudgetBurn"), "{said}");
    scratch.write(rules, &before);

    let runbook = "runbooks/platform/RedisUnavailable.md";
    scratch.write(runbook, format!("{}\nMore.\n", scratch.read(runbook)));
    scratch.says(&[], item, "open", "RedisUnavailable, RedisUnavailable-frozen");
    scratch.commit();
    scratch.says(&[], item, "open", "RedisUnavailable, RedisUnavailable-frozen");
    scratch.drilled("2026-11-20", &scratch.head());
    scratch.says(&[], item, "ok", "nothing changed");

    scratch.drilled("2026-11-20", &format!("{}-dirty", scratch.head()));
    scratch.says(&[], item, "open", "changes that no commit has");
    scratch.drilled("2026-11-20", "0123456789ab");
    scratch.says(&[], item, "unknown", "not in this history");
    scratch.write("docs/drills.md", "# Drills\n");
    scratch.says(&[], "drilled", "open", "when it was");
}

#[test]
fn what_people_say_holds_for_a_while() {
    let scratch = Fork::new();
    scratch.says(&[], "Sentry", "unknown", "no file says");
    scratch.stated("2026-11-21");
    scratch.says(&[], "restore", "ok", "2026-11-21: a backup was restored");
    scratch.says(&[], "Sentry", "ok", "content");
    scratch.says(&[("TODAY", "2027-05-20")], "restore", "ok", "");
    scratch.says(&[("TODAY", "2027-05-21")], "restore", "open", "more than 180 days ago");
    // Over a leap day.
    scratch.stated("2028-02-28");
    scratch.says(&[("TODAY", "2028-05-28")], "page", "ok", "");
    scratch.says(&[("TODAY", "2028-05-29")], "page", "open", "more than 90 days ago");
    for day in ["2026-11-22", "yesterday", "2026-13-01"] {
        scratch.stated(day);
        scratch.says(&[], "restore", "unknown", day);
    }
    scratch.write("docs/production.md", "# Nothing\n");
    scratch.says(&[], "statements", "unknown", "no rows");
}

#[test]
fn the_last_word_about_host_and_certificate_counts() {
    let scratch = Fork::new();
    let patch = |host: &str, more: &str| {
        format!(
            "patches:\n  - target:\n      kind: Ingress\n    patch: |\n      \
             - {{op: replace, path: /spec/rules/0/host, value: {host}}}\n{more}"
        )
    };
    let tls = "      - {op: replace, path: /spec/tls/0/hosts/0, value: api.acme.io}\n";
    let before = scratch.read(OVERLAY);
    let with = |host: &str, more: &str| scratch.write(OVERLAY, before.replacen("patches:\n", &patch(host, more), 1));
    with("api.acme.io", tls);
    scratch.says(&[], "host", "ok", "api.acme.io");
    scratch.says(&[], "TLS", "ok", "");
    with("api.acme.io", "");
    scratch.says(&[], "TLS", "open", "still for the host of the base");
    with("api.example.com", tls);
    scratch.says(&[], "host", "open", "api.example.com");
    scratch.write(OVERLAY, before.replacen("components:\n", "components:\n  - ../../components/gateway-api\n", 1));
    scratch.says(&[], "host", "open", "example.com");
    scratch.edit_all("deploy/kubernetes/components/gateway-api/", r"\bexample\.com\b", "acme.io");
    scratch.says(&[], "host", "ok", "acme.io");
    scratch.remove(OVERLAY);
    scratch.says(&[], "overlay", "unknown", "there is no");
}

#[test]
fn a_day_that_is_none_is_refused() {
    let output = Fork::new().prr(&[("TODAY", "today")]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
