//! What is to be reached.

use std::fmt;

use crate::figures::Figures;

/// A bound of one figure of Stentor's.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// The figure's name.
    pub figure: &'static str,
    /// What it must be.
    pub bound: Bound,
}

/// How a figure is bounded.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// At most this times etcd's.
    TimesAtMost(f64),
    /// At least this times etcd's.
    TimesAtLeast(f64),
    /// At most this, in the figure's unit.
    AtMost(f64),
    /// At least this, in the figure's unit.
    AtLeast(f64),
    /// At most this, or another figure of the same run if that is larger.
    AtMostOr(f64, &'static str),
}

/// How a figure stands to its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Within it, or on it.
    Reached,
    /// Beyond it.
    Missed,
    /// A number is missing: this part did not run.
    Unknown,
}

impl Bar {
    /// Bounds a figure.
    pub const fn new(figure: &'static str, bound: Bound) -> Bar {
        Bar { figure, bound }
    }

    /// Whether less is better.
    pub fn at_most(&self) -> bool {
        !matches!(self.bound, Bound::TimesAtLeast(_) | Bound::AtLeast(_))
    }

    /// Whether Stentor's figure is better than etcd's, if both are there.
    pub fn beats(&self, stentor: &Figures, etcd: Option<&Figures>) -> Option<bool> {
        let (ours, theirs) = (stentor.get(self.figure)?, etcd?.get(self.figure)?);
        Some(if self.at_most() { ours < theirs } else { ours > theirs })
    }

    /// Whether it is reached, and the number that was held against the bound.
    pub fn judge(&self, stentor: &Figures, etcd: Option<&Figures>) -> (Verdict, Option<f64>) {
        let Some(ours) = stentor.get(self.figure) else { return (Verdict::Unknown, None) };
        let theirs = etcd.and_then(|figures| figures.get(self.figure)).filter(|value| *value > 0.0);
        let (value, limit, at_most) = match self.bound {
            Bound::TimesAtMost(limit) => (theirs.map(|theirs| ours / theirs), limit, true),
            Bound::TimesAtLeast(limit) => (theirs.map(|theirs| ours / theirs), limit, false),
            Bound::AtMost(limit) => (Some(ours), limit, true),
            Bound::AtLeast(limit) => (Some(ours), limit, false),
            Bound::AtMostOr(limit, other) => (Some(ours), stentor.get(other).unwrap_or(0.0).max(limit), true),
        };
        let Some(value) = value else { return (Verdict::Unknown, None) };
        let reached = if at_most { value <= limit } else { value >= limit };
        (if reached { Verdict::Reached } else { Verdict::Missed }, Some(value))
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bound {
            Bound::TimesAtMost(limit) => write!(f, "at most {limit:.3} of etcd's"),
            Bound::TimesAtLeast(limit) => write!(f, "at least {limit} times etcd's"),
            Bound::AtMost(limit) => write!(f, "at most {limit}"),
            Bound::AtLeast(limit) => write!(f, "at least {limit}"),
            Bound::AtMostOr(limit, other) => write!(f, "at most {limit} or {other}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Reached => "reached",
            Verdict::Missed => "MISSED",
            Verdict::Unknown => "not measured",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Unit;

    fn figures(values: &[(&str, f64)]) -> Figures {
        let mut figures = Figures::default();
        values.iter().for_each(|(name, value)| figures.push(*name, Unit::Count, *value));
        figures
    }

    #[test]
    fn each_kind_of_bound() {
        let (ours, theirs) = (figures(&[("a", 1.0), ("b", 30.0), ("c", 40.0)]), figures(&[("a", 10.0), ("b", 0.0)]));
        let judge = |figure, bound| Bar::new(figure, bound).judge(&ours, Some(&theirs)).0;
        assert_eq!(judge("a", Bound::TimesAtMost(0.1)), Verdict::Reached);
        assert_eq!(judge("a", Bound::TimesAtMost(0.09)), Verdict::Missed);
        assert_eq!(judge("a", Bound::TimesAtLeast(2.0)), Verdict::Missed);
        assert_eq!(judge("b", Bound::TimesAtMost(2.0)), Verdict::Unknown, "nothing to compare with");
        assert_eq!(judge("b", Bound::AtMost(30.0)), Verdict::Reached);
        assert_eq!(judge("b", Bound::AtLeast(31.0)), Verdict::Missed);
        assert_eq!(judge("b", Bound::AtMostOr(20.0, "c")), Verdict::Reached);
        assert_eq!(judge("c", Bound::AtMostOr(20.0, "b")), Verdict::Missed);
        assert_eq!(judge("d", Bound::AtMost(1.0)), Verdict::Unknown);
    }

    #[test]
    fn better_is_what_the_bound_asks_for() {
        let (ours, theirs) = (figures(&[("a", 1.0), ("b", 30.0)]), figures(&[("a", 10.0)]));
        let beats = |figure, bound| Bar::new(figure, bound).beats(&ours, Some(&theirs));
        assert_eq!(beats("a", Bound::TimesAtMost(0.01)), Some(true), "better, if not by as much as it should");
        assert_eq!(beats("a", Bound::AtLeast(1.0)), Some(false));
        assert_eq!(beats("b", Bound::AtMost(1.0)), None);
        assert_eq!(Bar::new("a", Bound::AtMost(1.0)).beats(&ours, None), None);
        assert_eq!(Bar::new("a", Bound::TimesAtLeast(1.7)).to_string(), "at least 1.7 times etcd's");
    }
}
