//! Delivery by example: sizes, turns, notes, cancels, and what goes wrong.

use std::ops::ControlFlow;
use std::sync::Arc;

use stentor_mvcc::engine::memory::Disk;
use stentor_mvcc::{Commit, Error, Observer as _, Record};
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use stentor_proto::mvccpb::KeyValue;
use stentor_watch::{History, Hub, Moment, StreamOptions, Tip, WatchStream};

use crate::by_hand::{from, key, range};
use crate::model::Write;
use crate::run::{Run, open};
use crate::transcript::{Item, header_of, revision_of};

fn all(run: &mut Run, client: usize) -> Vec<WatchResponse> {
    std::iter::from_fn(|| run.response(client)).collect()
}

#[test]
fn catching_up_is_packed() {
    let mut run = Run::forgetful();
    let client = run.client();
    let value = "v".repeat(9_500);
    for _ in 0..10 {
        run.put("a", &value);
    }
    run.create(client, from(1, key("a")));
    let responses = all(&mut run, client);
    let counts: Vec<usize> = responses.iter().map(|r| r.events.len()).collect();
    assert_eq!(counts, [0, 3, 3, 3, 1]);
    // Short of what comes next while there is more, and the store's at the end.
    let headers: Vec<i64> = responses.iter().map(header_of).collect();
    assert_eq!(headers, [11, 4, 7, 10, 11]);
}

#[test]
fn previous_values_count_for_packing_too() {
    let mut run = Run::forgetful();
    let client = run.client();
    let value = "v".repeat(9_500);
    for _ in 0..6 {
        run.put("a", &value);
    }
    run.create(client, WatchCreateRequest { prev_kv: true, ..from(1, key("a")) });
    let counts: Vec<usize> = all(&mut run, client).iter().map(|r| r.events.len()).collect();
    assert_eq!(counts, [0, 2, 1, 1, 1, 1]);
}

#[test]
fn one_large_revision_goes_whole_or_in_fragments() {
    let big: Vec<Write> = (0..30).map(|n| Write::Put(format!("k{n:02}"), "v".repeat(100_000))).collect();
    for fragment in [false, true] {
        let mut run = Run::plain();
        let client = run.client();
        run.create(client, WatchCreateRequest { fragment, ..range("k", "l") });
        run.create(client, WatchCreateRequest { fragment, ..key("k29") });
        run.drain(client);
        run.write(&big);
        // What comes in the midst of it waits.
        let first = run.response(client).unwrap();
        run.create(client, key("new"));
        run.clients[client].stream.cancel(1);
        let rest = all(&mut run, client);
        assert_eq!(first.fragment, fragment);
        let parts = usize::from(fragment);
        assert!(rest[..parts].iter().all(|r| r.watch_id == first.watch_id && !r.fragment));
        let events: usize = rest[..parts].iter().map(|r| r.events.len()).sum();
        assert_eq!(first.events.len() + events, 30);
        assert_eq!(rest[..parts].first().map_or(30, |_| first.events.len()), if fragment { 20 } else { 30 });
        let headers: Vec<i64> = rest[..parts].iter().map(header_of).collect();
        assert!(headers.iter().all(|h| *h == header_of(&first)));
        assert!(rest[parts].created && rest[parts + 1].canceled);
        assert_eq!(rest.len(), parts + 2, "the cancelled one gets nothing");
    }
}

#[test]
fn watchers_behind_take_turns() {
    let mut run = Run::forgetful();
    let client = run.client();
    let value = "v".repeat(13_000);
    for _ in 0..12 {
        run.put("a", &value);
    }
    for _ in 0..3 {
        run.create(client, from(1, key("a")));
    }
    let turns: Vec<i64> = all(&mut run, client).iter().filter(|r| !r.events.is_empty()).map(|r| r.watch_id).collect();
    assert_eq!(turns.len(), 18);
    assert!(turns.chunks(3).all(|turn| turn == [0, 1, 2]), "{turns:?}");
}

#[test]
fn live_events_do_not_wait_for_a_long_replay() {
    let mut run = Run::forgetful();
    let client = run.client();
    let value = "v".repeat(13_000);
    for _ in 0..40 {
        run.put("a", &value);
    }
    run.create(client, key("live"));
    run.create(client, from(1, key("a")));
    (0..3).for_each(|_| drop(run.response(client)));
    run.put("live", "now");
    let soon: Vec<i64> = (0..2).filter_map(|_| run.response(client)).map(|r| r.watch_id).collect();
    assert!(soon.contains(&0), "{soon:?}");
}

#[test]
fn a_progress_request_is_answered_when_all_are_synced() {
    let mut run = Run::forgetful();
    let client = run.client();
    run.clients[client].stream.request_progress();
    assert!(run.response(client).is_none(), "nobody to tell");
    run.put("a", "1");
    run.create(client, from(1, key("a")));
    run.create(client, key("b"));
    (0..2).for_each(|_| drop(run.response(client)));
    // Asked more than once, while one reads what it missed: one answer, after it.
    (0..3).for_each(|_| run.clients[client].stream.request_progress());
    let responses = all(&mut run, client);
    assert_eq!(responses.iter().map(|r| r.watch_id).collect::<Vec<_>>(), [0, -1]);
    assert_eq!(header_of(&responses[1]), 2);
}

#[test]
fn a_progress_request_waits_for_a_start_in_the_future() {
    let mut run = Run::plain();
    let client = run.client();
    run.create(client, from(3, key("a")));
    run.drain(client);
    run.clients[client].stream.request_progress();
    run.put("b", "at 2");
    assert!(run.response(client).is_none());
    run.put("b", "at 3");
    let note = run.response(client).unwrap();
    assert_eq!((note.watch_id, header_of(&note)), (-1, 3));
    assert!(run.response(client).is_none());
}

#[test]
fn a_progress_answer_comes_while_writes_go_on() {
    let mut run = Run::plain();
    let client = run.client();
    run.create(client, key("a"));
    run.drain(client);
    run.put("a", "1");
    run.clients[client].stream.request_progress();
    let mut responses = Vec::new();
    while responses.last().is_none_or(|r: &WatchResponse| r.watch_id != -1) {
        assert!(responses.len() < 10, "no answer");
        responses.extend(run.response(client));
        run.put("a", "more");
    }
    assert!(header_of(responses.last().unwrap()) >= 2);
}

#[test]
fn ticks_bring_notes_to_who_is_quiet() {
    let mut run = Run::plain();
    let client = run.client();
    let notified = |request| WatchCreateRequest { progress_notify: true, ..request };
    for request in [notified(key("busy")), notified(key("idle")), key("mute"), notified(from(9, key("future")))] {
        run.create(client, request);
    }
    run.drain(client);
    run.put("busy", "1");
    run.drain(client);
    run.clients[client].stream.tick();
    let notes = all(&mut run, client);
    assert_eq!(notes.iter().map(|r| (r.watch_id, header_of(r))).collect::<Vec<_>>(), [(1, 2)]);
    run.clients[client].stream.tick();
    let notes = all(&mut run, client);
    assert_eq!(notes.iter().map(|r| (r.watch_id, header_of(r))).collect::<Vec<_>>(), [(0, 2), (1, 2)]);
    // Several ticks that a client took nothing of are one note.
    (0..5).for_each(|_| run.clients[client].stream.tick());
    assert_eq!(all(&mut run, client).len(), 2);
}

#[test]
fn a_compaction_and_the_end_bring_notes_too() {
    let mut run = Run::plain();
    let client = run.client();
    run.create(client, WatchCreateRequest { progress_notify: true, ..key("idle") });
    run.drain(client);
    for _ in 0..5 {
        run.put("other", "x");
    }
    run.compact(5);
    let note = run.response(client).unwrap();
    assert_eq!((note.watch_id, header_of(&note)), (0, 6));
    assert!(run.response(client).is_none());
    run.clients[client].stream.stop();
    assert_eq!(all(&mut run, client).len(), 1);
}

#[test]
fn a_cancelled_watcher_gets_nothing_more() {
    let mut run = Run::forgetful();
    let client = run.client();
    run.put("a", "1");
    // Unsynced, and due.
    run.create(client, from(1, key("a")));
    run.create(client, key("a"));
    (0..2).for_each(|_| drop(run.response(client)));
    run.put("a", "2");
    run.create(client, key("a"));
    run.clients[client].stream.cancel(0);
    run.clients[client].stream.cancel(1);
    run.clients[client].stream.cancel(1);
    let responses = all(&mut run, client);
    let seen: Vec<(i64, bool, i64)> = responses.iter().map(|r| (r.watch_id, r.canceled, header_of(r))).collect();
    assert_eq!(seen, [(2, false, 3), (0, true, 3), (1, true, 3)]);
    assert!(responses.iter().all(|r| r.events.is_empty() && r.cancel_reason.is_empty()));
    assert!(run.clients[client].stream.len() == 1);
}

#[test]
fn answers_that_are_not_taken_stop_further_requests() {
    let mut run = Run::plain();
    let client = run.client();
    let mut taken = 0;
    while run.clients[client].stream.accepts_requests() {
        run.create(client, key("a"));
        taken += 1;
        assert!(taken < 100);
    }
    run.drain(client);
    assert!(run.clients[client].stream.accepts_requests());
}

#[test]
fn a_snapshot_in_place_of_the_store_leaves_no_gap() {
    let mut run = Run::plain();
    let client = run.client();
    run.put("a", "1");
    run.create(client, key("a"));
    run.create(client, from(6, key("a")));
    run.drain(client);
    // Another member has gone on meanwhile.
    let other = Disk::new();
    let ahead = open(&other);
    for value in ["1", "2", "3", "4"] {
        let put =
            stentor_proto::etcdserverpb::PutRequest { key: "a".into(), value: value.into(), ..Default::default() };
        ahead.put(put).unwrap();
    }
    ahead.flush().unwrap();
    drop(ahead);
    run.store.replace(Arc::new(stentor_mvcc::engine::memory::MemoryEngine::open(&other).unwrap())).unwrap();
    let responses = all(&mut run, client);
    let revisions: Vec<i64> = responses.iter().flat_map(|r| r.events.iter().map(revision_of)).collect();
    assert_eq!(revisions, [3, 4, 5]);
    assert!(responses.iter().all(|r| r.watch_id == 0), "nothing for who waits for the future");
}

/// A history that can't be read.
struct Broken;

impl History for Broken {
    fn now(&self) -> Box<dyn Moment> {
        Box::new(Broken)
    }
}

impl Moment for Broken {
    fn revision(&self) -> Revision {
        Revision::MAX
    }
    fn compacted(&self) -> Option<Revision> {
        None
    }
    fn changes(&self, _: Revision, _: Revision, _: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<(), Error> {
        Err(stentor_proto::EtcdError::Corrupt.into())
    }
    fn pair_at(&self, _: &[u8], _: Revision) -> Result<Option<KeyValue>, Error> {
        Err(stentor_proto::EtcdError::Corrupt.into())
    }
}

#[test]
fn who_needs_what_cannot_be_read_is_told_why() {
    let tip = Tip { revision: Revision::new(9).unwrap(), compacted: None };
    let hub = Hub::new(Arc::new(Broken), tip, Default::default());
    let mut stream = WatchStream::open(&hub, StreamOptions::default());
    stream.create(from(3, key("a")), Ok(()));
    stream.create(key("a"), Ok(()));
    let responses: Vec<WatchResponse> = std::iter::from_fn(|| stream.next_response()).collect();
    assert_eq!(responses.len(), 3);
    assert!(responses[2].canceled && responses[2].watch_id == 0 && responses[2].compact_revision == 0);
    assert_eq!(responses[2].cancel_reason, stentor_proto::EtcdError::Corrupt.text());
    assert_eq!(stream.len(), 1, "the other needs nothing of it");
}

#[test]
fn a_group_that_needs_what_cannot_be_read_is_told_and_the_rest_waits_on() {
    let tip = |revision| Tip { revision: Revision::new(revision).unwrap(), compacted: None };
    let hub = Hub::new(Arc::new(Broken), tip(9), Default::default());
    let mut stream = WatchStream::open(&hub, StreamOptions::default());
    stream.create(key("a"), Ok(()));
    stream.create(from(40, key("a")), Ok(()));
    stream.create(from(60, key("a")), Ok(()));
    (0..3).for_each(|_| drop(stream.next_response()));
    // A snapshot: what came between is nowhere but in history.
    let records: Arc<[Record]> = Arc::new([]);
    hub.committed(&Commit { records, revision: tip(50).revision, compacted: None });
    let told: Vec<(i64, String)> =
        std::iter::from_fn(|| stream.next_response()).map(|r| (r.watch_id, r.cancel_reason)).collect();
    let reason = stentor_proto::EtcdError::Corrupt.text().to_owned();
    assert_eq!(told, [(0, reason.clone()), (1, reason)]);
    assert_eq!(stream.len(), 1);
}

#[test]
fn a_response_says_when_it_was_created_first() {
    let mut run = Run::plain();
    let client = run.client();
    run.put("a", "1");
    let number = run.create(client, from(2, key("a")));
    run.put("a", "2");
    run.drain(client);
    let items = &run.watched[number].items;
    assert!(matches!(items[0], Item::Created { header: 2 }), "{items:?}");
    assert_eq!(run.watched[number].events().count(), 2);
}
