//! Bars and spinners for what takes long: on standard error, and only on a terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

fn target() -> ProgressDrawTarget {
    if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A bar of known or unknown length, gone when dropped.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Counts things.
    pub(crate) fn count(total: u64, what: &'static str) -> Bar {
        let bar = ProgressBar::with_draw_target(Some(total), target());
        bar.set_style(style("{msg} [{bar:40}] {pos}/{len} {per_sec} {eta}"));
        bar.set_message(what);
        Bar(bar)
    }

    /// Counts bytes; the total becomes known on the way.
    pub(crate) fn bytes(what: &'static str) -> Bar {
        let bar = ProgressBar::with_draw_target(Some(0), target());
        bar.set_style(style("{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"));
        bar.set_message(what);
        Bar(bar)
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.inc(n);
    }

    pub(crate) fn set_total(&self, total: u64) {
        self.0.set_length(total);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Something that turns as long as it is there.
#[derive(Debug)]
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    pub(crate) fn start(what: String) -> Spinner {
        let bar = ProgressBar::with_draw_target(None, target());
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Spinner(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
