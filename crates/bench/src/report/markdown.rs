//! Markdown with charts: what `full` writes into the documentation.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::{Record, with_spread};
use crate::chart::{Chart, Line, Place};
use crate::compare::Outcome;
use crate::figures::{Figure, Figures, Unit};
use crate::workload::Workload;

/// Where the part of a document begins that is written by this; by hand is what is around it.
pub const BEGIN: &str = "<!-- measured: from here on written by `cargo xtask bench full` -->";
/// Where it ends.
pub const END: &str = "<!-- measured: end -->";
/// All figures, beside the charts.
const FIGURES: &str = "figures.md";

/// Writes a record into `document`, between its marks, and all figures and charts into `directory`, which
/// lies beside it.
///
/// # Errors
/// When the document has no marks or something cannot be written.
pub fn write_documents(record: &Record, document: &Path, directory: &Path) -> Result<()> {
    let text = std::fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let name = directory.file_name().context("the directory of the charts has no name")?.to_string_lossy();
    let charts = charts(record);
    let text = replaced(&text, &section(record, &charts, &name))
        .with_context(|| format!("{} has no lines\n{BEGIN}\n{END}", document.display()))?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    // Charts of rows that were not measured this time say what is no longer so.
    for entry in std::fs::read_dir(directory)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "svg") {
            std::fs::remove_file(entry.path())?;
        }
    }
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    for (file, unit, chart) in &charts {
        let show = |value| Figure::new("", *unit, value).to_string();
        write(&directory.join(file), &chart.svg(show))?;
    }
    write(&directory.join(FIGURES), &figures(record))?;
    write(document, &text)
}

/// The text with the part between the marks replaced, if it has them.
fn replaced(text: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{part}\n{END}{after}"))
}

/// The command that makes the figures of these rows again.
fn command(record: &Record, rows: &str) -> String {
    let full = if record.full { " --full" } else { "" };
    format!("cargo xtask bench compare{full} --rounds {}{rows}", record.rounds)
}

/// Where, what and how, for the head of both documents.
fn head(record: &Record) -> String {
    let etcd = record.etcd.as_deref().unwrap_or("no etcd");
    let rounds = if record.rounds == 1 { "one round".to_owned() } else { format!("{} rounds", record.rounds) };
    format!(
        "{}. {} beside {etcd}, {rounds} a row, medians; in parentheses the lowest and the highest round.\n",
        record.machine.describe(),
        record.stentor
    )
}

fn section(record: &Record, charts: &[(String, Unit, Chart)], directory: &str) -> String {
    let mut text = format!("{}\n", head(record));
    text.push_str("| row | figure | Stentor | etcd | ratio | bar | |\n|---|---|---|---|---|---|---|\n");
    for outcome in &record.outcomes {
        for bar in &outcome.bars {
            let ours = outcome.stentor.0.iter().find(|figure| figure.name == bar.figure).map(with_spread);
            let theirs = outcome.theirs(&bar.figure).map(with_spread).unwrap_or_default();
            let (ours, ratio) = (ours.unwrap_or_default(), outcome.ratio(&bar.figure));
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| `{}` | {} | {ours} | {theirs} | {ratio} | {} | {} |",
                outcome.workload,
                bar.figure,
                bar.bar,
                bar.verdict.to_lowercase()
            );
        }
    }
    let _ = write!(text, "\nAll figures, each row with its command: [{directory}/{FIGURES}]({directory}/{FIGURES}).\n");
    for (file, _, chart) in charts {
        let _ = write!(text, "\n![{}]({directory}/{file})\n", chart.title);
    }
    text
}

fn figures(record: &Record) -> String {
    let mut text = format!("# All figures\n\nWritten by `cargo xtask bench full`.\n\n{}", head(record));
    for outcome in &record.outcomes {
        let _ = write!(text, "\n## `{}`\n\n{}.\n\n", outcome.workload, about(outcome));
        let _ = write!(text, "```text\n{}\n```\n\n", command(record, &format!(" {}", outcome.workload)));
        if let Some(failure) = &outcome.failure {
            let _ = writeln!(text, "Not measured: {}", failure.lines().next().unwrap_or_default());
            continue;
        }
        text.push_str("| figure | Stentor | etcd | ratio |\n|---|---|---|---|\n");
        for figure in &outcome.stentor.0 {
            let theirs = outcome.theirs(&figure.name).map(with_spread).unwrap_or_default();
            let (ours, ratio) = (with_spread(figure), outcome.ratio(&figure.name));
            let _ = writeln!(text, "| {} | {ours} | {theirs} | {ratio} |", figure.name);
        }
    }
    text
}

fn about(outcome: &Outcome) -> String {
    Workload::from_str(&outcome.workload, false).map(Workload::about).unwrap_or_default()
}

/// A chart of each curve: its file, unit and content.
fn charts(record: &Record) -> Vec<(String, Unit, Chart)> {
    let mut charts: Vec<(String, Unit, Chart)> = Vec::new();
    for outcome in &record.outcomes {
        for figure in &outcome.stentor.0 {
            let Some(point) = &figure.point else { continue };
            let title = format!("{}: {}", outcome.workload, point.curve);
            if charts.iter().any(|(_, _, chart)| chart.title == title) {
                continue;
            }
            let mut lines = vec![line("Stentor", &point.curve, &outcome.stentor)];
            lines.extend(outcome.etcd.as_ref().map(|etcd| line("etcd", &point.curve, etcd)));
            let file =
                format!("{}-{}.svg", outcome.workload, point.curve.replace([' ', '/', '\''], "-").to_lowercase());
            charts.push((file, figure.unit, Chart { title, against: point.against.clone(), lines }));
        }
    }
    charts
}

fn line(name: &str, curve: &str, figures: &Figures) -> Line {
    let mut points: Vec<Place> = figures
        .0
        .iter()
        .filter_map(|figure| {
            let point = figure.point.as_ref().filter(|point| point.curve == curve)?;
            Some(Place { x: point.x, y: figure.value, spread: figure.spread })
        })
        .collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    Line { name: name.to_owned(), points }
}
