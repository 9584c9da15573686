//! The cluster's column of the runbooks, which no test can run: commands and flags of kubectl, namespaces, objects and
//! labels against the manifests.

use std::{collections::BTreeSet, sync::LazyLock};

use regex::Regex;
use serde_json::Value;

use super::Files;

/// Commands of kubectl, of those that runbooks use, with the word that follows where there is one of a few.
const COMMANDS: &[(&str, &[&str])] = &[
    ("cordon", &[]),
    ("create", &[]),
    ("debug", &[]),
    ("delete", &[]),
    ("describe", &[]),
    ("drain", &[]),
    ("exec", &[]),
    ("get", &[]),
    ("logs", &[]),
    ("patch", &[]),
    ("port-forward", &[]),
    ("rollout", &["history", "pause", "restart", "resume", "status", "undo"]),
    ("scale", &[]),
    ("set", &["env", "image", "resources"]),
    ("top", &["nodes", "pods"]),
    ("uncordon", &[]),
    ("wait", &[]),
];

/// Flags, and whether a value follows as a word of its own.
const FLAGS: &[(&str, bool)] = &[
    ("--all-containers", false),
    ("--attach", false),
    ("--container", true),
    ("--field-selector", true),
    ("--follow", false),
    ("--for", true),
    ("--ignore-daemonsets", false),
    ("--image", true),
    ("--namespace", true),
    ("--output", true),
    ("--patch", true),
    ("--previous", false),
    ("--profile", true),
    ("--replicas", true),
    ("--selector", true),
    ("--since", true),
    ("--sort-by", true),
    ("--stdin", false),
    ("--tail", true),
    ("--target", true),
    ("--timeout", true),
    ("--to-revision", true),
    ("--tty", false),
    ("--type", true),
];

/// Kinds by the names that kubectl takes for them. What has a name of its own there is not looked up.
const KINDS: &[(&str, &[&str])] = &[
    ("configmap", &["configmaps", "cm"]),
    ("cronjob", &["cronjobs"]),
    ("daemonset", &["daemonsets", "ds"]),
    ("deployment", &["deployments", "deploy"]),
    ("horizontalpodautoscaler", &["horizontalpodautoscalers", "hpa"]),
    ("ingress", &["ingresses"]),
    ("job", &["jobs"]),
    ("networkpolicy", &["networkpolicies"]),
    ("poddisruptionbudget", &["poddisruptionbudgets", "pdb"]),
    ("secret", &["secrets"]),
    ("service", &["services", "svc"]),
    ("servicemonitor", &["servicemonitors"]),
    ("statefulset", &["statefulsets", "sts"]),
];
/// Their names are known to the cluster only.
const UNNAMED: &[&str] = &[
    "certificate",
    "certificates",
    "endpointslices",
    "events",
    "node",
    "nodes",
    "persistentvolumeclaims",
    "pod",
    "pods",
    "pvc",
    "replicasets",
];
/// Whoever runs Prometheus chose it; the manifests let it in by this name.
const OTHER_NAMESPACES: &[&str] = &["monitoring"];

static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"'[^']*'|"[^"]*"|[^\s'"]+"#).unwrap());

/// What the manifests make.
pub struct Objects {
    named: BTreeSet<(String, String)>,
    namespaces: BTreeSet<String>,
    text: String,
}

/// Of one file.
pub fn documents(manifest: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifest).unwrap_or_default()
}

impl Objects {
    pub fn of(files: &Files) -> Self {
        let (mut named, mut namespaces, mut text) = (BTreeSet::new(), BTreeSet::new(), String::new());
        namespaces.extend(OTHER_NAMESPACES.iter().map(|name| (*name).to_owned()));
        for (_, manifest) in files.below("deploy/kubernetes/", ".yaml") {
            text.push_str(manifest);
            for document in documents(manifest) {
                let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let kind = document["kind"].as_str().unwrap_or_default().to_lowercase();
                if kind == "namespace" {
                    namespaces.insert(name.clone());
                }
                named.insert((kind, name));
                for generated in ["configMapGenerator", "secretGenerator"] {
                    let kind = generated.trim_end_matches("Generator").to_lowercase();
                    for one in document[generated].as_array().into_iter().flatten() {
                        named.insert((kind.clone(), one["name"].as_str().unwrap_or_default().to_owned()));
                    }
                }
            }
        }
        Self { named, namespaces, text }
    }

    /// Of all kubectl commands in a text.
    pub fn problems(&self, text: &str) -> Vec<String> {
        let text = text.replace("\\\n", " ");
        let commands = text.lines().flat_map(|line| line.split(" | ")).flat_map(|part| part.split("&&"));
        let commands = commands.flat_map(|part| part.split([';', '#'])).flat_map(|part| part.split(" & "));
        commands
            .filter_map(|part| part.trim().strip_prefix("kubectl "))
            .flat_map(|rest| self.of_command(rest))
            .collect()
    }

    fn of_command(&self, command: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let mut words = WORD.find_iter(command).map(|word| word.as_str().trim_matches(['"', '\'']));
        let mut plain = Vec::new();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            let Some(flag) = word.strip_prefix('-').map(|_| word.split('=').next().unwrap_or(word)) else {
                plain.push(word);
                continue;
            };
            let Some((_, takes)) = FLAGS.iter().find(|(known, _)| *known == flag) else {
                problems
                    .push(format!("flag {flag} of kubectl is not known here: write it in full, or add it to FLAGS"));
                continue;
            };
            let value = match word.split_once('=') {
                Some((_, value)) => value,
                None if *takes => words.next().unwrap_or_default(),
                None => "",
            };
            problems.extend(self.wrong_value(flag, value));
        }
        let [verb, rest @ ..] = &plain[..] else { return problems };
        let Some((_, then)) = COMMANDS.iter().find(|(known, _)| known == verb) else {
            problems.push(format!("there is no kubectl command `{verb}`, or it is not in COMMANDS"));
            return problems;
        };
        let rest = match (then.is_empty(), rest) {
            (false, [next, rest @ ..]) if then.contains(next) => rest,
            (false, [next, ..]) => {
                problems.push(format!("there is no `kubectl {verb} {next}`"));
                return problems;
            }
            _ => rest,
        };
        if !["create", "cordon", "uncordon", "drain", "top"].contains(verb) {
            problems.extend(self.wrong_object(rest));
        }
        problems
    }

    fn wrong_value(&self, flag: &str, value: &str) -> Option<String> {
        let there = match flag {
            "--namespace" => value.contains('$') || self.namespaces.contains(value),
            "--selector" => value.split(',').all(|pair| {
                pair.split_once('=').is_some_and(|(key, value)| self.text.contains(&format!("{key}: {value}")))
            }),
            _ => true,
        };
        let what = flag.trim_start_matches('-');
        (!there).then(|| format!("the manifests have no {what} `{value}`"))
    }

    /// `kind/name`, or kinds and then names.
    fn wrong_object(&self, words: &[&str]) -> Option<String> {
        let (kinds, name) = match words {
            [] => return None,
            [first, ..] if first.contains('/') => first.split_once('/').map(|(kind, name)| (kind, Some(name)))?,
            [kinds, rest @ ..] => (*kinds, rest.first().copied()),
        };
        for kind in kinds.split(',') {
            if UNNAMED.contains(&kind) || kind.starts_with('$') {
                continue;
            }
            let Some((kind, _)) = KINDS.iter().find(|(known, names)| *known == kind || names.contains(&kind)) else {
                return Some(format!("kubectl knows no kind `{kind}`, or it is not in KINDS"));
            };
            let named = |name: &str| self.named.contains(&((*kind).to_owned(), name.to_owned()));
            if let Some(name) = name.filter(|name| !name.contains('$') && !named(name)) {
                return Some(format!("the manifests have no {kind} `{name}`"));
            }
        }
        None
    }
}
