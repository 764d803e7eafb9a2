//! What a client asks for.

use bytes::Bytes;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use stentor_proto::{EtcdError, KeyRange, Revision};

use super::WatchStream;
use super::answer::{Answer, Refusal};
use crate::watcher::{Key, Note, Options, Place, Watcher};

/// So many unsent answers keep the stream from taking further requests.
const MAX_ANSWERS: usize = 16;

/// So many chosen ids are kept for the counter to pass over.
const MAX_CHOSEN_IDS: usize = 1 << 16;

impl WatchStream {
    /// Whether requests should be handed in: not while many answers wait for room, so that a client that
    /// asks and does not read is not answered into memory.
    pub fn accepts_requests(&self) -> bool {
        self.answers.len() < MAX_ANSWERS
    }

    /// Takes any request; `permitted` says whether whoever asks may watch the range of a create.
    pub fn request(
        &mut self,
        request: WatchRequest,
        permitted: impl FnOnce(&WatchCreateRequest) -> Result<(), EtcdError>,
    ) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                let permitted = permitted(&create);
                self.create(create, permitted);
            }
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.request_progress(),
            // Nothing, or something of a later version.
            None => {}
        }
    }

    /// Creates a watcher, or refuses to; either is answered. `permitted` is the outcome of testing the
    /// range as sent against the caller's permissions.
    pub fn create(&mut self, request: WatchCreateRequest, permitted: Result<(), EtcdError>) {
        let tip = self.hub.tip();
        let refuse = |reason| Answer::Refused { revision: tip.revision, reason };
        let Some(start) = Revision::new(request.start_revision) else {
            return self.answers.push_back(refuse(Refusal::Compacted));
        };
        if let Err(error) = permitted {
            return self.answers.push_back(refuse(Refusal::NotPermitted(error)));
        }
        let range = range_of(&request);
        if range.is_empty() {
            return self.answers.push_back(refuse(Refusal::EmptyRange));
        }
        let Some(id) = self.choose_id(request.watch_id) else {
            return self.answers.push_back(refuse(Refusal::DuplicateId));
        };
        self.answers.push_back(Answer::Created { id, revision: tip.revision });
        let from = if start == Revision::ZERO { tip.revision.next() } else { start };
        if let Some(compacted) = tip.compacted.filter(|&compacted| from < compacted) {
            return self.answers.push_back(Answer::Compacted { id, compacted });
        }
        let live = from > tip.revision;
        if live {
            self.group.skip_if_empty(tip.revision);
        }
        self.add(Watcher {
            id,
            range,
            options: Options::of(&request),
            from,
            notes_from: if start == Revision::ZERO { tip.revision } else { start },
            place: if live { Place::Group { due: false } } else { Place::Behind },
            active: false,
            note: Note::No,
        });
    }

    /// Cancels a watcher, which is answered; one that is not there is not.
    pub fn cancel(&mut self, id: i64) {
        let Some(&key) = self.by_id.get(&id) else { return };
        self.remove(key);
        self.answers.push_back(Answer::Canceled { id, revision: self.hub.tip().revision });
        self.report();
    }

    /// The id for a new watcher: the one asked for unless it is in use, or the next of the counter, which
    /// never gives out one that was there before. (etcd's can: one that was chosen and cancelled.)
    fn choose_id(&mut self, asked: i64) -> Option<i64> {
        if asked != 0 {
            if self.by_id.contains_key(&asked) {
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
        while self.chosen_ids.remove(&self.next_id) || self.by_id.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    fn add(&mut self, watcher: Watcher) {
        let key = Key(self.next_key);
        self.next_key += 1;
        self.by_id.insert(watcher.id, key);
        if watcher.options.progress_notify {
            self.notified.insert(key);
        }
        self.notes_from.insert((watcher.notes_from, key));
        match watcher.place {
            Place::Group { .. } => self.group.index.insert(&watcher.range, key),
            Place::Behind => {
                self.behind.push_back(key);
                self.behind_count += 1;
            }
        }
        self.watchers.insert(key, watcher);
        self.report();
    }

    /// Takes a watcher out of everything but the queues, which pass over what is gone.
    pub(super) fn remove(&mut self, key: Key) -> Option<Watcher> {
        let watcher = self.watchers.remove(&key)?;
        self.by_id.remove(&watcher.id);
        self.notified.remove(&key);
        self.notes_from.remove(&(watcher.notes_from, key));
        match watcher.place {
            Place::Group { due } => {
                self.group.index.remove(&watcher.range, key);
                self.group.due_count -= usize::from(due);
            }
            Place::Behind => self.behind_count -= 1,
        }
        Some(watcher)
    }
}

fn range_of(request: &WatchCreateRequest) -> KeyRange {
    // No key means the least one, so that with the open end it is everything.
    let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key.clone() };
    KeyRange::from_wire(key, request.range_end.clone())
}
