/// Why terms were not set or not found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No point has this name.
    #[error("there is no failpoint {0}")]
    Unknown(String),
    /// The point has no terms.
    #[error("failpoint {0} is not set")]
    Unset(String),
    /// The terms can't be read.
    #[error("cannot read `{text}`: expected {expected} at `{rest}`")]
    Malformed {
        /// All that was to be read.
        text: String,
        /// What is not understood of it.
        rest: String,
        /// What should be there.
        expected: &'static str,
    },
}
