//! CPU profiles (feature `cpu-profile`; `cpu_without` stands here in other builds): what one is and how a person
//! reads it. Taking one is in `sample`, the file for tools in `pprof`.

mod pprof;
mod sample;

use std::{
    collections::HashSet,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use ::pprof::flamegraph;
use chrono::{DateTime, SecondsFormat, Utc};

pub use self::sample::{last, record};

use crate::platform::error::{Error, Result};

/// What the process spent CPU time on, function by function.
#[derive(Debug)]
pub struct Profile {
    /// Each function once; stacks refer to them by position.
    functions: Vec<Function>,
    /// Those with most samples first.
    stacks: Vec<Stack>,
    hertz: u32,
    began: SystemTime,
    lasted: Duration,
    /// By the kernel's count, which misses nothing.
    used: Option<Duration>,
}

#[derive(Debug)]
struct Function {
    name: String,
    symbol: String,
    file: String,
}

#[derive(Debug)]
struct Stack {
    thread: String,
    /// Innermost first, never empty.
    functions: Vec<usize>,
    samples: u64,
}

/// Narrower frames (percent of the width) are left out of the flame graph: unreadable, and they bound its size.
const NARROWEST: f64 = 0.05;
const TOP: usize = 100;
const LEFT_OUT: &str = "Not sampled: time in the C library (system calls, copies, its allocator) and the vDSO.";

impl Profile {
    fn samples(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.samples).sum()
    }

    /// What was measured, in one line.
    fn summary(&self) -> String {
        let (samples, lasted) = (self.samples(), self.lasted.as_secs_f64());
        let began = DateTime::<Utc>::from(self.began).to_rfc3339_opts(SecondsFormat::Secs, true);
        let sampled = samples as f64 / f64::from(self.hertz);
        let mut text = format!("{lasted:.1} s from {began}, {samples} samples at {} Hz = {sampled:.2} s", self.hertz);
        if let Some(used) = self.used {
            let _infallible = write!(text, " of {:.2} s CPU time used", used.as_secs_f64());
        }
        text
    }

    /// A flame graph to open in a browser: thread, then callers below callees; click to zoom, Ctrl-F to search.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the graph can't be drawn.
    pub fn svg(&self) -> Result<Vec<u8>> {
        if self.stacks.is_empty() {
            return Ok(self.empty_svg().into_bytes());
        }
        let lines: Vec<String> = self.stacks.iter().map(|stack| self.folded(stack)).collect();
        let mut options = flamegraph::Options::default();
        options.title = concat!(env!("CARGO_PKG_NAME"), ": CPU").to_owned();
        options.subtitle = Some(format!("{}. {LEFT_OUT}", self.summary()));
        options.min_width = NARROWEST;
        options.deterministic = true;
        let mut svg = Vec::new();
        flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg).map_err(Error::internal)?;
        Ok(svg)
    }

    /// `thread;outermost;…;innermost samples`. Names like `[u8; 32]` hold the separator.
    fn folded(&self, stack: &Stack) -> String {
        let mut line = stack.thread.replace(';', ",");
        for function in stack.functions.iter().rev() {
            line.push(';');
            line.push_str(&self.functions[*function].name.replace(';', ","));
        }
        let _infallible = write!(line, " {}", stack.samples);
        line
    }

    /// inferno draws no empty graph, and an idle process is no error.
    fn empty_svg(&self) -> String {
        let title = concat!(env!("CARGO_PKG_NAME"), ": no samples, idle or only in the C library");
        let summary = self.summary();
        format!(
            r#"<?xml version="1.0" standalone="no"?>
<svg xmlns="http://www.w3.org/2000/svg" width="1200" height="90" font-family="monospace" font-size="13">
<text x="20" y="25" font-size="17">{title}</text>
<text x="20" y="50">{summary}</text>
<text x="20" y="70">{LEFT_OUT}</text>
</svg>"#
        )
    }

    /// The functions with most samples of their own as a table, with what they called as the total.
    pub fn top(&self) -> String {
        let mut own = vec![0_u64; self.functions.len()];
        let mut total = own.clone();
        for stack in &self.stacks {
            own[stack.functions[0]] += stack.samples;
            // A recursive function is in the stack more than once.
            for function in stack.functions.iter().collect::<HashSet<_>>() {
                total[*function] += stack.samples;
            }
        }
        let mut order: Vec<usize> = (0..self.functions.len()).collect();
        order.sort_by_key(|&function| std::cmp::Reverse((own[function], total[function])));
        let mut text = format!("{}\n{LEFT_OUT}\n", self.summary());
        if order.is_empty() {
            text.push_str("No samples: the process was idle or only in the C library.\n");
            return text;
        }
        text.push_str("    self       %    total       %  function\n");
        let percent = |samples: u64| samples as f64 * 100.0 / self.samples() as f64;
        for function in order.into_iter().take(TOP) {
            let (own, total, name) = (own[function], total[function], &self.functions[function].name);
            let (own_part, total_part) = (percent(own), percent(total));
            let _infallible = writeln!(text, "{own:>8} {own_part:>6.1}% {total:>8} {total_part:>6.1}%  {name}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> Function {
        Function { name: name.to_owned(), symbol: format!("_R{name}"), file: "src/a.rs".to_owned() }
    }

    pub(super) fn profile() -> Profile {
        Profile {
            functions: vec![function("main"), function("<[u8; 2] as Sum>::sum"), function("walk")],
            stacks: vec![
                Stack { thread: "worker".to_owned(), functions: vec![1, 0], samples: 6 },
                Stack { thread: "main".to_owned(), functions: vec![2, 2, 0], samples: 3 },
            ],
            hertz: 99,
            began: SystemTime::UNIX_EPOCH,
            lasted: Duration::from_secs(2),
            used: Some(Duration::from_millis(100)),
        }
    }

    #[test]
    fn the_table_counts_a_recursive_function_once_a_stack() {
        let top = profile().top();
        let rows: Vec<&str> = top.lines().skip(3).collect();
        assert_eq!(
            rows,
            [
                "       6   66.7%        6   66.7%  <[u8; 2] as Sum>::sum",
                "       3   33.3%        3   33.3%  walk",
                "       0    0.0%        9  100.0%  main",
            ]
        );
        assert!(top.starts_with("2.0 s from 1970-01-01T00:00:00Z, 9 samples at 99 Hz = 0.09 s of 0.10 s CPU"), "{top}");
    }

    #[test]
    fn a_name_with_a_semicolon_stays_one_frame() {
        let svg = String::from_utf8(profile().svg().unwrap()).unwrap();
        assert!(svg.contains("&lt;[u8, 2] as Sum&gt;::sum (6 samples, 66.67%)"), "{svg}");
    }

    #[test]
    fn a_profile_without_samples_says_so() {
        let idle = Profile { stacks: Vec::new(), functions: Vec::new(), used: None, ..profile() };
        let svg = String::from_utf8(idle.svg().unwrap()).unwrap();
        assert!(svg.starts_with("<?xml") && svg.contains("no samples") && svg.ends_with("</svg>"), "{svg}");
        assert!(idle.top().ends_with("No samples: the process was idle or only in the C library.\n"));
    }
}
