//! Counts of durations in log-linear buckets: every value is kept to within 1/64 of itself.

/// Buckets of each power of two.
const SUB: u64 = 64;
const SUB_BITS: u32 = SUB.trailing_zeros();
/// Room for every `u64`.
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) * SUB as usize;

/// A histogram of nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// How many values were counted.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The largest value.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `percent` of all values do not exceed, to within 1/64; 0 when there is none.
    pub fn percentile(&self, percent: f64) -> u64 {
        let rank = (self.total as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return highest(index).min(self.max);
            }
        }
        self.max
    }

    /// Counts what another has counted too.
    pub fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        (self.total, self.max) = (0, 0);
    }
}

/// Values below `SUB` have a bucket each; above, each power of two has `SUB` of them.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BITS + 1);
    shift as usize * SUB as usize + (value >> shift) as usize
}

/// The highest value of a bucket.
fn highest(index: usize) -> u64 {
    let (index, sub) = (index as u64, SUB);
    if index < 2 * sub {
        return index;
    }
    let shift = index / sub - 1;
    let first = index - shift * sub;
    ((u128::from(first) + 1) << shift).saturating_sub(1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_value_to_a_sixty_fourth() {
        for shift in 0..64 {
            for offset in [0_u64, 1, 2, 1000] {
                let value = (1_u64 << shift).saturating_add(offset);
                let top = highest(bucket(value));
                assert!(top >= value, "{value}: {top}");
                assert!(top - value <= value / SUB, "{value}: {top}");
            }
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles_of_a_known_row() {
        let mut h = Histogram::default();
        (1..=100_000).for_each(|v| h.record(v));
        for (percent, want) in [(50.0, 50_000), (99.0, 99_000), (100.0, 100_000)] {
            let got = h.percentile(percent);
            assert!(got >= want && got - want <= want / SUB, "p{percent} is {got}");
        }
        let mut sum = h.clone();
        sum.add(&h);
        assert_eq!(sum.len(), 200_000);
        assert_eq!(sum.percentile(50.0), h.percentile(50.0));
        sum.clear();
        assert!(sum.is_empty());
        assert_eq!(sum.percentile(99.0), 0);
    }
}
