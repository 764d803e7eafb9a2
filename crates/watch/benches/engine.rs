//! What the engine costs by itself: a commit that is told of, an event that is delivered, a watcher that
//! catches up. No store, no network; `cargo bench -p stentor-watch`.

use std::ops::ControlFlow;
use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use stentor_mvcc::{ChangeId, Commit, Error, Observer, Record};
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::WatchCreateRequest;
use stentor_proto::mvccpb::KeyValue;
use stentor_watch::{History, Hub, HubOptions, Moment, Next, Outbox, StreamOptions, Tip, WatchStream};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const STREAMS: usize = 10;
const REVISIONS: i64 = 1_000;

fn main() {
    divan::main();
}

/// So many revisions of one key.
#[derive(Clone)]
struct Recorded(Arc<[Record]>);

impl History for Recorded {
    fn now(&self) -> Box<dyn Moment> {
        Box::new(self.clone())
    }
}

impl Moment for Recorded {
    fn revision(&self) -> Revision {
        self.0.last().map_or(Revision::FIRST, |record| record.id.revision)
    }

    fn compacted(&self) -> Option<Revision> {
        None
    }

    fn changes(
        &self,
        from: Revision,
        to: Revision,
        take: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let wanted = self.0.iter().filter(|record| (from..=to).contains(&record.id.revision));
        // Whether all was wanted is no matter.
        let _ = wanted.cloned().try_for_each(take);
        Ok(())
    }

    fn pair_at(&self, _: &[u8], _: Revision) -> Result<Option<KeyValue>, Error> {
        Ok(None)
    }
}

fn record(revision: i64) -> Record {
    let revision = Revision::new(revision).unwrap_or_default();
    let pair = KeyValue {
        key: "/registry/pods/default/web-0".into(),
        value: vec![b'v'; 256].into(),
        create_revision: 2,
        mod_revision: revision.get(),
        version: revision.get() - 1,
        lease: 0,
    };
    Record::put(ChangeId { revision, sub: 0 }, 0, None, &pair)
}

fn commit(revision: i64) -> Commit {
    let record = record(revision);
    Commit { revision: record.id.revision, records: [record].into(), compacted: None }
}

/// Takes everything, and keeps only its length.
#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    responses: usize,
}

impl Outbox for Sink {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn begin(&mut self, _: usize) {
        self.bytes.clear();
        self.responses += 1;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// Everything that is due.
fn drain(stream: &mut WatchStream, sink: &mut Sink) {
    loop {
        match stream.fill(sink) {
            Next::Read(read) => stream.read_done(read.run()),
            Next::Full => {}
            Next::Idle | Next::Broken => return,
        }
    }
}

/// Watchers, an equal share on each of some streams, whose creation is answered.
fn watching(hub: &Arc<Hub>, watchers: usize, key: impl Fn(usize) -> String) -> Vec<WatchStream> {
    let mut streams: Vec<_> = (0..STREAMS).map(|_| WatchStream::open(hub, StreamOptions::default())).collect();
    for n in 0..watchers {
        let request = WatchCreateRequest { key: key(n).into(), ..Default::default() };
        if let Some(stream) = streams.get_mut(n % STREAMS) {
            stream.create(request, Ok(()));
        }
    }
    let mut sink = Sink::default();
    streams.iter_mut().for_each(|stream| drain(stream, &mut sink));
    streams
}

fn empty() -> Arc<Hub> {
    let tip = Tip { revision: Revision::FIRST, compacted: None };
    Hub::new(Arc::new(Recorded([].into())), tip, HubOptions::default())
}

/// Match: a commit beside so many watchers of other keys.
#[divan::bench(args = [0, 1_000, 100_000])]
fn a_commit_that_concerns_none(bencher: Bencher<'_, '_>, watchers: usize) {
    let hub = empty();
    let _streams = watching(&hub, watchers, |n| format!("/registry/other/{n:08}"));
    let mut revision = 1;
    let next = || {
        revision += 1;
        commit(revision)
    };
    bencher.with_inputs(next).bench_local_values(|commit| {
        hub.committed(&commit);
        hub.answered();
    });
}

/// Encode and splice: one event, to so many watchers of its key.
#[divan::bench(args = [10, 1_000, 100_000])]
fn an_event_for_each(bencher: Bencher<'_, '_>, watchers: usize) {
    let hub = empty();
    let mut streams = watching(&hub, watchers, |_| "/registry/pods/default/web-0".to_owned());
    let mut revision = 1;
    let next = || {
        revision += 1;
        commit(revision)
    };
    let mut sink = Sink::default();
    bencher.counter(ItemsCount::new(watchers)).with_inputs(next).bench_local_values(|commit| {
        hub.committed(&commit);
        hub.answered();
        streams.iter_mut().for_each(|stream| drain(stream, &mut sink));
    });
    assert!(sink.responses >= watchers, "nothing was delivered");
}

/// Cursor steps: a watcher that reads a history it missed, through the cache or anew.
#[divan::bench(args = [true, false])]
fn a_history_that_was_missed(bencher: Bencher<'_, '_>, cached: bool) {
    let records: Arc<[Record]> = (2..REVISIONS + 2).map(record).collect();
    let tip = Tip { revision: Recorded(records.clone()).revision(), compacted: None };
    let bytes = if cached { 16 << 20 } else { 0 };
    let options = HubOptions { recent_bytes: 0, cache_bytes: bytes, ..HubOptions::default() };
    let hub = Hub::new(Arc::new(Recorded(records)), tip, options);
    let mut sink = Sink::default();
    bencher.counter(ItemsCount::new(REVISIONS as usize)).bench_local(|| {
        let mut stream = WatchStream::open(&hub, StreamOptions::default());
        let key = "/registry/pods/default/web-0".into();
        stream.create(WatchCreateRequest { key, start_revision: 1, ..Default::default() }, Ok(()));
        drain(&mut stream, black_box(&mut sink));
        assert_eq!(stream.sent().events, REVISIONS as u64);
    });
}
