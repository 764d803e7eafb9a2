use std::error::Error as StdError;

use stentor_proto::EtcdError;
use tonic::Status;

/// Why a call failed.
///
/// What the server said and what went wrong on the way are told apart by where the failure arose,
/// never by its status code alone: the gRPC library reports its own failures with codes that etcd
/// gives another meaning.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No endpoint was given.
    #[error("no endpoint given: name at least one, as host:port")]
    NoEndpoint,
    /// An endpoint cannot be read, or needs what is not built yet.
    #[error("invalid endpoint {endpoint:?}: {reason}")]
    InvalidEndpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection could be made; nothing was sent.
    #[error("cannot reach {endpoint}: {reason}")]
    Unreachable {
        /// The endpoint tried last.
        endpoint: String,
        /// What the last try ran into.
        reason: String,
    },
    /// The server refused the call with an error that etcd defines.
    #[error("{0}")]
    Etcd(EtcdError),
    /// The server refused the call with an error that etcd does not define.
    #[error("{message}")]
    Server {
        /// The gRPC status code.
        code: i32,
        /// The server's text.
        message: String,
    },
    /// The connection failed while the call was under way.
    #[error("connection to {endpoint} failed: {reason}")]
    Connection {
        /// The endpoint called.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The deadline of the call passed.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// The server's answer makes no sense.
    #[error("unexpected answer: {0}")]
    Protocol(&'static str),
}

/// gRPC's number for a deadline that the server saw pass.
const DEADLINE_EXCEEDED: i32 = 4;

impl Error {
    /// The error of etcd's table, if it is one.
    pub fn etcd(&self) -> Option<EtcdError> {
        match self {
            Error::Etcd(error) => Some(*error),
            _ => None,
        }
    }

    /// A write that failed so may have been applied all the same.
    pub fn may_have_applied(&self) -> bool {
        match self {
            Error::Connection { .. } | Error::DeadlineExceeded | Error::Protocol(_) => true,
            Error::Etcd(error) => matches!(
                error,
                EtcdError::Timeout
                    | EtcdError::TimeoutDueToLeaderFail
                    | EtcdError::TimeoutDueToConnectionLost
                    | EtcdError::TimeoutWaitAppliedIndex
                    | EtcdError::LeaderChanged
                    | EtcdError::Stopped
                    | EtcdError::Canceled
                    | EtcdError::DeadlineExceeded
            ),
            // Anything can stand behind an unknown refusal.
            Error::Server { .. } => true,
            Error::NoEndpoint | Error::InvalidEndpoint { .. } | Error::Unreachable { .. } => false,
        }
    }

    /// The same call may succeed later, or on another member. A write needs
    /// [`may_have_applied`](Self::may_have_applied) looked at first.
    pub fn is_retryable(&self) -> bool {
        const UNAVAILABLE: i32 = 14;
        match self {
            Error::Connection { .. } | Error::Unreachable { .. } => true,
            Error::Etcd(error) => {
                error.code() as i32 == UNAVAILABLE
                    || matches!(error, EtcdError::RequestTooManyRequests | EtcdError::NotSupportedForLearner)
            }
            Error::Server { code, .. } => *code == UNAVAILABLE,
            Error::NoEndpoint | Error::InvalidEndpoint { .. } | Error::DeadlineExceeded | Error::Protocol(_) => false,
        }
    }

    /// Judges a status by where it was made: one with a source was made in this process.
    pub(crate) fn from_status(status: &Status, endpoint: &str) -> Error {
        if let Some(source) = StdError::source(status) {
            if chain(source).any(|e| e.is::<tonic::TimeoutExpired>()) {
                return Error::DeadlineExceeded;
            }
            let reason = innermost(source);
            return if chain(source).any(|e| e.is::<tonic::ConnectError>()) {
                Error::Unreachable { endpoint: endpoint.to_owned(), reason }
            } else {
                Error::Connection { endpoint: endpoint.to_owned(), reason }
            };
        }
        if let Some(error) = EtcdError::from_text(status.message()) {
            return Error::Etcd(error);
        }
        if made_by_the_library(status) {
            return Error::Connection { endpoint: endpoint.to_owned(), reason: status.message().to_owned() };
        }
        match status.code() as i32 {
            DEADLINE_EXCEEDED => Error::DeadlineExceeded,
            code => Error::Server { code, message: status.message().to_owned() },
        }
    }
}

/// Texts that the gRPC library gives to failures of its own without keeping their source.
fn made_by_the_library(status: &Status) -> bool {
    let text = status.message();
    text.starts_with("h2 protocol error") || text.starts_with("protocol error: received message with")
}

fn chain<'a>(first: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(first), |&e| e.source())
}

/// The last cause, which is the one that says what happened.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: &Status) -> Error {
        Error::from_status(status, "e:1")
    }

    #[test]
    fn every_error_of_the_table_is_known_by_its_text() {
        for &error in EtcdError::ALL {
            assert_eq!(judge(&Status::from(error)).etcd(), Some(error));
            // etcd sends some with another code than the table's.
            assert_eq!(judge(&Status::unknown(error.text())).etcd(), Some(error));
        }
    }

    #[test]
    fn a_code_alone_means_nothing() {
        // OutOfRange is Compacted's code, and the library's own for a message above the limit.
        let error = judge(&Status::out_of_range("Error, decoded message length too large"));
        assert!(matches!(error, Error::Server { code: 11, .. }), "{error:?}");
        let calm = Status::resource_exhausted("h2 protocol error: http2 error");
        assert!(matches!(judge(&calm), Error::Connection { .. }));
    }

    #[test]
    fn a_failure_made_here_is_no_answer_of_the_server() {
        // The text is one of etcd's, but it has a source: it came from this side.
        let io = std::io::Error::other("etcdserver: no leader");
        let error = judge(&Status::from_error(Box::new(io)));
        assert!(matches!(&error, Error::Connection { reason, .. } if reason == "etcdserver: no leader"), "{error:?}");
        assert!(error.is_retryable() && error.may_have_applied());
        assert!(matches!(judge(&Status::from_error(Box::new(tonic::TimeoutExpired(())))), Error::DeadlineExceeded));
    }

    #[test]
    fn what_was_refused_before_it_ran_was_not_applied() {
        for error in [EtcdError::Compacted, EtcdError::NoSpace, EtcdError::EmptyKey, EtcdError::RequestTooManyRequests]
        {
            assert!(!Error::Etcd(error).may_have_applied(), "{error:?}");
        }
        assert!(Error::Etcd(EtcdError::Timeout).may_have_applied());
        assert!(Error::Etcd(EtcdError::NoLeader).is_retryable());
        assert!(!Error::Etcd(EtcdError::Compacted).is_retryable());
    }
}
