//! The commands of a runbook, as they stand in its Markdown: which belong to which number, and where they run.

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `4.1`, or the section's own number.
    pub id: String,
    pub language: String,
    /// The other words of the fence.
    pub words: Vec<String>,
    pub text: String,
    /// What stands between the block before and this one, for a person.
    pub line: usize,
}

impl Block {
    /// Whether it runs on the machine where the service runs without a cluster.
    pub fn runs_here(&self) -> bool {
        ["bash", "sql"].contains(&self.language.as_str()) && !self.has("cluster")
    }

    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|each| each == word)
    }
}

/// All of a document, in order.
pub fn all(markdown: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut id, mut open, mut paragraph_begins) = (String::new(), None::<Block>, true);
    for (number, line) in markdown.lines().enumerate() {
        if let Some(mut block) = open.take() {
            if line.trim_start() == "```" {
                blocks.push(block);
            } else {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
        } else if let Some(fence) = line.trim_start().strip_prefix("```") {
            let mut words = fence.split_whitespace().map(ToOwned::to_owned);
            let language = words.next().unwrap_or_default();
            let (words, line) = (words.collect(), number + 1);
            open = Some(Block { id: id.clone(), language, words, text: String::new(), line });
        } else if let Some(heading) = line.strip_prefix("## ").or(line.strip_prefix("### ")) {
            number_at_start(heading).unwrap_or_default().clone_into(&mut id);
        } else if paragraph_begins && let Some(step) = number_at_start(line).filter(|step| step.contains('.')) {
            step.clone_into(&mut id);
        }
        paragraph_begins = open.is_none() && (line.trim().is_empty() || line.starts_with("```"));
    }
    blocks
}

/// `4` or `4.1`, followed by a blank.
fn number_at_start(text: &str) -> Option<&str> {
    let number = text.split_whitespace().next()?;
    let whole = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    number.split('.').all(whole).then_some(number)
}

/// What runs here under a number; an error where nothing does.
pub fn under<'a>(blocks: &'a [Block], id: &str) -> Result<Vec<&'a Block>, String> {
    let found: Vec<&Block> = blocks.iter().filter(|block| block.id == id && block.runs_here()).collect();
    if found.is_empty() {
        let ids: Vec<&str> = blocks.iter().filter(|block| block.runs_here()).map(|block| block.id.as_str()).collect();
        return Err(format!("no block {id} that runs here; those are {}", ids.join(", ")));
    }
    Ok(found)
}

#[test]
fn blocks_have_the_number_of_their_paragraph() {
    let text = "## 2 Impact\n\n```bash\na\n```\n\n## 4 Diagnose\n\n4.1 Is it?\n\n```bash diag\nb\nc\n```\n\nSome 4.9 text.\n\n\
                ```sql owner destructive\nselect 1;\n```\n\n**4.2** no. See\n4.3 in a paragraph.\n\n4.2 Yes\n\n```bash local\nd\n```\n\n```bash cluster\n\
                kubectl\n```\n";
    let blocks = all(text);
    let seen: Vec<(&str, &str, &str)> =
        blocks.iter().map(|block| (block.id.as_str(), block.language.as_str(), block.text.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("2", "bash", "a\n"),
            ("4.1", "bash", "b\nc\n"),
            ("4.1", "sql", "select 1;\n"),
            ("4.2", "bash", "d\n"),
            ("4.2", "bash", "kubectl\n")
        ]
    );
    assert!(blocks[2].has("destructive") && blocks[2].has("owner") && blocks[2].runs_here());
    assert!(!blocks[4].runs_here());
    assert_eq!(under(&blocks, "4.2").unwrap().len(), 1);
    assert_eq!(under(&blocks, "4.3").unwrap_err(), "no block 4.3 that runs here; those are 2, 4.1, 4.1, 4.2");
}
