//! What was measured, written down: for a terminal, as JSON, as Markdown with charts.

mod markdown;
mod terminal;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::compare::Outcome;
use crate::figures::Figure;
use crate::machine::Machine;

pub use markdown::{BEGIN, END, write_documents};
pub use terminal::{summary, table};

/// All of one run: enough to tell later what was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Where.
    pub machine: Machine,
    /// Stentor's version, and the commit it was built from if that is known.
    pub stentor: String,
    /// etcd's version.
    pub etcd: Option<String>,
    /// The arguments that make the same run again.
    pub arguments: Vec<String>,
    /// Whether the sizes were those of the targets.
    pub full: bool,
    /// Rounds of each workload.
    pub rounds: usize,
    /// What each workload showed.
    pub outcomes: Vec<Outcome>,
}

impl Record {
    /// Writes it to a file.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads one or several runs of one machine; where a workload is in more than one, the later file counts.
    ///
    /// # Errors
    /// When there is none, a file is no record, or they are of different machines, servers or sizes.
    pub fn load(paths: &[impl AsRef<Path>]) -> Result<Record> {
        let mut merged: Option<Record> = None;
        for path in paths.iter().map(AsRef::as_ref) {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let record: Record =
                serde_json::from_str(&text).with_context(|| format!("{} is no record", path.display()))?;
            match &mut merged {
                None => merged = Some(record),
                Some(merged) => merged.add(record).with_context(|| format!("{} does not fit", path.display()))?,
            }
        }
        merged.context("no record was named")
    }

    fn add(&mut self, later: Record) -> Result<()> {
        let of = |machine: &Machine| (machine.cpu.clone(), machine.cpus, machine.kernel.clone());
        ensure!(of(&self.machine) == of(&later.machine), "another machine");
        ensure!(self.etcd == later.etcd && self.stentor == later.stentor, "other servers");
        ensure!((self.full, self.rounds) == (later.full, later.rounds), "other sizes");
        for outcome in later.outcomes {
            self.outcomes.retain(|earlier| earlier.workload != outcome.workload);
            self.outcomes.push(outcome);
        }
        Ok(())
    }
}

/// A figure with how far its rounds lie apart.
fn with_spread(figure: &Figure) -> String {
    match figure.spread {
        Some([low, high]) if high > low => format!("{figure} ({} to {})", figure.show(low), figure.show(high)),
        _ => figure.to_string(),
    }
}

#[cfg(test)]
mod tests;
