//! Runs workloads on Stentor and on etcd in turn, and tells how they compare.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::bars::Verdict;
use crate::connection::Refused;
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The workload's name.
    pub workload: String,
    /// Stentor's figures.
    pub stentor: Figures,
    /// etcd's.
    pub etcd: Option<Figures>,
    /// What was to be reached.
    pub bars: Vec<Judged>,
    /// Why there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A bar and how Stentor stands to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judged {
    /// The figure's name.
    pub figure: String,
    /// What it must be.
    pub bar: String,
    /// What it is: the figure, or its ratio to etcd's.
    pub value: Option<f64>,
    /// `reached`, `MISSED` or `not measured`.
    pub verdict: String,
    /// Whether it is better than etcd's, if etcd has it.
    pub beats_etcd: Option<bool>,
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
            for (stentor, binary, rounds) in &mut sides {
                let start = Instant::now();
                let mut target = Target::start(binary, workload.members())?;
                let figures = match workload.run(&mut target, &self.options).await {
                    Err(error) if !*stentor && is_unknown(&error) => {
                        eprintln!("{}: {} cannot do this: {error}", workload.name(), target.name);
                        continue;
                    }
                    figures => figures.with_context(|| format!("{} on {}", workload.name(), target.name))?,
                };
                let (name, took) = (workload.name(), start.elapsed());
                eprintln!("{name} round {} {} ({took:.1?}): {}", round + 1, target.name, line(&figures));
                rounds.push(figures);
            }
            // What the machine does over time shall not fall on one side.
            sides.reverse();
        }
        let of = |stentor| sides.iter().find(|side| side.0 == stentor && !side.2.is_empty());
        let of = |stentor| of(stentor).map(|(_, _, rounds)| median(rounds));
        Ok(Outcome::new(workload, of(true).unwrap_or_default(), of(false)))
    }
}

/// Whether a server has no such method.
fn is_unknown(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(Refused::is_unknown_method)
}

fn line(figures: &Figures) -> String {
    figures.0.iter().take(4).map(|figure| format!("{} {figure}", figure.name)).collect::<Vec<_>>().join(", ")
}

/// The median of each figure, and how far the rounds lie apart.
pub fn median(rounds: &[Figures]) -> Figures {
    let Some(first) = rounds.first() else { return Figures::default() };
    let median = |figure: &Figure| {
        let mut values: Vec<f64> = rounds.iter().filter_map(|figures| figures.get(&figure.name)).collect();
        values.sort_by(f64::total_cmp);
        let value = values.get(values.len() / 2).copied().unwrap_or(figure.value);
        let spread = if let [low, .., high] = values[..] { Some([low, high]) } else { None };
        Figure { value, spread, ..figure.clone() }
    };
    Figures(first.0.iter().map(median).collect())
}

impl Outcome {
    /// What a workload's figures mean for its bars.
    pub fn new(workload: Workload, stentor: Figures, etcd: Option<Figures>) -> Outcome {
        let bars = workload.bars().iter().map(|bar| {
            let (verdict, value) = bar.judge(&stentor, etcd.as_ref());
            Judged {
                figure: bar.figure.to_owned(),
                bar: bar.to_string(),
                value,
                verdict: verdict.to_string(),
                beats_etcd: bar.beats(&stentor, etcd.as_ref()),
            }
        });
        let bars = bars.collect();
        Outcome { workload: workload.name(), stentor, etcd, bars, failure: None }
    }

    /// A workload that could not be measured.
    pub fn failed(workload: Workload, why: String) -> Outcome {
        Outcome { failure: Some(why), ..Outcome::new(workload, Figures::default(), None) }
    }

    /// Whether a bar was missed.
    pub fn has_missed(&self) -> bool {
        let missed = Verdict::Missed.to_string();
        self.bars.iter().any(|bar| bar.verdict == missed)
    }

    /// etcd's figure of a name.
    pub fn theirs(&self, name: &str) -> Option<&Figure> {
        self.etcd.as_ref()?.0.iter().find(|figure| figure.name == name)
    }

    /// Stentor's figure divided by etcd's, as text; empty where there is none.
    pub fn ratio(&self, name: &str) -> String {
        let (Some(ours), Some(theirs)) = (self.stentor.get(name), self.theirs(name)) else { return String::new() };
        if theirs.value > 0.0 { format!("{:.3}", ours / theirs.value) } else { String::new() }
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
        let of_three = median(&[round(1.0, 30.0), round(3.0, 10.0), round(2.0, 20.0)]);
        assert_eq!((of_three.get("a"), of_three.get("b")), (Some(2.0), Some(20.0)));
        assert_eq!(of_three.0[1].spread, Some([10.0, 30.0]));
        assert_eq!(median(&[round(1.0, 2.0)]).0[0].spread, None, "one round has none");
    }

    #[test]
    fn a_bar_is_judged_and_etcd_beside_it() {
        let figures = |rate, cpu| {
            let mut figures = Figures::default();
            figures.push("puts per second", Unit::PerSecond, rate);
            figures.push("server CPU per put", Unit::Micros, cpu);
            figures
        };
        let outcome = Outcome::new(Workload::Put1, figures(150.0, 30.0), Some(figures(100.0, 100.0)));
        let judged: Vec<_> = outcome.bars.iter().map(|bar| (bar.verdict.as_str(), bar.beats_etcd)).collect();
        assert_eq!(judged, [("MISSED", Some(true)), ("not measured", None), ("reached", Some(true))]);
        assert!(outcome.has_missed());
        assert_eq!(outcome.ratio("puts per second"), "1.500");
        let failed = Outcome::failed(Workload::Put1, "why".into());
        assert!(!failed.has_missed() && failed.bars.iter().all(|bar| bar.verdict == "not measured"));
    }
}
