//! Why a command fails, and the exit code that says so: etcdctl's, which scripts test.

use std::fmt;

use stentor_client::raw::Error;

/// An exit code of etcdctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The server refused, or did not answer in time.
    Error = 1,
    /// There is nothing to connect to.
    BadConnection = 2,
    /// Standard input cannot be understood.
    InvalidInput = 3,
    /// A value that is known, but not supported here.
    BadFeature = 4,
    /// Ended from outside.
    Interrupted = 5,
    /// A file cannot be read or written.
    Io = 6,
    /// The arguments make no sense.
    BadArgs = 128,
}

/// What ends a command early. Without a message nothing more is said: it was said before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        Failure { exit, message: Some(message.to_string()) }
    }

    pub(crate) fn args(message: impl fmt::Display) -> Failure {
        Failure::new(Exit::BadArgs, message)
    }

    pub(crate) fn input(message: impl fmt::Display) -> Failure {
        Failure::new(Exit::InvalidInput, message)
    }

    pub(crate) fn silent(exit: Exit) -> Failure {
        Failure { exit, message: None }
    }

    /// Says the same within a sentence: `before` (message).
    pub(crate) fn within(mut self, before: &str) -> Failure {
        self.message = self.message.map(|m| format!("{before} ({m})"));
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let exit = match &error {
            Error::NoEndpoint => Exit::BadConnection,
            Error::InvalidEndpoint { .. } | Error::Settings(_) => Exit::BadArgs,
            _ => Exit::Error,
        };
        Failure::new(exit, text(&error))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(Exit::Io, error)
    }
}

/// An operating system's error without its number, as Go words it.
pub(crate) fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The error as etcdctl words it.
pub(crate) fn text(error: &Error) -> String {
    match error {
        Error::DeadlineExceeded => "context deadline exceeded".to_owned(),
        Error::NoEndpoint => "etcdclient: no available endpoints".to_owned(),
        other => other.to_string(),
    }
}
