//! Why connections cannot be encrypted as the settings ask.

use std::path::PathBuf;

/// What is wrong with the settings or with what they name.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// A certificate of our own making can't be kept.
    #[error("cannot keep a certificate in {path}: {cause}")]
    Keep {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} cannot be used: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An authority is needed to tell other members from strangers.
    #[error("other members' certificates cannot be verified: give --peer-trusted-ca-file, or --peer-auto-tls")]
    NoAuthority,
    /// What the settings ask for can't be had of rustls.
    #[error("TLS cannot be set up: {0}")]
    Settings(String),
}

impl TlsError {
    pub(super) fn settings(cause: impl std::fmt::Display) -> TlsError {
        TlsError::Settings(cause.to_string())
    }
}
