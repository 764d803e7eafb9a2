//! Why the server does not start.

/// One line that says what is wrong and what to do, and the exit status that goes with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The command line, the environment or the file cannot be read as intended: exit status 2.
    #[error("{0}")]
    Usage(String),
    /// Understood, but starting would be unsafe or cannot work: exit status 1.
    #[error("{0}")]
    Refused(String),
}

impl ConfigError {
    /// The process's exit status.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::Usage(_) => 2,
            ConfigError::Refused(_) => 1,
        }
    }
}
