//! Runs a target on random inputs.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::{Inputs, Outcome, Target};

/// Where chance starts when nobody says.
const SEED: u64 = 1;
/// Inputs for each target when nobody says: less than a second.
const CASES: u64 = 2_000;

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// For so many inputs, of a target whose cost is 1.
    Cases(u64),
    /// For so long.
    Time(Duration),
}

impl Budget {
    /// `STENTOR_FUZZ_SECONDS`, else `STENTOR_FUZZ_CASES`, else a small number of inputs.
    pub fn from_env() -> Budget {
        match (variable("STENTOR_FUZZ_SECONDS"), variable("STENTOR_FUZZ_CASES")) {
            (Some(seconds), _) => Budget::Time(Duration::from_secs(seconds)),
            (None, cases) => Budget::Cases(cases.unwrap_or(CASES)),
        }
    }

    fn is_left(self, done: u64, cost: u64, start: Instant) -> bool {
        match self {
            Budget::Cases(cases) => done.saturating_mul(cost) < cases,
            Budget::Time(time) => start.elapsed() < time,
        }
    }
}

/// What a run has reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Inputs that were decoded.
    pub accepted: u64,
    /// Inputs that were refused.
    pub refused: u64,
}

/// Feeds a target until the budget is used up, from the seed in `STENTOR_SEED` if there is one.
///
/// # Panics
/// When the target does, after printing the input; and when the inputs reached only one of acceptance
/// and refusal, since then they test little.
pub fn run(target: &Target, budget: Budget) -> Tally {
    let seed = variable("STENTOR_SEED").unwrap_or(SEED);
    let samples = (target.samples)();
    for sample in &samples {
        let outcome = fed(target, sample, "a sample");
        assert_eq!(outcome, Outcome::Accepted, "{}: a sample is refused: {}", target.name, sample.escape_ascii());
    }
    let mut inputs = Inputs::new(seed, samples);
    let (start, mut tally) = (Instant::now(), Tally::default());
    while budget.is_left(tally.accepted + tally.refused, target.cost, start) {
        let input = inputs.next_input();
        match fed(target, &input, &format!("seed {seed}, input {}", tally.accepted + tally.refused)) {
            Outcome::Accepted => tally.accepted += 1,
            Outcome::Refused => tally.refused += 1,
        }
    }
    println!("{}: {} accepted, {} refused, seed {seed}", target.name, tally.accepted, tally.refused);
    assert!(tally.accepted > 0, "{}: nothing was accepted", target.name);
    assert_eq!(tally.refused > 0, target.refuses, "{}: {} inputs were refused", target.name, tally.refused);
    tally
}

/// One input; when the target panics, it is shown first.
fn fed(target: &Target, input: &[u8], which: &str) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| (target.decode)(input))).unwrap_or_else(|panic| {
        eprintln!("{} fails on {which}: b\"{}\"", target.name, input.escape_ascii());
        resume_unwind(panic)
    })
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    assert!(number.is_ok(), "{name} is no number: {text}");
    number.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTF8: Target = Target {
        name: "utf8",
        decode: |bytes| Outcome::of(&std::str::from_utf8(bytes)),
        samples: || vec![b"hello".to_vec(), "h\u{e9}llo".as_bytes().to_vec()],
        refuses: true,
        cost: 1,
    };

    #[test]
    fn counts_what_was_reached() {
        let tally = run(&UTF8, Budget::Cases(1_000));
        assert_eq!(tally.accepted + tally.refused, 1_000);
        assert!(tally.accepted > 100 && tally.refused > 100, "{tally:?}");
    }

    #[test]
    #[should_panic(expected = "inputs were refused")]
    fn a_target_that_never_refuses_must_say_so() {
        run(&Target { decode: |_| Outcome::Accepted, ..UTF8 }, Budget::Cases(100));
    }

    #[test]
    #[should_panic(expected = "0xff")]
    fn a_panic_of_the_target_is_a_failure() {
        let decode = |bytes: &[u8]| {
            assert!(!bytes.contains(&0xff), "0xff");
            Outcome::Accepted
        };
        run(&Target { decode, ..UTF8 }, Budget::Cases(10_000));
    }
}
