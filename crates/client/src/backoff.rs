//! Waiting longer after each failure. The one place that knows the crate `backoff`.

use std::time::Duration;

use ::backoff::backoff::Backoff as _;
use ::backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

use crate::random::Random;

/// How long to wait before a try is repeated.
///
/// The first repetition comes at once. Before each further one comes a pause drawn evenly between nothing
/// and a bound (full jitter), so that clients which failed together do not come back together. The bound
/// doubles from `first` up to `longest`.
///
/// ```
/// use std::time::Duration;
/// use stentor_client::Backoff;
/// let patient = Backoff::default().longest(Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Default for Backoff {
    /// 20 ms doubling to 1 s.
    fn default() -> Backoff {
        Backoff { first: Duration::from_millis(20), longest: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// The bound of the first pause; at least a millisecond.
    pub fn first(mut self, first: Duration) -> Backoff {
        self.first = first.max(Duration::from_millis(1));
        self
    }

    /// The bound that pauses grow to; not below that of the first.
    pub fn longest(mut self, longest: Duration) -> Backoff {
        self.longest = longest;
        self
    }

    pub(crate) fn start(self) -> Pauses {
        // Jitter is ours and time is the caller's: the crate would take both from the system, and no
        // simulation could repeat itself.
        let bounds = ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first)
            .with_max_interval(self.longest.max(self.first))
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        Pauses { bounds, longest: self.longest.max(self.first), failures: 0 }
    }
}

/// The pauses of one loop.
#[derive(Debug)]
pub(crate) struct Pauses {
    bounds: ExponentialBackoff,
    longest: Duration,
    /// Since the start or the last reset.
    failures: u32,
}

impl Pauses {
    /// How long to wait now that a try has failed.
    pub(crate) fn after_failure(&mut self, random: &mut Random) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            return Duration::ZERO;
        }
        let bound = self.bounds.next_backoff().unwrap_or(self.longest);
        random.below(bound)
    }

    /// All is well again, and has been for a while.
    pub(crate) fn reset(&mut self) {
        self.bounds.reset();
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_under_their_bound_and_begin_with_none() {
        let mut random = Random::seeded(1);
        let mut largest = [Duration::ZERO; 10];
        for _ in 0..500 {
            let mut pauses = Backoff::default().start();
            for slot in &mut largest {
                *slot = (*slot).max(pauses.after_failure(&mut random));
            }
        }
        let bounds_ms = [0, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000];
        for (largest, bound) in largest.into_iter().zip(bounds_ms.map(Duration::from_millis)) {
            // Of 500 draws one comes close to the bound, none above it.
            assert!(largest <= bound && largest >= bound.mul_f64(0.9), "{largest:?} of {bound:?}");
        }
    }

    #[test]
    fn a_reset_begins_anew_and_a_seed_repeats_itself() {
        let run = || {
            let mut random = Random::seeded(7);
            let mut pauses = Backoff::default().start();
            let before: Vec<_> = (0..8).map(|_| pauses.after_failure(&mut random)).collect();
            pauses.reset();
            (before, pauses.after_failure(&mut random), pauses.after_failure(&mut random))
        };
        assert_eq!(run(), run());
        assert_eq!(run().1, Duration::ZERO);
        assert!(run().2 <= Duration::from_millis(20));
    }
}
