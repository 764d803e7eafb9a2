use std::time::Duration;

use tokio::time::Instant;

use crate::Revision;
use crate::error::{Error, ErrorKind};

/// How a [`Reflector`](crate::Reflector) is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReflectorStatus {
    /// What the copy is of; [`Revision::ZERO`] until it is complete for the first time.
    pub revision: Revision,
    /// How many keys it has.
    pub len: usize,
    /// How many keys it lacks because their values cannot be decoded.
    pub undecodable: usize,
    /// For how long changes have not been coming in; `None` if they are. The copy is as good as it was
    /// then.
    pub out_of_sync: Option<Duration>,
    /// What went wrong last; it may be over.
    pub last_error: Option<Error>,
    /// How often the whole list was read.
    pub lists: u64,
    /// It has given up, because of [`last_error`](Self::last_error).
    pub ended: bool,
}

/// What the task says of itself.
#[derive(Debug)]
pub(super) struct State {
    pub(super) revision: Revision,
    /// A list has been read as a whole.
    pub(super) complete: bool,
    pub(super) len: usize,
    pub(super) undecodable: usize,
    pub(super) lists: u64,
    pub(super) outage: Option<Outage>,
    pub(super) last_error: Option<Error>,
    pub(super) ended: Option<Error>,
}

#[derive(Debug)]
pub(super) struct Outage {
    since: Instant,
    error: Option<Error>,
}

impl State {
    pub(super) fn new(now: Instant) -> State {
        State {
            revision: Revision::ZERO,
            complete: false,
            len: 0,
            undecodable: 0,
            lists: 0,
            outage: Some(Outage { since: now, error: None }),
            last_error: None,
            ended: None,
        }
    }

    /// The copy is complete, and what a list was refused for is over.
    pub(super) fn listed(&mut self) {
        self.complete = true;
        self.lists += 1;
        if let Some(outage) = &mut self.outage {
            outage.error = None;
        }
    }

    /// Changes have stopped coming in.
    pub(super) fn out_of_sync(&mut self, error: Option<Error>, now: Instant) {
        let outage = self.outage.get_or_insert(Outage { since: now, error: None });
        if let Some(error) = error {
            outage.error = Some(error.clone());
            self.last_error = Some(error);
        }
    }

    /// Why those who wait for the copy should not: it has ended, or is refused what it needs. What passes by
    /// itself is no reason.
    pub(super) fn refusal(&self) -> Option<&Error> {
        let error = self.outage.as_ref().and_then(|outage| outage.error.as_ref());
        self.ended.as_ref().or(error.filter(|error| !passes(error)))
    }

    pub(super) fn status(&self, now: Instant) -> ReflectorStatus {
        ReflectorStatus {
            revision: self.revision,
            len: self.len,
            undecodable: self.undecodable,
            out_of_sync: self.outage.as_ref().map(|outage| now.saturating_duration_since(outage.since)),
            last_error: self.last_error.clone(),
            lists: self.lists,
            ended: self.ended.is_some(),
        }
    }
}

/// The copy needs a new list.
pub(super) fn needs_list(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Compacted { .. } | ErrorKind::HistoryReset { .. })
}

/// It is over without anybody doing anything about it.
fn passes(error: &Error) -> bool {
    error.is_retryable() || needs_list(error)
}

/// No further try will mend it. Not among them: permission that is denied today.
pub(super) fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidArgument
            | ErrorKind::Unauthenticated
            | ErrorKind::Unsupported
            | ErrorKind::InvalidEndpoint
            | ErrorKind::Closed
    )
}
