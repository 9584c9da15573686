//! The migration Job can be applied again: the same version is no change, the next one is another Job.

use std::path::Path;

use serde_json::Value;

use super::{Rendering, has_kubectl, holds, kustomize, list, name_of, overlay, text};
use crate::repo::deploy::{Tree, caught, none};

fn check(_: &Tree, rendering: &Rendering) -> Vec<String> {
    let mut problems = Vec::new();
    for job in rendering.of("Job") {
        let mut say = |what: String| problems.push(format!("{}: Job {}: {what}", rendering.name, name_of(job)));
        if job["spec"]["ttlSecondsAfterFinished"].is_null() {
            say("ttlSecondsAfterFinished is missing: finished ones would stay for ever".to_owned());
        }
        if job["spec"]["template"].to_string().contains("configMap") {
            say("reads a ConfigMap, whose name changes with its content; a Job's template can't change".to_owned());
        }
        if rendering.is_base() {
            continue;
        }
        let image = list(job, "/spec/template/spec/containers").first().map(|migrate| text(migrate, "/image"));
        let tag =
            image.and_then(|image| image.split('@').next()?.rsplit_once(':')).map(|(_, tag)| tag).unwrap_or_default();
        if name_of(job) != format!("keel-migrate-{tag}") {
            say(format!("must be called keel-migrate-{tag}: release/ puts the image's tag into its name"));
        }
        let is_fit = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.".contains(letter);
        if name_of(job).len() > 63 || !name_of(job).chars().all(is_fit) {
            say("a name has at most 63 characters: small letters, digits, `-` and `.`; choose another tag".to_owned());
        }
        let service = rendering.service();
        let version = &service.template["metadata"]["labels"]["app.kubernetes.io/version"];
        let marker = text(service.object, "/metadata/annotations/kubernetes.io~1change-cause");
        if version != tag || !marker.ends_with(&format!(" {tag}")) {
            say(format!("version label {version} and change-cause `{marker}` must be of the tag {tag}"));
        }
        let environment = rendering.of("ConfigMap").find(|map| name_of(map).starts_with("keel-config"));
        let told =
            list(job, "/spec/template/spec/containers/0/env").iter().find(|entry| entry["name"] == "APP_ENVIRONMENT");
        if told.map(|told| &told["value"]) != environment.map(|map| &map["data"]["APP_ENVIRONMENT"]) {
            say("APP_ENVIRONMENT is not the service's: release/ copies it".to_owned());
        }
    }
    problems
}

fn problems(tree: &Tree) -> Vec<String> {
    super::problems(tree, check)
}

fn rendered(tree: &Tree, overlay: &str, kind: &str, prefix: &str) -> Value {
    let objects = kustomize(Path::new(&tree.path(&format!("deploy/kubernetes/overlays/{overlay}")))).unwrap();
    objects.into_iter().find(|object| object["kind"] == kind && name_of(object).starts_with(prefix)).unwrap()
}

#[test]
fn migrations_are_named_by_their_version() {
    holds(check);
    if has_kubectl() {
        let replaced = "delimiter: -migrate-";
        caught(
            problems,
            "deploy/kubernetes/release/replacements.yaml",
            replaced,
            "delimiter: -migrat-",
            "must be called",
        );
    }
}

#[test]
fn a_registry_with_a_port_is_no_version_and_an_image_without_a_tag_is_refused() {
    if !has_kubectl() {
        return;
    }
    let file = "deploy/kubernetes/overlays/production/kustomization.yaml";
    let production = |name: &str| {
        let tree = Tree::planted(file, "newName: ghcr.io/example/keel\n    newTag: 0.1.0", name);
        overlay(&tree, "deploy/kubernetes/overlays/production").map(|rendering| (check(&tree, &rendering), rendering))
    };
    let digest = format!("digest: sha256:{}", "0".repeat(64));
    for tagged in ["newTag: 0.1.0".to_owned(), format!("newTag: 0.1.0\n    {digest}")] {
        for name in ["registry.corp:5000/keel", "registry.corp:5000/some/team/keel", "keel"] {
            let (problems, rendering) = production(&format!("newName: {name}\n    {tagged}")).unwrap();
            none(&problems);
            let jobs: Vec<&str> = rendering.of("Job").map(name_of).collect();
            assert_eq!(jobs, ["keel-migrate-0.1.0"], "{name}");
        }
    }
    for untagged in [
        format!("newName: ghcr.io/example/keel\n    {digest}"),
        format!("newName: registry.corp:5000/keel\n    {digest}"),
        "newName: registry.corp:5000/other\n    newTag: 0.1.0".to_owned(),
    ] {
        let error = production(&untagged).err().unwrap_or_else(|| panic!("{untagged}: is rendered"));
        assert!(error.contains("options.index 1 is out of bounds"), "release/replacements.yaml says so: {error}");
    }
}

#[test]
fn the_same_version_with_another_configuration_is_the_same_job_and_the_next_version_another() {
    if !has_kubectl() {
        return;
    }
    let job = |tree: &Tree, overlay: &str| rendered(tree, overlay, "Job", "keel-migrate");
    let config = |tree: &Tree, overlay: &str| name_of(&rendered(tree, overlay, "ConfigMap", "keel-config")).to_owned();
    let now = Tree::checkout();
    for overlay in ["local", "staging", "production"] {
        let file = format!("deploy/kubernetes/overlays/{overlay}/kustomization.yaml");
        let changed = Tree::planted(
            &file,
            "      - APP_ENVIRONMENT",
            "      - APP__HTTP__BODY_LIMIT=2MiB\n      - APP_ENVIRONMENT",
        );
        assert_eq!(job(&now, overlay), job(&changed, overlay), "{overlay}");
        assert_ne!(config(&now, overlay), config(&changed, overlay), "{overlay}: the ConfigMap's name has no hash");
        let (tag, other) =
            if overlay == "local" { ("newTag: dev", "newTag: other") } else { ("newTag: 0.1.0", "newTag: 0.2.0") };
        let next = Tree::planted(&file, tag, other);
        assert_ne!(name_of(&job(&now, overlay)), name_of(&job(&next, overlay)), "{overlay}");
        let digest = format!("{tag}\n    digest: sha256:{}", "0".repeat(64));
        let pinned = Tree::planted(&file, tag, &digest);
        assert_eq!(name_of(&job(&now, overlay)), name_of(&job(&pinned, overlay)), "{overlay}: a digest beside the tag");
    }
}
