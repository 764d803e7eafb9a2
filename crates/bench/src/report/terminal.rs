//! Tables for people at a terminal.

use super::with_spread;
use crate::bars::Verdict;
use crate::compare::Outcome;

/// Lines of columns, each as wide as its widest cell; the first is aligned left, the last open.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (index, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let cell = match index {
                0 => format!("  {cell:<width$}"),
                _ if index + 1 == count => format!("  {cell}"),
                _ => format!("  {cell:>width$}"),
            };
            line.push_str(&cell);
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// All figures of one workload.
pub fn table(outcome: &Outcome) -> String {
    if let Some(failure) = &outcome.failure {
        return format!("{}: not measured: {failure}", outcome.workload);
    }
    let head = ["", "Stentor", if outcome.etcd.is_some() { "etcd" } else { "" }, "ratio", "bar"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for figure in &outcome.stentor.0 {
        let theirs = outcome.theirs(&figure.name).map(with_spread).unwrap_or_default();
        let bar = outcome.bars.iter().find(|bar| bar.figure == figure.name);
        let bar = bar.map(|bar| format!("{}: {}", bar.bar, bar.verdict)).unwrap_or_default();
        rows.push(vec![figure.name.clone(), with_spread(figure), theirs, outcome.ratio(&figure.name), bar]);
    }
    format!("{}\n{}", outcome.workload, columns(&rows))
}

/// Each target in a line, better or worse than etcd, and how many are which. Bars are of the full sizes: at
/// others, missing one says nothing.
pub fn summary(outcomes: &[Outcome], full: bool) -> String {
    let head = ["row", "figure", "Stentor", "etcd", "ratio", "than etcd", "bar"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let [mut better, mut worse, mut unknown] = [0; 3];
    for outcome in outcomes {
        for bar in &outcome.bars {
            let ours = outcome.stentor.0.iter().find(|figure| figure.name == bar.figure);
            let (word, count) = match bar.beats_etcd {
                Some(true) => ("better", &mut better),
                Some(false) => ("WORSE", &mut worse),
                None => ("-", &mut unknown),
            };
            *count += 1;
            let missed = !full && bar.verdict == Verdict::Missed.to_string();
            let verdict = if missed { "not at this size" } else { &bar.verdict };
            rows.push(vec![
                outcome.workload.clone(),
                bar.figure.clone(),
                ours.map(ToString::to_string).unwrap_or_default(),
                outcome.theirs(&bar.figure).map(ToString::to_string).unwrap_or_default(),
                outcome.ratio(&bar.figure),
                word.to_owned(),
                format!("{}: {verdict}", bar.bar),
            ]);
        }
    }
    let failures = outcomes.iter().filter_map(|outcome| Some((&outcome.workload, outcome.failure.as_ref()?)));
    let failures = failures.map(|(workload, why)| format!("\n{workload}: not measured: {why}")).collect::<String>();
    format!("{}{failures}\nbetter than etcd: {better}; worse: {worse}; not compared: {unknown}", columns(&rows))
}
