//! How a difference is shown.

use std::fmt;
use std::fmt::Debug;

/// Lines of an answer that are shown.
const MOST_LINES: usize = 60;
/// Bytes of a line that are shown.
const LONGEST_LINE: usize = 300;

/// The first thing in which two servers differ.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Difference {
    pub seed: u64,
    /// The number of the request in its run, from 1.
    pub number: u64,
    pub request: String,
    pub what: String,
    pub how_to_replay: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, request {}: {}", self.seed, self.number, shortened(&self.request))?;
        writeln!(f, "{}", self.what)?;
        write!(f, "replay: {}", self.how_to_replay)
    }
}

/// Two values, with the lines in which they differ marked.
pub(crate) fn beside(names: [&dyn fmt::Display; 2], left: &impl Debug, right: &impl Debug) -> String {
    let (left, right) = (format!("{left:#?}"), format!("{right:#?}"));
    let (left, right): (Vec<_>, Vec<_>) = (left.lines().collect(), right.lines().collect());
    let same = left.iter().zip(&right).take_while(|(l, r)| l == r).count();
    let tail = left.iter().rev().zip(right.iter().rev()).take_while(|(l, r)| l == r).count();
    let mut text = String::new();
    for (name, lines, other) in [(names[0], &left, right.len()), (names[1], &right, left.len())] {
        let end = lines.len() - tail.min(lines.len().min(other).saturating_sub(same));
        text.push_str(&format!("  {name} ({} lines, marked from line {}):\n", lines.len(), same + 1));
        let context = lines.iter().enumerate().skip(same.saturating_sub(8)).take(MOST_LINES);
        for (at, line) in context.take_while(|(at, _)| *at < end + 3) {
            let mark = if at >= same && at < end { '>' } else { ' ' };
            text.push_str(&format!("  {mark} {}\n", shortened(line)));
        }
    }
    text
}

/// The beginning of a long line.
pub(crate) fn shortened(line: &str) -> String {
    match line.char_indices().nth(LONGEST_LINE) {
        Some((at, _)) => format!("{}... ({} bytes)", line.get(..at).unwrap_or_default(), line.len()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_what_differs() {
        let text = beside([&"left", &"right"], &vec![1, 2, 3], &vec![1, 5, 3]);
        assert!(text.contains(">     2,") && text.contains(">     5,"), "{text}");
        assert!(!text.contains(">     3,"), "{text}");
    }
}
