//! What the writes of a check came to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::Write;

/// Results so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    seconds: Vec<f64>,
    pub(super) errors: BTreeMap<String, usize>,
    pub(super) took: Duration,
}

/// A write must not take longer.
const SLOWEST: f64 = 0.5;
/// How far the times of writes may spread, in seconds.
const SPREAD: f64 = 0.1;
/// Part of the rate asked for that must be reached.
const REACHED: f64 = 0.9;

impl Report {
    pub(super) fn take(&mut self, write: Option<Write>) {
        match write {
            Some(Ok(took)) => self.seconds.push(took.as_secs_f64()),
            Some(Err(why)) => *self.errors.entry(why).or_default() += 1,
            None => {}
        }
    }

    fn slowest(&self) -> f64 {
        self.seconds.iter().copied().fold(0.0, f64::max)
    }

    fn deviation(&self) -> f64 {
        let count = self.seconds.len().max(1) as f64;
        let mean = self.seconds.iter().sum::<f64>() / count;
        (self.seconds.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / count).sqrt()
    }

    /// One line for each kind of error.
    pub(super) fn errors_text(&self) -> String {
        self.errors.iter().fold(String::from("FAIL: too many errors\n"), |mut out, (why, count)| {
            let _ = writeln!(out, "FAIL: ERROR({why}) -> {count}");
            out
        })
    }

    /// The lines to show, and whether all is well.
    pub(super) fn judge(&self, rate: u32) -> (String, bool) {
        let reached = self.seconds.len() as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE);
        let (slowest, spread) = (self.slowest(), self.deviation());
        let mut out = String::new();
        let mut passed = self.errors.is_empty();
        if !passed {
            out += &self.errors_text();
        }
        let mut verdict = |good: bool, pass: String, fail: String| {
            passed &= good;
            let _ = if good { writeln!(out, "PASS: {pass}") } else { writeln!(out, "FAIL: {fail}") };
        };
        // Rounded, since the last write falls a little before or behind the end.
        let writes = reached.round();
        verdict(
            reached >= f64::from(rate) * REACHED,
            format!("Throughput is {writes} writes/s"),
            format!("Throughput too low: {writes} writes/s"),
        );
        verdict(
            slowest <= SLOWEST,
            format!("Slowest request took {slowest:.6}s"),
            format!("Slowest request took too long: {slowest:.6}s"),
        );
        verdict(spread <= SPREAD, format!("Stddev is {spread:.6}s"), format!("Stddev too high: {spread:.6}s"));
        out += if passed { "PASS\n" } else { "FAIL\n" };
        (out, passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(writes: &[Write]) -> Report {
        let mut report = Report { took: Duration::from_secs(1), ..Default::default() };
        writes.iter().cloned().for_each(|w| report.take(Some(w)));
        report
    }

    #[test]
    fn enough_fast_writes_pass() {
        let (text, passed) = report(&vec![Ok(Duration::from_millis(10)); 100]).judge(100);
        assert!(passed);
        let expected =
            "PASS: Throughput is 100 writes/s\nPASS: Slowest request took 0.010000s\nPASS: Stddev is 0.000000s\nPASS\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn each_fault_fails() {
        let fast = Ok(Duration::from_millis(10));
        for (writes, says) in [
            (vec![fast.clone(); 50], "Throughput too low: 50 writes/s"),
            ([vec![fast.clone(); 99], vec![Ok(Duration::from_secs(1))]].concat(), "Slowest request took too long"),
            ([vec![fast.clone(); 90], vec![Ok(Duration::from_millis(490)); 10]].concat(), "Stddev too high"),
            ([vec![fast; 100], vec![Err("no".to_owned())]].concat(), "ERROR(no) -> 1"),
        ] {
            let (text, passed) = report(&writes).judge(100);
            assert!(!passed && text.contains(says) && text.ends_with("FAIL\n"), "{text}");
        }
    }
}
