//! The documented names of keys of what runs the files (`keys/*.txt`), with the values of a few, and files held against
//! them.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// What may stand below a key.
#[derive(Clone, Debug)]
enum Below {
    Block(String),
    List(String),
}

#[derive(Debug, Default)]
struct Block {
    /// With what they may be, where the list says so: `duration`, or one of several.
    scalars: BTreeMap<String, Option<String>>,
    nested: BTreeMap<String, Below>,
    also: Vec<String>,
}

/// All blocks of one program, by name.
pub struct Keys {
    file: &'static str,
    blocks: BTreeMap<String, Block>,
}

/// Below this anything goes.
const FREE: &str = "*";

impl Keys {
    /// Reads a list as its head describes it.
    pub fn read(file: &'static str, text: &str) -> Self {
        let mut blocks: BTreeMap<String, Block> = BTreeMap::new();
        let mut name = String::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(next) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                next.clone_into(&mut name);
                assert!(
                    blocks.insert(name.clone(), Block::default()).is_none(),
                    "keys/{file}: [{name}] is there twice"
                );
                continue;
            }
            let block = blocks.get_mut(&name).unwrap_or_else(|| panic!("keys/{file}: `{line}` is in no section"));
            if let Some(other) = line.strip_prefix("+ ") {
                block.also.push(other.to_owned());
                continue;
            }
            let mut words = line.split(' ').peekable();
            while let Some(word) = words.next() {
                let Some(key) = word.strip_suffix(':') else {
                    let (key, values) = word.split_once('=').map_or((word, None), |(key, of)| (key, Some(of)));
                    block.scalars.insert(key.to_owned(), values.map(ToOwned::to_owned));
                    continue;
                };
                let mut what = Vec::new();
                while let Some(word) = words.next_if(|word| !word.ends_with(':')) {
                    what.push(word);
                }
                let what = what.join(" ");
                let (key, below) = match key.strip_suffix("[]") {
                    Some(key) => (key, Below::List(what)),
                    None => (key, Below::Block(what)),
                };
                block.nested.insert(key.to_owned(), below);
            }
        }
        let keys = Self { file, blocks };
        for block in keys.blocks.values() {
            let below = block.nested.values().map(|below| match below {
                Below::Block(name) | Below::List(name) => name,
            });
            for name in below.chain(&block.also).filter(|name| *name != FREE) {
                assert!(keys.blocks.contains_key(name), "keys/{file}: there is no [{name}]");
            }
        }
        keys
    }

    pub fn has(&self, block: &str) -> bool {
        self.blocks.contains_key(block)
    }

    /// What is wrong with `value`, which stands at `path` of a file, as a block of this name.
    pub fn problems(&self, value: &Value, block: &str, path: &str) -> Vec<String> {
        let mut problems = Vec::new();
        self.check(value, block, path, &mut problems);
        problems
    }

    fn check(&self, value: &Value, name: &str, path: &str, problems: &mut Vec<String>) {
        if name == FREE || value.is_null() {
            return;
        }
        let Some(members) = value.as_object() else {
            problems.push(format!("{path}: is a block of [{name}], not `{value}`"));
            return;
        };
        for (key, value) in members {
            let path = format!("{path}.{key}");
            match self.find(name, key) {
                None => problems.push(format!(
                    "{path}: unknown to the pinned version; correct it, or read its reference and add the key to [{name}] \
                     of keys/{}",
                    self.file
                )),
                Some(None) if value.is_object() || is_list_of_blocks(value) => {
                    problems.push(format!("{path}: takes a value, no block"));
                }
                Some(None) => {
                    let values = self.values(name, key);
                    problems.extend(values.and_then(|values| wrong_value(value, values, &path)));
                }
                Some(Some(Below::Block(below))) => self.check(value, below, &path, problems),
                Some(Some(Below::List(below))) => match value.as_array() {
                    Some(items) => {
                        for (at, item) in items.iter().enumerate() {
                            self.check(item, below, &format!("{path}[{at}]"), problems);
                        }
                    }
                    None => problems.push(format!("{path}: is a list")),
                },
            }
        }
    }

    /// Whether a block has this key, and what is below it: nothing for a scalar.
    fn find(&self, block: &str, key: &str) -> Option<Option<&Below>> {
        let here = &self.blocks[block];
        if here.scalars.contains_key(key) {
            return Some(None);
        }
        if let Some(below) = here.nested.get(key) {
            return Some(Some(below));
        }
        here.also.iter().find_map(|other| self.find(other, key))
    }

    /// What a scalar may be. The block's own word counts before those of the blocks it takes in.
    fn values(&self, block: &str, key: &str) -> Option<&str> {
        let here = &self.blocks[block];
        match here.scalars.get(key) {
            Some(values) => values.as_deref(),
            None => here.also.iter().find_map(|other| self.values(other, key)),
        }
    }
}

/// Variables are somebody else's to say.
fn wrong_value(value: &Value, values: &str, path: &str) -> Option<String> {
    if let Some(items) = value.as_array() {
        return items.iter().find_map(|item| wrong_value(item, values, path));
    }
    let text = value.as_str().unwrap_or_default();
    if text.contains("${env:") || value.is_null() {
        return None;
    }
    if values == "duration" {
        let duration = Regex::new(r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$").unwrap();
        return (!duration.is_match(text)).then(|| format!("{path}: `{value}` is no duration with a unit, as 5s"));
    }
    let is_known = values.split('|').any(|known| known == text);
    (!is_known).then(|| format!("{path}: `{value}` is none of {values}"))
}

fn is_list_of_blocks(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().any(Value::is_object))
}
