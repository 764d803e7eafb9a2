//! What an event allocates: nothing, for each watcher that gets it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use stentor_mvcc::Store;
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_proto::etcdserverpb::{PutRequest, WatchCreateRequest};
use stentor_watch::{Hub, Next, Outbox, StreamOptions, WatchStream};

const WATCHERS: usize = 1_000;

/// Has room for everything, and forgets it.
#[derive(Default)]
struct Sink {
    responses: usize,
}

impl Outbox for Sink {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn begin(&mut self, _: usize) {
        self.responses += 1;
    }

    fn put(&mut self, _: &[u8]) {}
}

#[test]
fn an_event_for_a_thousand_watchers_allocates_little_more_than_for_one() {
    let [one, many] = [1, WATCHERS].map(allocations_of_an_event);
    assert!(many <= one + 8, "{many} allocations for {WATCHERS} watchers, {one} for one");
}

/// How often an event of a watched key allocates, from its commit to its delivery to all watchers.
fn allocations_of_an_event(watchers: usize) -> u64 {
    let store = Arc::new(Store::open(MemoryEngine::open(&Disk::new()).unwrap(), Default::default()).unwrap());
    let hub = Hub::follow(&store, Default::default());
    let mut stream = WatchStream::open(&hub, StreamOptions::default());
    for _ in 0..watchers {
        stream.create(WatchCreateRequest { key: "k".into(), ..Default::default() }, Ok(()));
    }
    let mut sink = Sink::default();
    deliver(&mut stream, &mut sink);
    let put = || PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
    // What is kept from event to event has its size after the first ones.
    for _ in 0..10 {
        store.put(put()).unwrap();
        deliver(&mut stream, &mut sink);
    }
    store.put(put()).unwrap();
    let before = sink.responses;
    let info = allocation_counter::measure(|| deliver(&mut stream, &mut sink));
    assert_eq!(sink.responses - before, watchers);
    info.count_total
}

fn deliver(stream: &mut WatchStream, sink: &mut Sink) {
    loop {
        match stream.fill(sink) {
            Next::Full => {}
            Next::Read(read) => stream.read_done(read.run()),
            Next::Idle => return,
            Next::Broken => panic!("the stream is broken"),
        }
    }
}
