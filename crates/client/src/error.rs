use std::fmt;

use bytes::Bytes;
use stentor_proto::{EtcdError, Revision};

use crate::endpoint::{Endpoint, InvalidEndpoint};
use crate::fault::Fault;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call, or a watch, ended without what was asked for.
///
/// [`kind`](Error::kind) is what a program decides by; the text is for people.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    /// What the server said, or what happened on the way.
    detail: Option<String>,
    from_server: bool,
    endpoint: Option<Endpoint>,
    attempts: u32,
}

/// What an [`Error`] means to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The history asked for is gone. A watch that ends so has missed changes: list again, then watch from
    /// there.
    Compacted {
        /// What history was compacted to; [`Revision::ZERO`] if the server did not say.
        at: Revision,
    },
    /// The store has not reached the revision that a read asked for.
    FutureRevision,
    /// The store's history is not the one seen before: it was restored from a backup, or another cluster is
    /// behind the address. What was read and remembered so far belongs to the old one.
    HistoryReset {
        /// The cluster that answers now; 0 if it did not say.
        cluster: u64,
    },
    /// The user may not do this, also with a fresh token.
    PermissionDenied,
    /// The user or password is wrong, or there is none where one is needed.
    Unauthenticated,
    /// The request makes no sense to the server.
    InvalidArgument,
    /// The key must exist, and does not.
    KeyNotFound,
    /// There is no such lease.
    LeaseNotFound,
    /// A lock or a leadership is not held, or not any more: its lease has ended, or somebody has deleted its key.
    LeaseLost,
    /// What a transaction of [`Client::stm`](crate::Client::stm) had read was changed by others, each time that it
    /// was tried. Nothing was written.
    Conflict,
    /// More operations in one transaction than the server allows.
    TooManyOps,
    /// The request or the answer is larger than one side accepts.
    TooLarge,
    /// The store is out of space and takes no writes.
    NoSpace,
    /// The server has too much to do.
    Busy,
    /// No endpoint can serve the call now. Nothing was changed.
    Unavailable,
    /// No endpoint was to be trusted, or none trusted this client's certificate; at
    /// [`build`](crate::ClientBuilder::build), the settings of TLS cannot be used. Nothing was changed.
    Tls,
    /// The deadline passed. Nothing was changed.
    DeadlineExceeded,
    /// It is not known whether a write took effect: it was sent, and its answer did not arrive.
    Ambiguous,
    /// The cluster found that its members' data differs.
    Corrupt,
    /// The server ended the watch, with this reason.
    Cancelled,
    /// The client was closed, or the runtime that drove it is gone.
    Closed,
    /// The server does not know the call.
    Unsupported,
    /// An address cannot be read, or none was given.
    InvalidEndpoint,
    /// The answer does not follow the protocol.
    Protocol,
    /// Anything else; the text says what.
    Other,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Error {
        Error(Box::new(Inner { kind, detail: None, from_server: false, endpoint: None, attempts: 0 }))
    }

    /// With a text of ours.
    pub(crate) fn with(kind: ErrorKind, detail: impl Into<String>) -> Error {
        let mut error = Error::new(kind);
        error.0.detail = Some(detail.into());
        error
    }

    /// With the server's text.
    pub(crate) fn said(kind: ErrorKind, text: impl Into<String>) -> Error {
        let mut error = Error::with(kind, text);
        error.0.from_server = true;
        error
    }

    pub(crate) fn at(mut self, endpoint: &Endpoint) -> Error {
        self.0.endpoint = Some(endpoint.clone());
        self
    }

    pub(crate) fn after(mut self, attempts: u32) -> Error {
        self.0.attempts = attempts;
        self
    }

    /// What happened, for a program to decide by.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The endpoint that was asked last, if one was.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.0.endpoint.as_ref()
    }

    /// How many times the call was sent, or tried to be.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The server's own text, if this is its answer.
    pub fn server_message(&self) -> Option<&str> {
        self.0.detail.as_deref().filter(|_| self.0.from_server)
    }

    /// A write that failed so may have taken effect all the same.
    pub fn may_have_applied(&self) -> bool {
        self.0.kind == ErrorKind::Ambiguous
    }

    /// The same call may succeed later, with nothing changed by anybody.
    pub fn is_retryable(&self) -> bool {
        use ErrorKind as K;
        matches!(self.0.kind, K::Unavailable | K::DeadlineExceeded | K::Busy | K::Conflict)
    }

    /// As [`is_retryable`](Self::is_retryable), or somebody may mend it while the client runs: a watch waits
    /// for that too.
    pub(crate) fn may_pass(&self) -> bool {
        self.is_retryable() || self.0.kind == ErrorKind::Tls
    }

    /// What a failed try means if it is the last one. `wrote`: the call would have changed something.
    pub(crate) fn from_fault(fault: &Fault, wrote: bool) -> Error {
        let error = match fault {
            Fault::Etcd(etcd) => Error::said(kind_of(*etcd), etcd.text()),
            Fault::Server { code, message } => Error::said(kind_of_code(*code), message.clone()),
            Fault::NoEndpoint | Fault::InvalidEndpoint(_) => Error::with(ErrorKind::InvalidEndpoint, fault.to_string()),
            Fault::Unreachable { .. } | Fault::Connection { .. } | Fault::Credentials { .. } => {
                Error::with(ErrorKind::Unavailable, fault.to_string())
            }
            Fault::Tls { .. } | Fault::Settings(_) => Error::with(ErrorKind::Tls, fault.to_string()),
            Fault::DeadlineExceeded => Error::new(ErrorKind::DeadlineExceeded),
            Fault::TooLarge(_) => Error::with(ErrorKind::TooLarge, fault.to_string()),
            Fault::Protocol(_) => Error::with(ErrorKind::Protocol, fault.to_string()),
        };
        if wrote && fault.may_have_applied() { error.ambiguous() } else { error }
    }

    pub(crate) fn ambiguous(mut self) -> Error {
        self.0.detail.get_or_insert_with(|| "the deadline passed".to_owned());
        self.0.kind = ErrorKind::Ambiguous;
        self
    }
}

/// What each error of etcd's table means to a caller.
fn kind_of(error: EtcdError) -> ErrorKind {
    use EtcdError as E;
    match error {
        E::Compacted => ErrorKind::Compacted { at: Revision::ZERO },
        E::FutureRev => ErrorKind::FutureRevision,
        E::KeyNotFound => ErrorKind::KeyNotFound,
        E::LeaseNotFound => ErrorKind::LeaseNotFound,
        E::TooManyOps => ErrorKind::TooManyOps,
        E::RequestTooLarge => ErrorKind::TooLarge,
        E::NoSpace => ErrorKind::NoSpace,
        E::RequestTooManyRequests => ErrorKind::Busy,
        E::PermissionDenied => ErrorKind::PermissionDenied,
        E::AuthFailed | E::InvalidAuthToken | E::AuthOldRevision | E::UserEmpty | E::UserNotFound => {
            ErrorKind::Unauthenticated
        }
        E::Corrupt => ErrorKind::Corrupt,
        E::WatchCanceled => ErrorKind::Cancelled,
        E::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        E::NoLeader
        | E::NotLeader
        | E::LeaderChanged
        | E::NotCapable
        | E::Stopped
        | E::Timeout
        | E::TimeoutDueToLeaderFail
        | E::TimeoutDueToConnectionLost
        | E::TimeoutWaitAppliedIndex
        | E::Unhealthy
        | E::NotSupportedForLearner
        | E::Canceled => ErrorKind::Unavailable,
        E::EmptyKey
        | E::ValueProvided
        | E::LeaseProvided
        | E::DuplicateKey
        | E::InvalidClientAPIVersion
        | E::InvalidSortOption
        | E::LeaseTTLTooLarge => ErrorKind::InvalidArgument,
        _ => ErrorKind::Other,
    }
}

fn kind_of_code(code: i32) -> ErrorKind {
    match code {
        3 => ErrorKind::InvalidArgument,
        7 => ErrorKind::PermissionDenied,
        12 => ErrorKind::Unsupported,
        14 => ErrorKind::Unavailable,
        16 => ErrorKind::Unauthenticated,
        _ => ErrorKind::Other,
    }
}

impl From<InvalidEndpoint> for Error {
    fn from(error: InvalidEndpoint) -> Error {
        Error::with(ErrorKind::InvalidEndpoint, error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.kind)?;
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        if let Some(endpoint) = &self.0.endpoint {
            write!(f, " (endpoint {endpoint})")?;
        }
        Ok(())
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            ErrorKind::Compacted { at } if *at > Revision::ZERO => {
                return write!(f, "history up to revision {at} has been compacted");
            }
            ErrorKind::Compacted { .. } => "the revision has been compacted",
            ErrorKind::FutureRevision => "the store has not reached this revision",
            ErrorKind::HistoryReset { .. } => "the store's history is not the one seen before",
            ErrorKind::PermissionDenied => "permission denied",
            ErrorKind::Unauthenticated => "not authenticated",
            ErrorKind::InvalidArgument => "invalid argument",
            ErrorKind::KeyNotFound => "key not found",
            ErrorKind::LeaseNotFound => "lease not found",
            ErrorKind::LeaseLost => "not held any more",
            ErrorKind::Conflict => "others changed what was read, again and again",
            ErrorKind::TooManyOps => "too many operations in one transaction",
            ErrorKind::TooLarge => "message too large",
            ErrorKind::NoSpace => "the store is out of space",
            ErrorKind::Busy => "the server has too much to do",
            ErrorKind::Unavailable => "no endpoint can serve this now",
            ErrorKind::Tls => "TLS failed",
            ErrorKind::DeadlineExceeded => "deadline exceeded",
            ErrorKind::Ambiguous => "not known whether the write took effect",
            ErrorKind::Corrupt => "the cluster's data is corrupt",
            ErrorKind::Cancelled => "the server ended the watch",
            ErrorKind::Closed => "the client is closed",
            ErrorKind::Unsupported => "the server does not know this call",
            ErrorKind::InvalidEndpoint => "no endpoint to connect to",
            ErrorKind::Protocol => "the answer does not follow the protocol",
            ErrorKind::Other => "failed",
        };
        f.write_str(text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("detail", &self.0.detail)
            .field("endpoint", &self.0.endpoint)
            .field("attempts", &self.0.attempts)
            .finish()
    }
}

impl std::error::Error for Error {}

/// A key or value as text, cut: values can be large, and logs should not be.
pub(crate) struct Shown<'a>(pub(crate) &'a Bytes);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BYTES: usize = 64;
        match self.0.get(..BYTES) {
            Some(head) if self.0.len() > BYTES => write!(f, "\"{}\"… ({} bytes)", head.escape_ascii(), self.0.len()),
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_whose_fate_is_unknown_is_ambiguous_and_a_read_is_not() {
        let broke = Fault::Connection { endpoint: "a:1".into(), reason: "reset".into() };
        assert_eq!(*Error::from_fault(&broke, true).kind(), ErrorKind::Ambiguous);
        assert_eq!(*Error::from_fault(&broke, false).kind(), ErrorKind::Unavailable);
        let refused = Fault::Unreachable { endpoint: "a:1".into(), reason: "refused".into() };
        assert_eq!(*Error::from_fault(&refused, true).kind(), ErrorKind::Unavailable);
        assert_eq!(*Error::from_fault(&Fault::DeadlineExceeded, true).kind(), ErrorKind::Ambiguous);
        assert_eq!(*Error::from_fault(&Fault::Etcd(EtcdError::NoSpace), true).kind(), ErrorKind::NoSpace);
    }

    #[test]
    fn the_text_names_the_kind_the_cause_and_the_endpoint() {
        let endpoint = Endpoint::parse("a:1").unwrap();
        let error = Error::said(ErrorKind::PermissionDenied, "etcdserver: permission denied").at(&endpoint).after(2);
        assert_eq!(error.to_string(), "permission denied: etcdserver: permission denied (endpoint a:1)");
        assert_eq!(error.server_message(), Some("etcdserver: permission denied"));
        assert_eq!((error.endpoint(), error.attempts()), (Some(&endpoint), 2));
        let compacted = Error::new(ErrorKind::Compacted { at: Revision::new(7).unwrap() });
        assert_eq!(compacted.to_string(), "history up to revision 7 has been compacted");
        assert_eq!(compacted.server_message(), None);
    }

    #[test]
    fn long_values_are_cut() {
        let text = format!("{:?}", Shown(&Bytes::from(vec![b'x'; 1000])));
        assert!(text.len() < 100 && text.contains("1000 bytes"), "{text}");
        assert_eq!(format!("{:?}", Shown(&Bytes::from_static(b"a\xff"))), "\"a\\xff\"");
    }
}
