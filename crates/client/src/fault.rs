use std::error::Error as StdError;

use stentor_proto::EtcdError;
use tonic::Status;

use crate::endpoint::{InvalidEndpoint, Trouble};

/// Why one try of a call failed.
///
/// What the server said and what went wrong on the way are told apart by where the failure arose,
/// never by its status code alone: the gRPC library reports its own failures with codes that etcd
/// gives another meaning.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No endpoint was given.
    #[error("no endpoint given: name at least one, as host:port")]
    NoEndpoint,
    /// An endpoint cannot be read, or needs what is not built yet.
    #[error(transparent)]
    InvalidEndpoint(#[from] InvalidEndpoint),
    /// No connection could be made; nothing was sent.
    #[error("cannot reach {endpoint}: {reason}")]
    Unreachable {
        /// The endpoint tried last.
        endpoint: String,
        /// What the last try ran into.
        reason: String,
    },
    /// One side does not trust the other's certificate; nothing was done.
    #[error("{endpoint}: {reason}")]
    Tls {
        /// The endpoint tried last.
        endpoint: String,
        /// What was refused, and why.
        reason: String,
    },
    /// Settings of TLS that cannot be used. Nothing was sent.
    #[error("{0}")]
    Settings(String),
    /// There is no secret to show: the program's source of them failed. Nothing was sent.
    #[error("no credentials: {reason}")]
    Credentials {
        /// What the source said.
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
    /// A message is larger than one side accepts.
    #[error("{0}")]
    TooLarge(String),
    /// The server's answer makes no sense.
    #[error("unexpected answer: {0}")]
    Protocol(&'static str),
}

/// What a [`Fault`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Try again, on another endpoint if there is one. With what it says against this one.
    Elsewhere(Option<Trouble>),
    /// Try again after a longer pause.
    Later,
    /// Try again, once, with a fresh token.
    NewToken,
    /// Trying again would change nothing.
    Final,
}

/// gRPC's number for a deadline that the server saw pass.
const DEADLINE_EXCEEDED: i32 = 4;
/// That of a call that the server does not have.
const UNIMPLEMENTED: i32 = 12;

impl Fault {
    /// The error of etcd's table, if it is one.
    pub fn etcd(&self) -> Option<EtcdError> {
        match self {
            Fault::Etcd(error) => Some(*error),
            _ => None,
        }
    }

    /// A write that failed so may have been applied all the same.
    pub fn may_have_applied(&self) -> bool {
        match self {
            Fault::Connection { .. } | Fault::DeadlineExceeded | Fault::Protocol(_) => true,
            Fault::Etcd(error) => matches!(
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
            // Anything can stand behind an unknown refusal; an unknown call was not carried out.
            Fault::Server { code, .. } => *code != UNIMPLEMENTED,
            // Of an answer, it says nothing about the write.
            Fault::TooLarge(_) => true,
            Fault::NoEndpoint
            | Fault::InvalidEndpoint(_)
            | Fault::Unreachable { .. }
            | Fault::Tls { .. }
            | Fault::Settings(_)
            | Fault::Credentials { .. } => false,
        }
    }

    /// The same call may succeed later, or on another member. A write needs
    /// [`may_have_applied`](Self::may_have_applied) looked at first.
    pub fn is_retryable(&self) -> bool {
        const UNAVAILABLE: i32 = 14;
        match self {
            Fault::Connection { .. } | Fault::Unreachable { .. } | Fault::Credentials { .. } => true,
            Fault::Etcd(error) => {
                error.code() as i32 == UNAVAILABLE
                    || matches!(error, EtcdError::RequestTooManyRequests | EtcdError::NotSupportedForLearner)
            }
            Fault::Server { code, .. } => *code == UNAVAILABLE,
            Fault::NoEndpoint
            | Fault::InvalidEndpoint(_)
            | Fault::Tls { .. }
            | Fault::Settings(_)
            | Fault::DeadlineExceeded
            | Fault::TooLarge(_)
            | Fault::Protocol(_) => false,
        }
    }

    /// What to do about it, if the call may be sent again at all.
    pub(crate) fn verdict(&self) -> Verdict {
        use EtcdError as E;
        const INTERNAL: i32 = 13;
        const UNAVAILABLE: i32 = 14;
        let elsewhere = |trouble: fn(String) -> Trouble| Verdict::Elsewhere(Some(trouble(self.to_string())));
        match self {
            Fault::Unreachable { .. } | Fault::Connection { .. } | Fault::DeadlineExceeded | Fault::Protocol(_) => {
                elsewhere(Trouble::Unreachable)
            }
            Fault::Tls { .. } => elsewhere(Trouble::Untrusted),
            Fault::Etcd(E::NoLeader | E::Stopped | E::Unhealthy | E::NotCapable | E::NotSupportedForLearner) => {
                elsewhere(Trouble::Unfit)
            }
            // These tell of the cluster, not of the member.
            Fault::Etcd(
                E::NotLeader
                | E::LeaderChanged
                | E::Timeout
                | E::TimeoutDueToLeaderFail
                | E::TimeoutDueToConnectionLost
                | E::TimeoutWaitAppliedIndex
                | E::Canceled
                | E::DeadlineExceeded,
            ) => Verdict::Elsewhere(None),
            Fault::Credentials { .. } => Verdict::Elsewhere(None),
            Fault::Etcd(E::RequestTooManyRequests) => Verdict::Later,
            Fault::Etcd(E::InvalidAuthToken | E::AuthOldRevision | E::UserEmpty) => Verdict::NewToken,
            // Most often a proxy without a server behind it.
            Fault::Server { code: UNAVAILABLE, .. } => elsewhere(Trouble::Unfit),
            Fault::Server { code: INTERNAL, .. } => Verdict::Elsewhere(None),
            Fault::Etcd(_)
            | Fault::Server { .. }
            | Fault::TooLarge(_)
            | Fault::NoEndpoint
            | Fault::InvalidEndpoint(_)
            | Fault::Settings(_) => Verdict::Final,
        }
    }

    /// Judges a status by where it was made: one with a source was made in this process.
    pub(crate) fn from_status(status: &Status, endpoint: &str) -> Fault {
        if let Some(source) = StdError::source(status) {
            if chain(source).any(|e| e.is::<tonic::TimeoutExpired>()) {
                return Fault::DeadlineExceeded;
            }
            let reason = innermost(source);
            return if is_distrust(source) {
                Fault::Tls { endpoint: endpoint.to_owned(), reason }
            } else if chain(source).any(|e| e.is::<tonic::ConnectError>()) {
                Fault::Unreachable { endpoint: endpoint.to_owned(), reason }
            } else {
                Fault::Connection { endpoint: endpoint.to_owned(), reason }
            };
        }
        if let Some(error) = EtcdError::from_text(status.message()) {
            return Fault::Etcd(error);
        }
        if TOO_LARGE.iter().any(|text| status.message().contains(text)) {
            return Fault::TooLarge(status.message().to_owned());
        }
        if made_by_the_library(status) {
            return Fault::Connection { endpoint: endpoint.to_owned(), reason: status.message().to_owned() };
        }
        match status.code() as i32 {
            DEADLINE_EXCEEDED => Fault::DeadlineExceeded,
            code => Fault::Server { code, message: status.message().to_owned() },
        }
    }
}

/// A handshake that failed for a certificate.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Distrust(pub(crate) String);

/// Whether a failure made here comes from a certificate that was refused.
pub(crate) fn is_distrust(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|e| e.is::<Distrust>())
}

/// How gRPC libraries word that a message is above a limit: tonic's of this side or of the server, and
/// Go's.
const TOO_LARGE: [&str; 3] =
    ["decoded message length too large", "encoded message length too large", "larger than max"];

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

    fn judge(status: &Status) -> Fault {
        Fault::from_status(status, "e:1")
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
        let error = judge(&Status::out_of_range("Error, decoded message length too large: found 9 bytes"));
        assert!(matches!(error, Fault::TooLarge(_)), "{error:?}");
        // ResourceExhausted is that of NoSpace, and Go's for the same.
        let error = judge(&Status::resource_exhausted("grpc: trying to send message larger than max (9 vs. 4)"));
        assert!(matches!(error, Fault::TooLarge(_)), "{error:?}");
        assert!(matches!(judge(&Status::out_of_range("else")), Fault::Server { code: 11, .. }));
        let calm = Status::resource_exhausted("h2 protocol error: http2 error");
        assert!(matches!(judge(&calm), Fault::Connection { .. }));
    }

    #[test]
    fn a_failure_made_here_is_no_answer_of_the_server() {
        // The text is one of etcd's, but it has a source: it came from this side.
        let io = std::io::Error::other("etcdserver: no leader");
        let error = judge(&Status::from_error(Box::new(io)));
        assert!(matches!(&error, Fault::Connection { reason, .. } if reason == "etcdserver: no leader"), "{error:?}");
        assert!(error.is_retryable() && error.may_have_applied());
        assert!(matches!(judge(&Status::from_error(Box::new(tonic::TimeoutExpired(())))), Fault::DeadlineExceeded));
    }

    #[test]
    fn what_was_refused_before_it_ran_was_not_applied() {
        for error in [EtcdError::Compacted, EtcdError::NoSpace, EtcdError::EmptyKey, EtcdError::RequestTooManyRequests]
        {
            assert!(!Fault::Etcd(error).may_have_applied(), "{error:?}");
        }
        assert!(!Fault::Server { code: 12, message: "unknown service".into() }.may_have_applied());
        assert!(Fault::Server { code: 2, message: "what?".into() }.may_have_applied());
        assert!(Fault::Etcd(EtcdError::Timeout).may_have_applied());
        assert!(Fault::Etcd(EtcdError::NoLeader).is_retryable());
        assert!(!Fault::Etcd(EtcdError::Compacted).is_retryable());
    }

    /// The table of docs/client.md, row by row: what a read does, and whether a write may have been applied.
    #[test]
    fn what_is_tried_again_is_as_documented() {
        use EtcdError as E;
        #[derive(Debug, PartialEq)]
        enum Read {
            Elsewhere,
            ElsewhereAndAgainstIt,
            Later,
            NewToken,
            Final,
        }
        let read = |fault: &Fault| match fault.verdict() {
            Verdict::Elsewhere(None) => Read::Elsewhere,
            Verdict::Elsewhere(Some(_)) => Read::ElsewhereAndAgainstIt,
            Verdict::Later => Read::Later,
            Verdict::NewToken => Read::NewToken,
            Verdict::Final => Read::Final,
        };
        for &error in EtcdError::ALL {
            let due = match error {
                E::NoLeader | E::Unhealthy | E::NotCapable | E::NotSupportedForLearner => {
                    (Read::ElsewhereAndAgainstIt, false)
                }
                E::Stopped => (Read::ElsewhereAndAgainstIt, true),
                E::LeaderChanged
                | E::Timeout
                | E::TimeoutDueToLeaderFail
                | E::TimeoutDueToConnectionLost
                | E::TimeoutWaitAppliedIndex
                | E::Canceled
                | E::DeadlineExceeded => (Read::Elsewhere, true),
                E::NotLeader => (Read::Elsewhere, false),
                E::RequestTooManyRequests => (Read::Later, false),
                E::InvalidAuthToken | E::AuthOldRevision | E::UserEmpty => (Read::NewToken, false),
                _ => (Read::Final, false),
            };
            let fault = judge(&Status::from(error));
            assert_eq!((read(&fault), fault.may_have_applied()), due, "{error:?}");
        }
        let made_here = Status::from_error(Box::new(std::io::Error::other("reset")));
        let unreachable = Fault::Unreachable { endpoint: "e:1".to_owned(), reason: "refused".to_owned() };
        let rows = [
            (unreachable, Read::ElsewhereAndAgainstIt, false),
            (judge(&made_here), Read::ElsewhereAndAgainstIt, true),
            (Fault::DeadlineExceeded, Read::ElsewhereAndAgainstIt, true),
            (judge(&Status::unavailable("upstream connect error")), Read::ElsewhereAndAgainstIt, true),
            (judge(&Status::internal("stream error")), Read::Elsewhere, true),
            (judge(&Status::unimplemented("unknown service")), Read::Final, false),
            (judge(&Status::permission_denied("by a proxy")), Read::Final, true),
        ];
        for (fault, due, may_have_applied) in rows {
            assert_eq!((read(&fault), fault.may_have_applied()), (due, may_have_applied), "{fault:?}");
        }
    }
}
