//! Each row of the table of creates.

use stentor_mvcc::Store;
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use crate::by_hand::{from, key, range};
use crate::run::Run;
use crate::transcript::{header_of, revision_of};

/// A store at revision 4, with `a` put at 2 and 4 and `b` at 3; and one client.
fn run() -> Run {
    let mut run = Run::plain();
    run.client();
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
        run.put(key, value);
    }
    run
}

fn ask(run: &mut Run, request: WatchCreateRequest) -> WatchResponse {
    run.clients[0].stream.create(request, Ok(()));
    run.response(0).unwrap()
}

fn assert_created(response: &WatchResponse, id: i64, header: i64) {
    assert!(response.created && !response.canceled, "{response:?}");
    assert_eq!((response.watch_id, header_of(response)), (id, header));
    assert!(response.events.is_empty());
}

fn assert_refused(run: &mut Run, response: &WatchResponse, reason: &str) {
    assert!(response.created && response.canceled, "{response:?}");
    assert_eq!((response.watch_id, response.compact_revision), (-1, 0));
    assert_eq!(response.cancel_reason, reason);
    // The stream goes on.
    let next = ask(run, key("next"));
    assert!(next.created && !next.canceled);
}

fn revisions(run: &mut Run) -> Vec<i64> {
    let mut all = Vec::new();
    while let Some(response) = run.response(0) {
        all.extend(response.events.iter().map(revision_of));
    }
    all
}

#[test]
fn no_key_is_the_least_one() {
    let mut run = run();
    assert_created(&ask(&mut run, from(1, range("", "\0"))), 0, 4);
    assert_eq!(revisions(&mut run), [2, 3, 4]);
    // By itself it is the one key of a zero byte.
    assert_created(&ask(&mut run, key("")), 1, 4);
    run.put("\0", "zero");
    let got: Vec<_> = [run.response(0).unwrap(), run.response(0).unwrap()].iter().map(|r| r.watch_id).collect();
    assert_eq!(got.len(), 2);
    assert!(got.contains(&0) && got.contains(&1));
}

#[test]
fn ranges_are_one_key_from_key_on_and_half_open() {
    for (request, expected) in [
        (key("a"), vec![2, 4]),
        (range("b", "\0"), vec![3]),
        (range("a", "b"), vec![2, 4]),
        (range("a", "b\0"), vec![2, 3, 4]),
        (range("a\0", "c"), vec![3]),
    ] {
        let mut run = run();
        assert_created(&ask(&mut run, from(1, request)), 0, 4);
        assert_eq!(revisions(&mut run), expected);
    }
}

#[test]
fn an_empty_range_is_refused() {
    for request in [range("b", "a"), range("b", "b")] {
        let mut run = run();
        let response = ask(&mut run, request);
        assert_refused(&mut run, &response, "mvcc: watcher range is empty");
    }
}

#[test]
fn a_start_of_zero_is_after_the_current_revision() {
    let mut run = run();
    assert_created(&ask(&mut run, key("a")), 0, 4);
    assert_eq!(revisions(&mut run), []);
    run.put("a", "3");
    assert_eq!(revisions(&mut run), [5]);
}

#[test]
fn a_start_in_the_future_waits_for_it() {
    let mut run = run();
    assert_created(&ask(&mut run, from(7, key("a"))), 0, 4);
    assert_created(&ask(&mut run, from(5, key("a"))), 1, 4);
    for _ in 5..=8 {
        run.put("a", "x");
    }
    let mut by_id = [Vec::new(), Vec::new()];
    while let Some(response) = run.response(0) {
        by_id[response.watch_id as usize].extend(response.events.iter().map(revision_of));
    }
    assert_eq!(by_id, [vec![7, 8], vec![5, 6, 7, 8]]);
}

#[test]
fn a_start_in_the_past_replays_and_goes_on() {
    for (start, expected) in [(1, vec![2, 4]), (2, vec![2, 4]), (3, vec![4]), (4, vec![4])] {
        let mut run = run();
        assert_created(&ask(&mut run, from(start, key("a"))), 0, 4);
        let replay = run.response(0).unwrap();
        // It completes the catching up, so the header is the store's.
        assert_eq!(header_of(&replay), 4);
        assert_eq!(replay.events.iter().map(revision_of).collect::<Vec<_>>(), expected);
        run.put("a", "3");
        let live = run.response(0).unwrap();
        assert_eq!((header_of(&live), revision_of(&live.events[0])), (5, 5));
        assert!(run.response(0).is_none());
    }
}

#[test]
fn a_negative_start_is_refused_as_compacted() {
    let mut run = run();
    // Whatever else is wrong with it.
    let request = from(-1, range("b", "a"));
    run.clients[0].stream.create(request, Err(EtcdError::PermissionDenied));
    let response = run.response(0).unwrap();
    assert_refused(&mut run, &response, EtcdError::Compacted.text());
}

#[test]
fn a_start_below_the_compacted_revision_is_created_and_cancelled() {
    let mut run = run();
    run.compact(3);
    assert_created(&ask(&mut run, from(2, key("a"))), 0, 4);
    let told = run.response(0).unwrap();
    assert!(told.canceled && !told.created);
    assert_eq!((told.watch_id, told.compact_revision, told.cancel_reason.as_str()), (0, 3, ""));
    assert_eq!(header_of(&told), 0);
    // Its id is not given out again: a client may cancel it once more, which is not answered.
    run.clients[0].stream.cancel(0);
    assert_created(&ask(&mut run, key("a")), 1, 4);
    assert!(run.response(0).is_none());
}

#[test]
fn a_start_at_the_compacted_revision_is_whole() {
    let mut run = Run::forgetful();
    run.client();
    run.put("a", "1");
    run.delete("a");
    run.put("b", "1");
    run.compact(3);
    run.store.finish_compactions().unwrap();
    let request = WatchCreateRequest { prev_kv: true, ..from(3, range("a", "c")) };
    assert_created(&ask(&mut run, request), 0, 4);
    let replay = run.response(0).unwrap();
    assert_eq!(replay.events.iter().map(revision_of).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(replay.events[0].r#type, 1);
    assert_eq!(replay.events[0].prev_kv.as_ref().map(|kv| kv.value.clone()), Some("1".into()));
}

#[test]
fn ids_go_upwards_and_skip_those_in_use() {
    let mut run = run();
    let with_id = |watch_id| WatchCreateRequest { watch_id, ..key("a") };
    assert_created(&ask(&mut run, with_id(1)), 1, 4);
    assert_created(&ask(&mut run, with_id(0)), 0, 4);
    assert_created(&ask(&mut run, with_id(0)), 2, 4);
    run.clients[0].stream.cancel(2);
    assert!(run.response(0).unwrap().canceled);
    assert_created(&ask(&mut run, with_id(0)), 3, 4);
    // Chosen ids are taken as they are: negative, and one cancelled before.
    assert_created(&ask(&mut run, with_id(-7)), -7, 4);
    assert_created(&ask(&mut run, with_id(2)), 2, 4);
    // One chosen and cancelled is passed over when the counter comes to it.
    assert_created(&ask(&mut run, with_id(4)), 4, 4);
    run.clients[0].stream.cancel(4);
    assert!(run.response(0).unwrap().canceled);
    assert_created(&ask(&mut run, with_id(0)), 5, 4);
    let response = ask(&mut run, with_id(-7));
    assert_refused(&mut run, &response, "mvcc: duplicate watch ID provided on the WatchStream");
}

#[test]
fn who_is_not_permitted_is_refused_before_the_range_is_looked_at() {
    for error in
        [EtcdError::PermissionDenied, EtcdError::InvalidAuthToken, EtcdError::AuthOldRevision, EtcdError::UserEmpty]
    {
        let mut run = run();
        run.clients[0].stream.create(range("b", "a"), Err(error));
        let response = run.response(0).unwrap();
        assert_refused(&mut run, &response, error.text());
    }
}

#[test]
fn the_range_is_looked_at_before_the_id() {
    let mut run = run();
    let with_id = |request: WatchCreateRequest| WatchCreateRequest { watch_id: 5, ..request };
    assert_created(&ask(&mut run, with_id(key("a"))), 5, 4);
    let response = ask(&mut run, with_id(range("b", "a")));
    assert_refused(&mut run, &response, "mvcc: watcher range is empty");
}

#[test]
fn filters_leave_the_rest() {
    for (filters, expected) in [
        (vec![], vec![2, 3, 4]),
        (vec![0], vec![3]),
        (vec![1], vec![2, 4]),
        (vec![0, 1], vec![]),
        (vec![7], vec![2, 3, 4]),
    ] {
        let mut run = Run::plain();
        run.client();
        run.put("a", "1");
        run.delete("a");
        run.put("a", "2");
        let request = WatchCreateRequest { filters, ..from(1, key("a")) };
        assert_created(&ask(&mut run, request), 0, 4);
        assert_eq!(revisions(&mut run), expected);
        // Filtered out counts as delivered: progress may be noted.
        run.clients[0].stream.request_progress();
        let note = run.response(0).unwrap();
        assert_eq!((note.watch_id, header_of(&note), note.events.len()), (-1, 4, 0));
    }
}

#[test]
fn requests_that_say_nothing_are_ignored() {
    let mut run = run();
    run.clients[0].stream.request(Default::default(), |_| Ok(()));
    run.clients[0].stream.cancel(12);
    assert!(run.response(0).is_none());
}

#[test]
fn a_create_at_zero_misses_nothing_that_is_committed_meanwhile() {
    let mut run = run();
    let store: &Store = &run.store.clone();
    for round in 0..50 {
        run.clients[0].stream.create(key("busy"), Ok(()));
        let put = stentor_proto::etcdserverpb::PutRequest { key: "busy".into(), ..Default::default() };
        store.put(put).unwrap();
        let created = std::iter::from_fn(|| run.response(0)).find(|r| r.created).unwrap();
        let events = std::iter::from_fn(|| run.response(0)).find(|r| r.watch_id == created.watch_id).unwrap();
        assert_eq!(revision_of(&events.events[0]), header_of(&created) + 1, "round {round}");
        run.drain(0);
    }
}
