//! Creating watchers on an open stream: several at once, their answers matched by order.

use std::collections::VecDeque;
use std::time::Duration;

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{WatchRequest, WatchResponse};
use tokio::time::Instant;

use crate::Revision;
use crate::error::{Error, ErrorKind};
use crate::key_value::revision;
use crate::watch::resume::lane::{Action, Lane, Link, WatcherId, cancel};
use crate::watch::resume::watcher::Phase;

/// The creates that wait for their answers, oldest first.
#[derive(Debug, Default)]
pub(super) struct Creates {
    /// `None` for a watcher that is not wanted any more.
    in_flight: VecDeque<Option<WatcherId>>,
    /// Since when nothing has come on the stream, counted from the oldest of them.
    silent_since: Option<Instant>,
}

/// Creates that may be under way on one stream at once: enough that the way to the server and back does
/// not count, few enough that a server which resumes thousands is not flooded.
const IN_FLIGHT: usize = 64;

impl Creates {
    pub(super) fn abandon(&mut self, id: WatcherId) {
        for slot in &mut self.in_flight {
            if *slot == Some(id) {
                *slot = None;
            }
        }
    }

    fn sent(&mut self, id: WatcherId, now: Instant) {
        self.in_flight.push_back(Some(id));
        self.silent_since.get_or_insert(now);
    }

    pub(super) fn heard(&mut self, now: Instant) {
        if let Some(since) = &mut self.silent_since {
            *since = now;
        }
    }

    fn answered(&mut self) -> Option<Option<WatcherId>> {
        let slot = self.in_flight.pop_front();
        if self.in_flight.is_empty() {
            self.silent_since = None;
        }
        slot
    }

    /// When to look at them again, not later than `other`.
    pub(super) fn due(&self, patience: Duration, other: Instant) -> Instant {
        self.silent_since.map_or(other, |since| other.min(since + patience))
    }

    pub(super) fn overdue(&self, patience: Duration, now: Instant) -> bool {
        self.silent_since.is_some_and(|since| since + patience <= now)
    }
}

/// What the server has against a watcher.
pub(super) enum Refusal {
    /// Trying again would change nothing.
    Final(Error),
    /// A fresh token may mend it, and if not, it is final.
    Token(Error),
}

impl Lane {
    pub(super) fn send_creates(&mut self, now: Instant) {
        let Link::Open(open) = &mut self.link else { return };
        let queued = self.watchers.iter_mut().filter(|(_, watcher)| watcher.phase == Phase::Queued);
        for (id, watcher) in queued {
            if open.creates.in_flight.len() >= IN_FLIGHT {
                break;
            }
            watcher.phase = Phase::Creating;
            open.creates.sent(*id, now);
            open.progress.watcher_added();
            let create = RequestUnion::CreateRequest(watcher.create_request());
            self.actions.push_back(Action::Send(WatchRequest { request_union: Some(create) }));
        }
    }

    /// A create is answered. Answers come in the order of the creates, and a refusal has no id to go by.
    pub(super) fn answered(&mut self, response: &WatchResponse, now: Instant) {
        let Link::Open(open) = &mut self.link else { return };
        let Some(slot) = open.creates.answered() else {
            self.actions.push_back(Action::Close);
            return self.broke(Error::with(ErrorKind::Protocol, "an answer to a create that was never sent"), now);
        };
        let refused = response.canceled || response.compact_revision > 0;
        match slot {
            None if refused => {}
            None => self.actions.push_back(cancel(response.watch_id)),
            Some(id) if refused => self.refused(id, refusal(response), now),
            Some(id) => {
                self.confirmed(id, response.watch_id, now);
                let cluster = response.header.as_ref().map_or(0, |header| header.cluster_id);
                if let Some(Err(error)) = self.watchers.get_mut(&id).map(|watcher| watcher.meets(cluster)) {
                    self.end(id, error);
                }
            }
        }
        self.send_creates(now);
    }
}

/// Judges a refusal or a cancellation by the server's text.
pub(super) fn refusal(response: &WatchResponse) -> Refusal {
    if response.compact_revision > 0 {
        return Refusal::Final(Error::new(ErrorKind::Compacted { at: revision(response.compact_revision) }));
    }
    let text = response.cancel_reason.as_str();
    match EtcdError::from_text(text) {
        // This is what servers of 3.4 and 3.5 say of an expired token as well.
        Some(EtcdError::PermissionDenied) => Refusal::Token(Error::said(ErrorKind::PermissionDenied, text)),
        Some(EtcdError::InvalidAuthToken | EtcdError::AuthOldRevision | EtcdError::UserEmpty) => {
            Refusal::Token(Error::said(ErrorKind::Unauthenticated, text))
        }
        Some(EtcdError::Compacted) => Refusal::Final(Error::said(ErrorKind::Compacted { at: Revision::ZERO }, text)),
        _ if text == EMPTY_RANGE => Refusal::Final(Error::said(ErrorKind::InvalidArgument, text)),
        _ if text.is_empty() => Refusal::Final(Error::with(ErrorKind::Cancelled, "without a reason")),
        _ => Refusal::Final(Error::said(ErrorKind::Cancelled, text)),
    }
}

/// What etcd says of a range whose end is not above its key.
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(compact_revision: i64, reason: &str) -> (ErrorKind, bool) {
        let cancel_reason = reason.to_owned();
        let response = WatchResponse { canceled: true, compact_revision, cancel_reason, ..WatchResponse::default() };
        match refusal(&response) {
            Refusal::Final(error) => (error.kind().clone(), false),
            Refusal::Token(error) => (error.kind().clone(), true),
        }
    }

    /// The table of docs/client.md on watchers that end alone.
    #[test]
    fn what_ends_a_watcher_is_as_documented() {
        let at = revision(7);
        assert_eq!(judge(7, ""), (ErrorKind::Compacted { at }, false));
        assert_eq!(judge(7, "etcdserver: permission denied"), (ErrorKind::Compacted { at }, false));
        let compacted = EtcdError::Compacted.text();
        assert_eq!(judge(0, compacted), (ErrorKind::Compacted { at: Revision::ZERO }, false));
        assert_eq!(judge(0, EtcdError::PermissionDenied.text()), (ErrorKind::PermissionDenied, true));
        for error in [EtcdError::InvalidAuthToken, EtcdError::AuthOldRevision, EtcdError::UserEmpty] {
            assert_eq!(judge(0, error.text()), (ErrorKind::Unauthenticated, true), "{error:?}");
        }
        assert_eq!(judge(0, EMPTY_RANGE), (ErrorKind::InvalidArgument, false));
        for reason in ["", "etcdserver: duplicate watch ID", "anything"] {
            assert_eq!(judge(0, reason), (ErrorKind::Cancelled, false), "{reason}");
        }
    }
}
