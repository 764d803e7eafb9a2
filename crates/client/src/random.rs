use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// Where jitter comes from. Seeded, so that a simulation repeats itself; nothing here is a secret.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    /// A seed that differs from process to process.
    pub(crate) fn seed_of_the_system() -> u64 {
        RandomState::new().build_hasher().finish()
    }

    /// The next number (SplitMix64: every seed is a good one).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A generator of its own, for a part that draws independently of the others.
    pub(crate) fn fork(&mut self) -> Random {
        Random(self.next())
    }

    /// Drawn evenly from half of `interval` up to one and a half of it.
    pub(crate) fn around(&mut self, interval: Duration) -> Duration {
        interval / 2 + self.below(interval)
    }

    /// Drawn evenly from nothing up to `bound`.
    pub(crate) fn below(&mut self, bound: Duration) -> Duration {
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        bound.mul_f64(share)
    }
}
