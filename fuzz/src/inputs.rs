//! Random inputs that are close enough to valid ones to get far.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Bytes that sit on the edges of what decoders compare with.
const EDGES: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xff, b'"', b'{', b'\n'];
/// The largest varint, and one byte too many.
const LONG_VARINT: [u8; 11] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x01];
/// Inputs made of nothing but chance are at most this long.
const RANDOM_LEN_MAX: usize = 64;
/// No input grows beyond this by copying.
const LEN_MAX: usize = 1 << 16;

/// An endless sequence of inputs, the same for the same seed and samples.
pub struct Inputs {
    rng: StdRng,
    samples: Vec<Vec<u8>>,
}

impl Inputs {
    /// Starts at a seed.
    pub fn new(seed: u64, samples: Vec<Vec<u8>>) -> Inputs {
        Inputs { rng: StdRng::seed_from_u64(seed), samples }
    }

    /// The next input: a sample with a few changes or none, now and then just random bytes.
    pub fn next_input(&mut self) -> Vec<u8> {
        let Some(mut input) = self.samples.choose(&mut self.rng).cloned() else { return self.random_bytes() };
        if self.rng.random_ratio(1, 8) {
            return self.random_bytes();
        }
        for _ in 0..self.rng.random_range(0..5) {
            self.change(&mut input);
        }
        input
    }

    fn random_bytes(&mut self) -> Vec<u8> {
        let len = self.rng.random_range(0..=RANDOM_LEN_MAX);
        (0..len).map(|_| self.rng.random()).collect()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.rng.random_range(0..=input.len());
        match self.rng.random_range(0..7) {
            0 => self.set(input, |rng, byte| byte ^ (1 << rng.random_range(0..8))),
            1 => self.set(input, |rng, _| rng.random()),
            2 => self.set(input, |rng, _| EDGES.choose(rng).copied().unwrap_or_default()),
            3 => input.truncate(at),
            4 => drop(input.drain(self.rng.random_range(0..=at)..at)),
            5 => drop(input.splice(at..at, LONG_VARINT.into_iter().take(self.rng.random_range(1..=LONG_VARINT.len())))),
            _ => self.insert_a_part(input, at),
        }
    }

    fn set(&mut self, input: &mut [u8], new: impl FnOnce(&mut StdRng, u8) -> u8) {
        if !input.is_empty() {
            let at = self.rng.random_range(0..input.len());
            input[at] = new(&mut self.rng, input[at]);
        }
    }

    /// Copies a part of some sample into the input.
    fn insert_a_part(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(other) = self.samples.choose(&mut self.rng) else { return };
        let from = self.rng.random_range(0..=other.len());
        let to = self.rng.random_range(from..=other.len());
        if input.len() + to - from <= LEN_MAX {
            input.splice(at..at, other[from..to].iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let inputs = |seed| {
            let mut inputs = Inputs::new(seed, vec![b"hello world".to_vec(), vec![0; 40]]);
            (0..200).map(|_| inputs.next_input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }

    #[test]
    fn inputs_are_samples_changed_samples_and_noise() {
        let sample = b"a sample that is longer than chance would ever make by itself, so it can be told".to_vec();
        let mut inputs = Inputs::new(1, vec![sample.clone()]);
        let inputs: Vec<_> = (0..1000).map(|_| inputs.next_input()).collect();
        let unchanged = inputs.iter().filter(|i| **i == sample).count();
        let longer = inputs.iter().filter(|i| i.len() > sample.len()).count();
        let short = inputs.iter().filter(|i| i.len() <= RANDOM_LEN_MAX && !sample.starts_with(i)).count();
        assert!(unchanged > 100 && longer > 100 && short > 50, "{unchanged} {longer} {short}");
    }
}
