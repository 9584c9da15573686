//! What a drill's file says: the fault, the alert, what the runbook has to show and to mend.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// The file's, without its ending: the alert's, and where it has several drills, `-` and what is special.
    #[serde(skip)]
    pub name: String,
    pub alert: String,
    /// Which rule of that name.
    pub severity: Severity,
    #[serde(default)]
    pub stack: Settings,
    #[serde(default)]
    pub traffic: Load,
    /// Seconds of undisturbed traffic before the fault, where a rule wants to know how it was.
    #[serde(default = "ten_seconds")]
    pub warm_up: u64,
    pub inject: String,
    pub expect: Expect,
    pub diagnose: Vec<Look>,
    /// What else the runbook has to say, once the cause is named: steps that lead elsewhere, mitigations for another cause.
    #[serde(default)]
    pub also: Vec<Look>,
    pub mitigate: Mitigate,
    pub heal: Option<String>,
    pub verify: Look,
    pub recovered_within: u64,
    #[serde(default)]
    pub restarts: bool,
}

fn ten_seconds() -> u64 {
    10
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Page,
    Ticket,
    Info,
    None,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
            Self::Info => "info",
            Self::None => "none",
        }
    }
}

/// Drills of equal ones run on one stack, in turn.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Variables of the instances.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    #[default]
    Steady,
    /// Steady, and what the domain lives by besides.
    Business,
    None,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Seconds from the fault to the alert's arrival.
    pub within: u64,
    /// What else may fire.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// A block of the runbook, and what its output has to say.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    pub block: String,
    #[serde(rename = "match")]
    pub expected: String,
    #[serde(default)]
    pub with: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mitigate {
    pub block: Option<String>,
    #[serde(default)]
    pub with: BTreeMap<String, String>,
    /// Why there is nothing to do.
    pub none: Option<String>,
}

impl Drill {
    /// `name` is the file's, without its ending.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut drill: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        name.clone_into(&mut drill.name);
        let problem = if !text.starts_with("# ") {
            "its first line is a comment in one sentence that says what is broken"
        } else if name.split('-').next() != Some(&drill.alert) {
            "`alert` is not the file's name, up to a `-`"
        } else if drill.mitigate.block.is_some() == drill.mitigate.none.is_some() {
            "`mitigate` has either `block` or `none`, which says why it ends by itself"
        } else if drill.diagnose.is_empty() {
            "`diagnose` has no block: the runbook names the cause"
        } else {
            return drill.patterns().map(|()| drill);
        };
        Err(problem.to_owned())
    }

    fn patterns(&self) -> Result<(), String> {
        let value = regex::Regex::new(r"\$\{[A-Z_]+\}").unwrap();
        for look in self.looks() {
            regex::Regex::new(&value.replace_all(&look.expected, "x"))
                .map_err(|error| format!("match of {}: {error}", look.block))?;
        }
        Ok(())
    }

    fn looks(&self) -> impl Iterator<Item = &Look> {
        self.diagnose.iter().chain(&self.also).chain([&self.verify])
    }

    /// Every block that it names, with what it fills in.
    pub fn steps(&self) -> Vec<(&str, &BTreeMap<String, String>)> {
        let mitigation = self.mitigate.block.as_deref().map(|block| (block, &self.mitigate.with));
        self.looks().map(|look| (look.block.as_str(), &look.with)).chain(mitigation).collect()
    }

    /// Every block of the runbook that it names.
    pub fn blocks(&self) -> Vec<&str> {
        self.looks().map(|look| look.block.as_str()).chain(self.mitigate.block.as_deref()).collect()
    }
}

/// All drills below `root`, with their files and those of their runbooks; or what is wrong with them.
pub fn all(root: &Path) -> Result<Vec<(Drill, std::path::PathBuf)>, String> {
    let (mut drills, mut problems) = (Vec::new(), Vec::new());
    let folders =
        std::fs::read_dir(root.join("runbooks/drills")).map_err(|error| format!("runbooks/drills: {error}"))?;
    for folder in folders.map(|folder| folder.unwrap().file_name().to_string_lossy().into_owned()) {
        for entry in std::fs::read_dir(root.join("runbooks/drills").join(&folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match Drill::parse(&name, &std::fs::read_to_string(&path).unwrap()) {
                Ok(drill) => {
                    let runbook = root.join(format!("runbooks/{folder}/{}.md", drill.alert));
                    drills.push((drill, runbook));
                }
                Err(problem) => problems.push(format!("runbooks/drills/{folder}/{name}.yaml: {problem}")),
            }
        }
    }
    drills.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    if problems.is_empty() { Ok(drills) } else { Err(problems.join("\n")) }
}

#[cfg(test)]
const GOOD: &str = "# Something is broken.
alert: X
severity: page
inject: flood POST /v1/faults/error 4 globex &
expect: {within: 60, allow: [Y]}
diagnose:
  - {block: '4.1', match: 'fault_injected'}
mitigate: {block: '5.1', with: {KEY_ID: '$(key_id globex)'}}
verify: {block: '6', match: '0'}
recovered_within: 60
";

#[test]
fn a_drill_is_read() {
    let drill = Drill::parse("X", GOOD).unwrap();
    assert_eq!((drill.severity, drill.traffic, drill.warm_up), (Severity::Page, Load::Steady, 10));
    assert_eq!(drill.blocks(), ["4.1", "6", "5.1"]);
    assert_eq!(Drill::parse("X-frozen", GOOD).unwrap().name, "X-frozen");
    let also = "also: [{block: '4.2', match: 'x'}]\nmitigate:";
    assert_eq!(Drill::parse("X", &GOOD.replace("mitigate:", also)).unwrap().blocks(), ["4.1", "4.2", "6", "5.1"]);
    Drill::parse("X", &GOOD.replace("'0'", "'^${KEY_ID}$'")).unwrap();
}

#[test]
fn a_drill_that_says_too_little_too_much_or_nonsense_is_refused() {
    let refused = |from: &str, to: &str, named: &str| {
        let problem = Drill::parse("X", &GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(problem.contains(named), "{to}: {problem}");
    };
    refused("# Something is broken.\n", "", "first line");
    refused("alert: X", "alert: Z", "file's name");
    refused("severity: page", "severity: urgent", "unknown variant `urgent`");
    refused("inject:", "injekt:", "unknown field `injekt`");
    refused("block: '5.1', with", "with", "either");
    refused("within: 60,", "", "within");
    refused("match: '0'", "match: '('", "match of 6");
    refused("diagnose:\n  - {block: '4.1', match: 'fault_injected'}", "diagnose: []", "no block");
}
