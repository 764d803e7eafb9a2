//! What a fuzz target is.

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was decoded.
    Accepted,
    /// It was refused with an error.
    Refused,
}

impl Outcome {
    /// Accepted when it is `Ok`.
    pub fn of<T, E>(result: &Result<T, E>) -> Outcome {
        if result.is_ok() { Outcome::Accepted } else { Outcome::Refused }
    }
}

/// A decoder under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// As the test is called.
    pub name: &'static str,
    /// Decodes an input; panics when the decoder breaks a promise.
    pub decode: fn(&[u8]) -> Outcome,
    /// Valid inputs to start from, as many kinds as there are.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Whether there are inputs that it refuses.
    pub refuses: bool,
    /// An input takes so many times as long as most targets' do: fewer are tried.
    pub cost: u64,
}
