//! Runs workloads on Stentor and on etcd in turn, and tells how they compare.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bars::Verdict;
use crate::figures::{Figure, Figures};
use crate::target::Target;
use crate::workload::{Options, Workload};

/// Whom to compare, and how often.
pub struct Comparison {
    /// Stentor's binary.
    pub stentor: PathBuf,
    /// etcd's; without it, Stentor alone is measured.
    pub etcd: Option<PathBuf>,
    /// Rounds of each workload: each starts both servers afresh, Stentor first in every second one.
    pub rounds: usize,
    /// The sizes.
    pub options: Options,
}

/// What one workload showed: the median of each figure over the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The workload's name.
    pub workload: String,
    /// Stentor's figures.
    pub stentor: Figures,
    /// etcd's.
    pub etcd: Option<Figures>,
    /// What was to be reached.
    pub bars: Vec<Judged>,
}

/// A bar and how Stentor stands to it.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The figure's name.
    pub figure: String,
    /// What it must be.
    pub bar: String,
    /// What it is: the figure, or its ratio to etcd's.
    pub value: Option<f64>,
    /// `better`, `WORSE` or `not measured`.
    pub verdict: String,
}

impl Comparison {
    /// Runs one workload.
    ///
    /// # Errors
    /// When a server does not start or fails.
    pub async fn run(&self, workload: Workload) -> Result<Outcome> {
        let mut sides = vec![(true, &self.stentor, Vec::new())];
        if let Some(etcd) = self.etcd.as_ref().filter(|_| workload.has_peer()) {
            sides.push((false, etcd, Vec::new()));
        }
        for round in 0..self.rounds.max(1) {
            for (_, binary, rounds) in &mut sides {
                let mut target = Target::start(binary)?;
                let figures = workload.run(&mut target, &self.options).await;
                let figures = figures.with_context(|| format!("{} on {}", workload.name(), target.name))?;
                eprintln!("{} round {} {}: {}", workload.name(), round + 1, target.name, line(&figures));
                rounds.push(figures);
            }
            // What the machine does over time shall not fall on one side.
            sides.reverse();
        }
        let of = |stentor| sides.iter().find(|side| side.0 == stentor).map(|(_, _, rounds)| median(rounds));
        let (stentor, etcd) = (of(true).unwrap_or_default(), of(false));
        let bars = workload.bars().iter().map(|bar| {
            let (verdict, value) = bar.judge(&stentor, etcd.as_ref());
            Judged { figure: bar.figure.to_owned(), bar: bar.to_string(), value, verdict: verdict.to_string() }
        });
        let bars = bars.collect();
        Ok(Outcome { workload: workload.name(), stentor, etcd, bars })
    }
}

fn line(figures: &Figures) -> String {
    figures.0.iter().take(4).map(|figure| format!("{} {figure}", figure.name)).collect::<Vec<_>>().join(", ")
}

/// The median of each figure.
pub fn median(rounds: &[Figures]) -> Figures {
    let Some(first) = rounds.first() else { return Figures::default() };
    let median = |figure: &Figure| {
        let mut values: Vec<f64> = rounds.iter().filter_map(|figures| figures.get(&figure.name)).collect();
        values.sort_by(f64::total_cmp);
        let value = values.get(values.len() / 2).copied().unwrap_or(figure.value);
        Figure { value, ..figure.clone() }
    };
    Figures(first.0.iter().map(median).collect())
}

impl Outcome {
    /// Whether a bar was missed.
    pub fn has_worse(&self) -> bool {
        let worse = Verdict::Worse.to_string();
        self.bars.iter().any(|bar| bar.verdict == worse)
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.workload);
        let width = self.stentor.0.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0) + 2;
        let row = |text: &mut String, cells: [&str; 5]| {
            let [name, stentor, etcd, ratio, bar] = cells;
            let line = format!("  {name:<width$}{stentor:>14}{etcd:>14}{ratio:>9}  {bar}");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
        };
        row(&mut text, ["", "Stentor", if self.etcd.is_some() { "etcd" } else { "" }, "ratio", "bar"]);
        for figure in &self.stentor.0 {
            let theirs = self.etcd.as_ref().and_then(|etcd| etcd.0.iter().find(|f| f.name == figure.name));
            let ratio = theirs.filter(|f| f.value > 0.0).map(|f| format!("{:.3}", figure.value / f.value));
            let bar = self.bars.iter().find(|bar| bar.figure == figure.name);
            let bar = bar.map(|bar| format!("{}: {}", bar.bar, bar.verdict)).unwrap_or_default();
            let theirs = theirs.map(ToString::to_string).unwrap_or_default();
            row(&mut text, [&figure.name, &figure.to_string(), &theirs, &ratio.unwrap_or_default(), &bar]);
        }
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Unit;

    #[test]
    fn the_median_of_each_figure_by_itself() {
        let round = |a: f64, b: f64| {
            let mut figures = Figures::default();
            figures.push("a", Unit::Micros, a);
            figures.push("b", Unit::Count, b);
            figures
        };
        let median = median(&[round(1.0, 30.0), round(3.0, 10.0), round(2.0, 20.0)]);
        assert_eq!((median.get("a"), median.get("b")), (Some(2.0), Some(20.0)));
    }
}
