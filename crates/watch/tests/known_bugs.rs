//! What has gone wrong in etcd's watch, by the number of the report.

use stentor_proto::etcdserverpb::WatchCreateRequest;
use stentor_watch::HubOptions;

use crate::by_hand::{from, key, range};
use crate::run::Run;
use crate::transcript::{Item, header_of, revision_of};

#[test]
fn etcd_14296_a_refusal_has_no_watchers_id() {
    let mut run = Run::plain();
    let client = run.client();
    run.create(client, key("a"));
    run.drain(client);
    for request in [range("b", "a"), from(-1, key("a")), WatchCreateRequest { watch_id: 3, ..key("x") }] {
        run.clients[client].stream.create(request.clone(), Ok(()));
        let first = run.response(client).unwrap();
        let refused = if first.canceled {
            first
        } else {
            run.clients[client].stream.create(request, Ok(()));
            run.response(client).unwrap()
        };
        assert!(refused.canceled);
        assert_eq!(refused.watch_id, -1);
    }
    run.put("a", "still there");
    assert_eq!(run.response(client).unwrap().watch_id, 0);
}

#[test]
fn etcd_15220_progress_does_not_overtake_events() {
    let mut run = Run::plain();
    let client = run.client();
    for _ in 0..20 {
        run.create(client, key("a"));
    }
    run.drain(client);
    for n in 0..50 {
        run.put("a", &n.to_string());
        run.clients[client].stream.request_progress();
        for _ in 0..n % 25 {
            run.step(client);
        }
    }
    run.drain(client);
    assert!(run.reached.notes_for_all > 5);
    run.check(true).unwrap();
}

#[test]
fn etcd_17529_hundreds_of_watchers_with_prev_kv_lose_nothing() {
    let mut run =
        Run::new(HubOptions { recent_bytes: 10_000, cache_bytes: 10_000, ..Default::default() }, Default::default());
    let client = run.client();
    for n in 0..500 {
        run.create(client, WatchCreateRequest { prev_kv: true, ..key(&format!("k{}", n % 25)) });
    }
    run.drain(client);
    for n in 0..200 {
        run.put(&format!("k{}", n % 25), &"v".repeat(100));
        for _ in 0..15 {
            run.step(client);
        }
    }
    run.drain(client);
    assert_eq!(run.reached.events, 200 * 20);
    run.check(true).unwrap();
}

#[test]
fn etcd_17555_compaction_past_a_stalled_reader_is_told() {
    for recent_bytes in [0, 1 << 20] {
        let mut run = Run::new(HubOptions { recent_bytes, cache_bytes: 0, ..Default::default() }, Default::default());
        let client = run.client();
        for n in 0..2000 {
            run.create(client, WatchCreateRequest { prev_kv: n % 2 == 0, ..key("a") });
        }
        run.drain(client);
        for n in 0..50 {
            run.put("a", &n.to_string());
        }
        run.compact(40);
        run.store.finish_compactions().unwrap();
        run.drain(client);
        // The events, or the cancel.
        run.check(true).unwrap();
        if recent_bytes == 0 {
            assert_eq!(run.reached.compacted, 2000);
        } else {
            assert_eq!(run.reached.events, 2000 * 50, "all of it is in memory, previous values too");
        }
    }
}

#[test]
fn etcd_17557_a_replay_that_matched_nothing_gets_progress() {
    let mut run = Run::forgetful();
    let client = run.client();
    run.put("b", "1");
    run.create(client, from(1, key("quiet")));
    run.clients[client].stream.request_progress();
    run.drain(client);
    assert_eq!((run.reached.events, run.reached.notes_for_all), (0, 1));
}

#[test]
fn etcd_18089_a_delete_at_the_compacted_revision_is_seen() {
    let mut run = Run::forgetful();
    let client = run.client();
    run.put("a", "1");
    run.delete("a");
    run.compact(3);
    run.store.finish_compactions().unwrap();
    run.create(client, from(3, key("a")));
    run.drain(client);
    assert_eq!(run.reached.events, 1);
    run.check(true).unwrap();
}

#[test]
fn etcd_19179_watching_from_the_compacted_revision_misses_no_delete() {
    let mut run = Run::forgetful();
    let client = run.client();
    for key in ["a", "b", "c"] {
        run.put(key, "1");
    }
    run.delete("a");
    run.delete("b");
    run.compact(5);
    run.store.finish_compactions().unwrap();
    run.create(client, WatchCreateRequest { prev_kv: true, ..from(5, range("a", "d")) });
    run.drain(client);
    assert_eq!((run.reached.events, run.reached.previous), (2, 2));
    run.check(true).unwrap();
}

#[test]
fn etcd_20221_a_future_start_gets_nothing_before_it() {
    let mut run = Run::plain();
    let client = run.client();
    let number = run.create(client, WatchCreateRequest { progress_notify: true, ..from(8, range("a", "z")) });
    run.drain(client);
    for _ in 0..5 {
        run.put("a", "early");
        run.clients[client].stream.tick();
        run.clients[client].stream.request_progress();
        run.drain(client);
    }
    assert_eq!(run.watched[number].items.len(), 1, "{:?}", run.watched[number].items);
    (0..3).for_each(|_| run.put("a", "late"));
    run.drain(client);
    assert_eq!(run.watched[number].events().map(revision_of).collect::<Vec<_>>(), [8, 9]);
    run.check(true).unwrap();
}

#[test]
fn etcd_20262_a_quiet_watcher_can_resume_after_compaction() {
    let mut run = Run::plain();
    let client = run.client();
    let number = run.create(client, WatchCreateRequest { progress_notify: true, ..key("quiet") });
    run.drain(client);
    (0..20).for_each(|_| run.put("other", "x"));
    run.compact(20);
    run.drain(client);
    run.store.finish_compactions().unwrap();
    run.break_stream(client);
    run.put("quiet", "at last");
    run.drain(client);
    assert!(!run.watched[number].is_over());
    assert_eq!(run.watched[number].events().count(), 1);
}

#[test]
fn etcd_20693_a_negative_start_harms_no_other() {
    let mut run = Run::forgetful();
    let client = run.client();
    (0..10).for_each(|_| run.put("a", "x"));
    let other = run.create(client, from(1, key("a")));
    run.create(client, from(-1, key("a")));
    run.drain(client);
    assert_eq!(run.watched[other].events().count(), 10);
}

#[test]
fn etcd_21174_each_of_many_overtaken_is_told_once() {
    let mut run = Run::forgetful();
    let client = run.client();
    (0..20).for_each(|_| run.put("a", "x"));
    for _ in 0..2000 {
        run.create(client, from(2, key("a")));
    }
    for _ in 0..2000 {
        run.step(client);
    }
    run.compact(15);
    run.drain(client);
    assert_eq!(run.reached.compacted, 2000);
    assert!(run.clients[client].stream.is_empty());
    for watched in &run.watched {
        let cancels = watched.items.iter().filter(|i| matches!(i, Item::Cancelled { compacted: 15, .. })).count();
        assert_eq!(cancels, 1);
    }
}

#[test]
fn etcd_19441_an_ordinary_catch_up_stays_below_message_limits() {
    let mut run = Run::forgetful();
    let client = run.client();
    (0..400).for_each(|_| run.put("a", &"v".repeat(20_000)));
    run.create(client, from(1, key("a")));
    let mut events = 0;
    while let Some(response) = run.response(client) {
        assert!(prost::Message::encoded_len(&response) <= 1 << 21);
        assert!(header_of(&response) <= 401);
        events += response.events.len();
    }
    assert_eq!(events, 400);
}
