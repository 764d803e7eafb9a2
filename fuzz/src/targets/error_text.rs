//! The text of an error that a server sends.

use stentor_proto::EtcdError;

use crate::{Outcome, Target};

/// Input: the message of a gRPC status.
pub const ERROR_TEXT: Target = Target { name: "error_text", decode, samples, refuses: true, cost: 1 };

fn decode(bytes: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(bytes) else { return Outcome::Refused };
    let Some(error) = EtcdError::from_text(text) else { return Outcome::Refused };
    assert_eq!(EtcdError::from_text(error.text()), Some(error));
    Outcome::Accepted
}

fn samples() -> Vec<Vec<u8>> {
    [EtcdError::EmptyKey, EtcdError::TooManyOps, EtcdError::DuplicateKey, EtcdError::KeyNotFound]
        .map(|error| error.text().as_bytes().to_vec())
        .to_vec()
}
