//! A store, its hub, and clients with streams of watchers, driven by hand or by chance.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_mvcc::{LogPosition, Store};
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use stentor_proto::storagepb::{LogEntry, log_entry::Op};
use stentor_watch::{Hub, HubOptions, Next, Read, StreamOptions, WatchStream};

use crate::inlet::Inlet;
use crate::model::{Model, Write, txn_of};
use crate::transcript::{Item, Watched, header_of, revision_of};
use crate::{atomic, bookmarkable, early, filterable, ordered, previous, reliable, resumable, told, unique};

/// What a run has come to, so that tests can say that they reached it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) events: usize,
    pub(crate) previous: usize,
    pub(crate) fragments: usize,
    pub(crate) notes: usize,
    pub(crate) notes_for_all: usize,
    pub(crate) compacted: usize,
    pub(crate) compacted_while_live: usize,
    pub(crate) refused: usize,
    pub(crate) cancelled: usize,
    pub(crate) reads: usize,
    pub(crate) resumed: usize,
    pub(crate) unsynced: usize,
    pub(crate) victims: usize,
    pub(crate) pieces: usize,
    pub(crate) broken: usize,
}

pub(crate) struct Run {
    pub(crate) store: Arc<Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) model: Model,
    pub(crate) compacted: i64,
    pub(crate) clients: Vec<Client>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) reached: Reached,
    pub(crate) options: HubOptions,
    stream_options: StreamOptions,
    disk: Disk,
}

/// One stream and what its client knows of it.
pub(crate) struct Client {
    pub(crate) stream: WatchStream,
    /// Creates that are not answered, in order.
    asked: VecDeque<usize>,
    /// Watchers by id.
    pub(crate) live: HashMap<i64, usize>,
    /// A read that the stream waits for.
    read: Option<Read>,
    /// What has come of a response, and how much is taken at a time.
    pub(crate) inlet: Inlet,
    responses: usize,
}

impl Run {
    pub(crate) fn new(options: HubOptions, stream_options: StreamOptions) -> Run {
        let disk = Disk::new();
        let store = open(&disk);
        let hub = Hub::follow(&store, options.clone());
        Run {
            store,
            hub,
            model: Model::new(),
            compacted: 0,
            clients: Vec::new(),
            watched: Vec::new(),
            reached: Reached::default(),
            options,
            stream_options,
            disk,
        }
    }

    /// With everything at its default.
    pub(crate) fn plain() -> Run {
        Run::new(HubOptions::default(), StreamOptions::default())
    }

    /// With no recent commits kept in memory: whoever is behind reads history.
    pub(crate) fn forgetful() -> Run {
        Run::new(HubOptions { recent_bytes: 0, cache_bytes: 0, ..HubOptions::default() }, StreamOptions::default())
    }

    pub(crate) fn client(&mut self) -> usize {
        self.clients.push(Client {
            stream: self.new_stream(),
            asked: VecDeque::new(),
            live: HashMap::new(),
            read: None,
            inlet: Inlet::default(),
            responses: 0,
        });
        self.clients.len() - 1
    }

    fn new_stream(&self) -> WatchStream {
        WatchStream::open(&self.hub, self.stream_options.clone())
    }

    pub(crate) fn write(&mut self, writes: &[Write]) {
        let answer = self.store.txn(txn_of(writes)).unwrap();
        self.model.apply(writes);
        assert_eq!(answer.header.unwrap().revision, self.model.revision(), "the model is wrong: {writes:?}");
    }

    /// Several transactions that come to the hub as one commit, as under load.
    pub(crate) fn write_group(&mut self, group: &[Vec<Write>]) {
        let entries: Vec<LogEntry> =
            group.iter().map(|writes| LogEntry { op: Some(Op::Txn(txn_of(writes))), ..LogEntry::default() }).collect();
        let index = self.store.view().applied().index + entries.len() as u64;
        self.store.apply(&entries, LogPosition { term: 1, index }).unwrap();
        group.iter().for_each(|writes| self.model.apply(writes));
        assert_eq!(self.store.view().revision().get(), self.model.revision(), "the model is wrong: {group:?}");
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) {
        self.write(&[Write::Put(key.into(), value.into())]);
    }

    pub(crate) fn delete(&mut self, key: &str) {
        self.write(&[Write::Delete(key.into(), String::new())]);
    }

    pub(crate) fn compact(&mut self, revision: i64) {
        if revision > self.compacted && revision <= self.model.revision() {
            self.store.compact(Revision::new(revision).unwrap()).unwrap();
            self.compacted = revision;
        }
    }

    /// Creates a watcher; its number is its place in `watched`.
    pub(crate) fn create(&mut self, client: usize, request: WatchCreateRequest) -> usize {
        self.watched.push(Watched::new(request.clone()));
        let number = self.watched.len() - 1;
        self.clients[client].asked.push_back(number);
        self.clients[client].stream.create(request, Ok(()));
        number
    }

    /// Takes one step of a client's stream as if it had room; false if there is nothing to do.
    pub(crate) fn step(&mut self, client: usize) -> bool {
        let this = &mut self.clients[client];
        if let Some(read) = this.read.take() {
            this.stream.read_done(read.run());
            return true;
        }
        let next = this.stream.fill(this.inlet.open());
        let response = this.inlet.take();
        let got = response.is_some() || this.inlet.has_moved();
        self.reached.pieces += usize::from(response.is_none() && got);
        if let Some(response) = response {
            self.receive(client, response);
        }
        match next {
            Next::Full => {}
            Next::Idle => return got,
            Next::Read(read) => {
                self.reached.reads += 1;
                self.clients[client].read = Some(read);
            }
            Next::Broken => {
                self.reached.broken += 1;
                self.break_stream(client);
            }
        }
        true
    }

    /// Reads a stream to its end.
    pub(crate) fn drain(&mut self, client: usize) {
        let mut steps = 0;
        while self.step(client) {
            steps += 1;
            assert!(steps < 1_000_000, "the stream never comes to rest");
        }
    }

    pub(crate) fn drain_all(&mut self) {
        (0..self.clients.len()).for_each(|client| self.drain(client));
    }

    /// One response, raw, reading where needed.
    pub(crate) fn response(&mut self, client: usize) -> Option<WatchResponse> {
        self.clients[client].stream.next_response()
    }

    fn receive(&mut self, client: usize, response: WatchResponse) {
        let store_at = self.model.revision();
        let this = &mut self.clients[client];
        this.responses += 1;
        let header = header_of(&response);
        if response.created {
            let number = this.asked.pop_front().expect("a created response that nobody asked for");
            let watched = &mut self.watched[number];
            if response.canceled {
                assert_eq!(response.watch_id, -1);
                self.reached.refused += 1;
                watched.items.push(Item::Cancelled { compacted: 0, reason: response.cancel_reason });
                return;
            }
            if !watched.is_created() {
                let asked = watched.request.start_revision;
                watched.start = if asked == 0 { header + 1 } else { asked };
            }
            watched.items.push(Item::Created { header });
            assert_eq!(this.live.insert(response.watch_id, number), None, "an id in use was given out");
            return;
        }
        if response.watch_id == -1 {
            self.reached.notes_for_all += 1;
            assert!(!this.live.is_empty(), "a note for nobody");
            for &number in this.live.values() {
                self.watched[number].items.push(Item::Note { header, store_at });
            }
            return;
        }
        let number = *this.live.get(&response.watch_id).expect("a response for an id that is not in use");
        let watched = &mut self.watched[number];
        if response.canceled {
            this.live.remove(&response.watch_id);
            if response.compact_revision != 0 {
                self.reached.compacted += 1;
                self.reached.compacted_while_live += usize::from(watched.items.len() > 1);
            } else {
                self.reached.cancelled += 1;
            }
            let (compacted, reason) = (response.compact_revision, response.cancel_reason);
            watched.items.push(Item::Cancelled { compacted, reason });
        } else if response.events.is_empty() {
            self.reached.notes += 1;
            watched.items.push(Item::Note { header, store_at });
        } else {
            self.reached.events += response.events.len();
            self.reached.previous += response.events.iter().filter(|e| e.prev_kv.is_some()).count();
            self.reached.fragments += usize::from(response.fragment);
            let (events, fragment, place) = (response.events, response.fragment, this.responses);
            assert!(events.iter().all(|e| revision_of(e) <= store_at));
            watched.items.push(Item::Events { header, events, fragment, place });
        }
    }

    /// A client's stream breaks, and it watches on with a new one.
    pub(crate) fn break_stream(&mut self, client: usize) {
        let stream = self.new_stream();
        let this = &mut self.clients[client];
        let mut numbers: Vec<usize> = this.live.drain().map(|(_, number)| number).collect();
        numbers.sort_unstable();
        numbers.extend(this.asked.drain(..));
        this.stream = stream;
        this.read = None;
        this.inlet = Inlet::of_room(this.inlet.room);
        for number in numbers {
            self.reached.resumed += 1;
            let watched = &mut self.watched[number];
            watched.drop_incomplete();
            let mut request = WatchCreateRequest { watch_id: 0, ..watched.request.clone() };
            if watched.is_created() {
                request.start_revision = watched.next();
                watched.items.push(Item::Resumed { from: watched.next() });
            }
            self.clients[client].asked.push_back(number);
            self.clients[client].stream.create(request, Ok(()));
        }
    }

    /// The server restarts; all streams break.
    pub(crate) fn reopen(&mut self) {
        self.store.flush().unwrap();
        // Everything that holds the store has to go first.
        self.store = open(&Disk::new());
        self.hub = Hub::follow(&self.store, self.options.clone());
        for client in 0..self.clients.len() {
            let stream = self.new_stream();
            self.clients[client].stream = stream;
            self.clients[client].read = None;
            self.clients[client].inlet = Inlet::of_room(self.clients[client].inlet.room);
        }
        self.store = open(&self.disk);
        self.hub = Hub::follow(&self.store, self.options.clone());
        (0..self.clients.len()).for_each(|client| self.break_stream(client));
    }

    pub(crate) fn count_states(&mut self) {
        let gauges = self.hub.gauges();
        self.reached.unsynced += gauges.unsynced as usize;
        self.reached.victims += gauges.victims as usize;
        let there: usize = self.clients.iter().map(|c| c.stream.len()).sum();
        assert_eq!(gauges.watchers(), there as u64);
        assert_eq!(gauges.streams, self.clients.len() as u64);
    }

    /// Every guarantee, of every watcher.
    pub(crate) fn check(&self, settled: bool) -> Result<(), String> {
        for (number, watched) in self.watched.iter().enumerate() {
            if !watched.is_created() {
                continue;
            }
            let mut watched = watched.clone();
            if !settled {
                watched.drop_incomplete();
            }
            let (watched, model) = (&watched, &self.model);
            let results = [
                ("ordered", ordered::check(model, watched)),
                ("unique", unique::check(model, watched)),
                ("reliable", reliable::check(model, watched)),
                ("atomic", atomic::check(watched)),
                ("resumable", resumable::check(model, watched)),
                ("bookmarkable", bookmarkable::check(model, watched)),
                ("filterable", filterable::check(model, watched)),
                ("previous", previous::check(model, watched)),
                ("told", told::check(model, watched, self.compacted, settled)),
                ("early", early::check(watched)),
            ];
            for (name, result) in results {
                result.map_err(|e| format!("not {name}: watcher {number}: {e}\n{watched:#?}"))?;
            }
        }
        Ok(())
    }
}

pub(crate) fn open(disk: &Disk) -> Arc<Store> {
    Arc::new(Store::open(MemoryEngine::open(disk).unwrap(), Default::default()).unwrap())
}
