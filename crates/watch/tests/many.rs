//! Many watchers.

use crate::by_hand::{from, key, range};
use crate::run::Run;

#[test]
fn ten_thousand_on_a_stream_get_what_is_theirs() {
    let mut run = Run::plain();
    let client = run.client();
    for n in 0..10_000 {
        run.create(client, key(&format!("/k/{n:05}")));
    }
    run.create(client, range("/k/00050", "/k/00060"));
    run.drain(client);
    for n in 0..100 {
        run.put(&format!("/k/{n:05}"), "v");
    }
    run.drain(client);
    assert_eq!(run.reached.events, 110);
    assert_eq!(run.hub.gauges().watchers(), 10_001);
    run.clients.clear();
    assert_eq!(run.hub.gauges().watchers(), 0);
    assert_eq!(run.hub.gauges().streams, 0);
}

#[test]
fn ten_thousand_on_a_key_each_get_it() {
    let mut run = Run::plain();
    let client = run.client();
    for _ in 0..10_000 {
        run.create(client, key("a"));
    }
    run.drain(client);
    run.put("a", "1");
    run.step(client);
    assert_eq!(run.hub.gauges().victims, 9_999);
    run.drain(client);
    assert_eq!((run.reached.events, run.hub.gauges().victims), (10_000, 0));
}

#[test]
fn watchers_at_one_place_share_a_read() {
    let mut run = Run::forgetful();
    run.options.cache_bytes = 8 << 20;
    run.reopen();
    let client = run.client();
    (0..3000).for_each(|_| run.put("a", "x"));
    for _ in 0..50 {
        run.create(client, from(1, key("a")));
    }
    run.drain(client);
    assert_eq!(run.reached.events, 150_000);
    assert!(run.reached.reads <= 10, "{} reads", run.reached.reads);
}
