//! What a client asks for.

use bytes::Bytes;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use stentor_proto::{EtcdError, KeyRange, Revision};

use super::answer::{Answer, Refusal};
use super::watchers::Chain;
use super::{Core, Shared};
use crate::span::Span;
use crate::watcher::{Key, Options, Place, Watcher};

/// So many unsent answers keep the stream from taking further requests.
const MAX_ANSWERS: usize = 16;

/// So many chosen ids are kept for the counter to pass over.
const MAX_CHOSEN_IDS: usize = 1 << 16;

impl Core {
    pub(super) fn accepts_requests(&self) -> bool {
        self.answers.len() < MAX_ANSWERS
    }

    pub(super) fn request(
        &mut self,
        shared: &Shared,
        request: WatchRequest,
        permitted: impl FnOnce(&WatchCreateRequest) -> Result<(), EtcdError>,
    ) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                let permitted = permitted(&create);
                self.create(shared, &create, permitted);
            }
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(shared, cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.request_progress(),
            // Nothing, or something of a later version.
            None => {}
        }
    }

    pub(super) fn create(&mut self, shared: &Shared, request: &WatchCreateRequest, permitted: Result<(), EtcdError>) {
        if let Err(reason) = self.try_create(shared, request, permitted) {
            let revision = self.hub.tip().revision;
            self.answers.push_back(Answer::Refused { revision, reason });
        }
        self.report();
    }

    fn try_create(
        &mut self,
        shared: &Shared,
        request: &WatchCreateRequest,
        permitted: Result<(), EtcdError>,
    ) -> Result<(), Refusal> {
        let start = Revision::new(request.start_revision).ok_or(Refusal::Compacted)?;
        permitted.map_err(Refusal::NotPermitted)?;
        let range = range_of(request);
        if range.is_empty() {
            return Err(Refusal::EmptyRange);
        }
        let id = self.choose_id(request.watch_id).ok_or(Refusal::DuplicateId)?;
        let key = self.add(shared, Watcher::new(id, Span::of(&range), start, Options::of(request)));
        // Only now: of every change above this revision the stream will be told.
        let announced = self.hub.announced();
        let compacted = self.hub.tip().compacted;
        self.answers.push_back(Answer::Created { id, revision: announced });
        let from = if start == Revision::ZERO { announced.next() } else { start };
        if let Some(compacted) = compacted.filter(|&compacted| from < compacted) {
            self.remove(shared, key);
            self.hub.totals.count_canceled_by_compaction();
            self.answers.push_back(Answer::Compacted { id, compacted });
            return Ok(());
        }
        let is_live = from > announced;
        if let Some(watcher) = self.watchers.get_mut(key) {
            watcher.from = from;
            watcher.place = if is_live { Place::Group } else { Place::Behind };
        }
        self.find_fence(shared, self.hub.tip());
        self.notes.set_floor(key, if start == Revision::ZERO { announced } else { start }, self.group.fence());
        if !is_live {
            self.behind.add(key, announced);
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, shared: &Shared, id: i64) {
        let Some(key) = self.watchers.by_id(id) else { return };
        self.remove(shared, key);
        self.hub.totals.count_canceled_by_client();
        self.answers.push_back(Answer::Canceled { id, revision: self.hub.tip().revision });
        self.report();
    }

    /// The id for a new watcher: the one asked for unless it is in use, or the next of the counter, which
    /// never gives out one that was there before. (etcd's can: one that was chosen and cancelled.)
    fn choose_id(&mut self, asked: i64) -> Option<i64> {
        if asked != 0 {
            if self.watchers.by_id(asked).is_some() {
                return None;
            }
            if asked >= self.next_id {
                self.chosen_ids.insert(asked);
                // The farthest are the last that the counter would come to.
                if self.chosen_ids.len() > MAX_CHOSEN_IDS {
                    self.chosen_ids.pop_last();
                }
            }
            return Some(asked);
        }
        while self.chosen_ids.remove(&self.next_id) || self.watchers.by_id(self.next_id).is_some() {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    fn add(&mut self, shared: &Shared, watcher: Watcher) -> Key {
        let notified = watcher.options.progress_notify();
        let (key, chain) = self.watchers.insert(watcher);
        if notified {
            self.notes.notify(key);
        }
        if chain == Chain::Alone
            && let Some(watcher) = self.watchers.get(key)
        {
            self.hub.filter().add(shared.id, &watcher.span);
        }
        key
    }

    /// Takes a watcher out of everything but the queues, which pass over what is gone.
    pub(super) fn remove(&mut self, shared: &Shared, key: Key) -> Option<Watcher> {
        let (watcher, chain) = self.watchers.remove(key)?;
        if chain == Chain::Alone {
            self.hub.filter().remove(shared.id, &watcher.span);
        }
        self.notes.forget(key);
        match watcher.place {
            Place::Group => {}
            Place::Due => self.group.one_less_due(),
            Place::Behind => self.behind.remove(key),
        }
        Some(watcher)
    }
}

fn range_of(request: &WatchCreateRequest) -> KeyRange {
    // No key means the least one, so that with the open end it is everything.
    let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key.clone() };
    KeyRange::from_wire(key, request.range_end.clone())
}
