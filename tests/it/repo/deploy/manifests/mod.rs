//! The Kubernetes manifests against the code. Each check looks at one [`Rendering`]: the base as it is written, and,
//! where there is kubectl, every overlay and every component on the base as kustomize renders them.

mod capacity;
mod collector;
mod containers;
mod custom;
mod fields;
mod jobs;
mod network;
mod pods;
mod references;
mod scraped;
mod settings;

use std::{path::Path, process::Command, sync::OnceLock};

use serde_json::{Value, json};

use super::{Tree, none};

pub const BASE: &str = "deploy/kubernetes/base";

/// Objects that are applied together.
pub struct Rendering {
    /// The directory they come from.
    pub name: String,
    pub objects: Vec<Value>,
}

impl Rendering {
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    pub fn named(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        let is_it =
            |object: &&Value| object["kind"] == kind && namespace_of(object) == namespace && name_of(object) == name;
        self.objects.iter().find(is_it)
    }

    pub fn workloads(&self) -> Vec<Workload<'_>> {
        let kinds = ["Deployment", "StatefulSet", "DaemonSet", "Job"];
        let objects = self.objects.iter().filter(|object| kinds.contains(&text(object, "/kind")));
        objects
            .map(|object| Workload { rendering: &self.name, object, template: &object["spec"]["template"] })
            .collect()
    }

    /// The Deployment of the service.
    pub fn service(&self) -> Workload<'_> {
        self.workloads()
            .into_iter()
            .find(|workload| text(workload.object, "/kind") == "Deployment" && name_of(workload.object) == "keel")
            .unwrap_or_else(|| panic!("{}: no Deployment keel", self.name))
    }

    pub fn is_overlay(&self) -> bool {
        self.name.contains("/overlays/")
    }

    /// The base as it is written has no tag, and components by themselves have no Secrets.
    pub fn is_base(&self) -> bool {
        self.name == BASE
    }
}

/// What makes pods.
#[derive(Clone, Copy)]
pub struct Workload<'a> {
    rendering: &'a str,
    pub object: &'a Value,
    pub template: &'a Value,
}

impl<'a> Workload<'a> {
    /// Where, for messages.
    pub fn title(&self) -> String {
        format!("{}: {} {}", self.rendering, text(self.object, "/kind"), name_of(self.object))
    }

    pub fn pod(&self) -> &'a Value {
        &self.template["spec"]
    }

    pub fn namespace(&self) -> &'a str {
        namespace_of(self.object)
    }

    pub fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        list(self.pod(), "/initContainers").iter().chain(list(self.pod(), "/containers"))
    }

    /// The containers that run our binary.
    pub fn ours(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.containers().filter(|container| image_name(text(container, "/image")) == "keel")
    }

    /// Whether labels select its pods.
    pub fn has_labels(&self, selector: &Value) -> bool {
        let labels = &self.template["metadata"]["labels"];
        selector.as_object().is_some_and(|wanted| wanted.iter().all(|(name, value)| &labels[name] == value))
    }

    pub fn ports(&self) -> Vec<(&'a str, i64)> {
        let ports = list(self.pod(), "/containers").iter().flat_map(|container| list(container, "/ports"));
        ports.map(|port| (text(port, "/name"), number(port, "/containerPort").unwrap())).collect()
    }
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

pub fn name_of(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// The base's files say none: its kustomization does.
pub fn namespace_of(object: &Value) -> &str {
    Some(text(object, "/metadata/namespace")).filter(|namespace| !namespace.is_empty()).unwrap_or("keel")
}

pub fn image_name(image: &str) -> &str {
    image.rsplit('/').next().unwrap().split([':', '@']).next().unwrap()
}

// --- Renderings ------------------------------------------------------------------------------------------------------

/// The base's files, and its ConfigMap as the generator will make it.
fn written(tree: &Tree) -> Rendering {
    let (mut objects, mut literals) = (Vec::new(), serde_json::Map::new());
    for file in tree.files(BASE, ".yaml") {
        if !file.ends_with("/kustomization.yaml") {
            objects.extend(tree.yaml(&file));
            continue;
        }
        for generator in tree.yaml(&file).iter().flat_map(|file| list(file, "/configMapGenerator").to_vec()) {
            let pairs = list(&generator, "/literals").iter().filter_map(|literal| literal.as_str()?.split_once('='));
            literals.extend(pairs.map(|(name, value)| (name.to_owned(), json!(value))));
        }
    }
    let metadata = json!({"name": "keel-config", "namespace": "keel"});
    objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": literals}));
    Rendering { name: BASE.to_owned(), objects }
}

/// Whether overlays can be rendered here; without it they must be in CI.
pub fn has_kubectl() -> bool {
    static ANSWERS: OnceLock<bool> = OnceLock::new();
    *ANSWERS.get_or_init(|| {
        let answers =
            Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|output| output.status.success());
        assert!(answers || std::env::var_os("CI").is_none(), "kubectl (>= 1.27) must be on PATH in CI");
        if !answers {
            eprintln!("keel: SKIPPED: kubectl is not on PATH: only the base was checked, not what overlays make of it");
        }
        answers
    })
}

/// What kustomize makes of a directory, or what it says against it.
pub fn kustomize(directory: &Path) -> Result<Vec<Value>, String> {
    let output = Command::new("kubectl").arg("kustomize").arg(directory).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    serde_saphyr::from_multiple(&text).map_err(|error| error.to_string())
}

fn folders(tree: &Tree, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(tree.path(folder)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy())).collect();
    names.sort();
    names
}

pub fn overlay(tree: &Tree, name: &str) -> Result<Rendering, String> {
    let objects = kustomize(&tree.path(name)).map_err(|error| format!("{name}: can't be rendered: {error}"))?;
    Ok(Rendering { name: name.to_owned(), objects })
}

fn overlays(tree: &Tree) -> Vec<Result<Rendering, String>> {
    std::thread::scope(|scope| {
        let names = folders(tree, "deploy/kubernetes/overlays").into_iter();
        let threads: Vec<_> = names.map(|name| scope.spawn(move || overlay(tree, &name))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Each component by itself on the base: an overlay here may not use it, but somebody's will.
fn components(tree: &Tree) -> Vec<Rendering> {
    let render = |name: String| {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().canonicalize().unwrap();
        // kustomize takes no absolute paths.
        let up = "../".repeat(own.components().count() - 1);
        let at = |path: &str| {
            format!("{up}{}", tree.path(path).canonicalize().unwrap().strip_prefix("/").unwrap().display())
        };
        let file = json!({
            "resources": [at(BASE)],
            "components": [at(&name)],
            "images": [{"name": "keel", "newTag": "0.0.0"}],
            "transformers": [at("deploy/kubernetes/release")],
        });
        std::fs::write(own.join("kustomization.yaml"), file.to_string()).unwrap();
        let objects = kustomize(&own).unwrap_or_else(|error| panic!("{name}: {error}"));
        Rendering { name, objects }
    };
    folders(tree, "deploy/kubernetes/components").into_iter().map(render).collect()
}

type Check = fn(&Tree, &Rendering) -> Vec<String>;

/// All that a check finds. Rendering takes longest, so the base as it is written comes first, and a fault there is enough.
fn problems(tree: &Tree, check: Check) -> Vec<String> {
    let found = check(tree, &written(tree));
    if !found.is_empty() || !has_kubectl() {
        return found;
    }
    let found = overlays(tree).into_iter().flat_map(|rendering| match rendering {
        Ok(rendering) => check(tree, &rendering),
        Err(error) => vec![error],
    });
    found.collect()
}

/// The checkout's renderings are made once for all checks.
#[track_caller]
fn holds(check: Check) {
    static RENDERED: OnceLock<Vec<Rendering>> = OnceLock::new();
    let tree = Tree::checkout();
    let renderings = RENDERED.get_or_init(|| {
        let mut all = vec![written(&tree)];
        if has_kubectl() {
            all.extend(
                overlays(&tree).into_iter().map(|rendering| rendering.unwrap_or_else(|error| panic!("{error}"))),
            );
            all.extend(components(&tree));
        }
        all
    });
    none(&renderings.iter().flat_map(|rendering| check(&tree, rendering)).collect::<Vec<_>>());
}
