//! Endpoints that come and go, and what the client tells of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stentor_client::{Client, ClientEvent, Counter, ErrorKind, Events, Interruption, KeyRange, Metrics, WatchItem};

use crate::harness::{PATIENCE, Rig, until};

/// What a client has told.
#[derive(Clone, Default)]
struct Told {
    events: Arc<Mutex<Vec<ClientEvent>>>,
    counts: Arc<Mutex<HashMap<&'static str, u64>>>,
}

impl Metrics for Told {
    fn add(&self, counter: Counter, by: u64) {
        *self.counts.lock().unwrap().entry(counter.name()).or_default() += by;
    }
}

impl Told {
    fn saw(&self, wanted: impl Fn(&ClientEvent) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(wanted)
    }

    fn count(&self, counter: Counter) -> u64 {
        self.counts.lock().unwrap().get(counter.name()).copied().unwrap_or(0)
    }
}

/// A member under `a:1` and `b:1`, of which the first alone is given to the client.
async fn scene(flags: &[&str]) -> (Rig, Client, Told) {
    let rig = Rig::with_flags(flags).await;
    rig.open("a:1");
    rig.open("b:1");
    let told = Told::default();
    let events = told.events.clone();
    let client = rig.by_address(&["a:1"]).metrics(told.clone());
    let client = client.on_event(move |event| events.lock().unwrap().push(event.clone())).build().unwrap();
    (rig, client, told)
}

async fn next(events: &mut Events) -> String {
    let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("an event is due").unwrap().unwrap();
    String::from_utf8(event.kv().value().to_vec()).unwrap()
}

fn names(client: &Client) -> Vec<String> {
    client.endpoints().iter().map(ToString::to_string).collect()
}

fn streams(client: &Client) -> Vec<(String, usize)> {
    let endpoints = client.status().endpoints.into_iter();
    endpoints.map(|status| (status.endpoint.to_string(), status.watch_streams)).collect()
}

#[tokio::test(start_paused = true)]
async fn calls_and_watches_move_to_the_endpoints_that_are_set() {
    let (rig, client, told) = scene(&[]).await;
    let mut events = client.watch(KeyRange::key("k")).await.unwrap().into_events();
    let mut notices = client.watch(KeyRange::key("none")).notices().await.unwrap();
    client.put("k", "1").await.unwrap();
    assert_eq!(next(&mut events).await, "1");
    assert_eq!(streams(&client), [("a:1".to_owned(), 1)]);
    client.set_endpoints(["b:1"]).unwrap();
    until(|| streams(&client) == [("b:1".to_owned(), 1)]).await;
    rig.shut("a:1").await;
    client.put("k", "2").await.unwrap();
    assert_eq!(next(&mut events).await, "2");
    let why = notices.next().await.unwrap().unwrap();
    assert!(matches!(why, WatchItem::Interrupted(Interruption::Moved)), "{why:?}");
    let back = notices.next().await.unwrap().unwrap();
    assert!(matches!(&back, WatchItem::Resumed { endpoint, .. } if endpoint.as_str() == "b:1"), "{back:?}");
    assert!(told.saw(|e| matches!(e, ClientEvent::WatchInterrupted { watchers: 2, .. })));
    assert!(told.saw(|e| matches!(e, ClientEvent::WatchResumed { endpoint, .. } if endpoint.as_str() == "b:1")));
    assert!(!told.saw(|e| matches!(e, ClientEvent::EndpointDown { .. })), "nothing was wrong");
    assert_eq!(told.count(Counter::Resumes), 2);
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_cannot_be_used_change_nothing() {
    let (_rig, client, _) = scene(&[]).await;
    for bad in [&[][..], &["b:1", "nonsense"], &["https://b:1"]] {
        assert_eq!(*client.set_endpoints(bad).unwrap_err().kind(), ErrorKind::InvalidEndpoint);
        assert_eq!(names(&client), ["a:1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_cluster_names_its_endpoints() {
    let (_rig, client, _) = scene(&["--advertise-client-urls=http://a:1,http://b:1"]).await;
    client.sync_endpoints().await.unwrap();
    assert_eq!(names(&client), ["a:1", "http://b:1"], "the one that was known is kept as it is");
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_synced_at_an_interval_from_the_first_call_on() {
    let rig = Rig::with_flags(&["--advertise-client-urls=http://b:1"]).await;
    rig.open("a:1");
    rig.open("b:1");
    let client = rig.by_address(&["a:1"]).sync_endpoints_every(Duration::from_secs(10)).build().unwrap();
    client.get("k").await.unwrap();
    assert_eq!(names(&client), ["a:1"]);
    until(|| names(&client) == ["http://b:1"]).await;
    rig.shut("a:1").await;
    client.get("k").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_seen_in_status_events_and_counters() {
    let (rig, client, told) = scene(&[]).await;
    let mut events = client.watch(KeyRange::key("k")).await.unwrap().into_events();
    let well = client.status();
    assert_eq!((well.watch_streams, well.watchers), (1, 1));
    assert!(well.endpoints.iter().all(|e| e.trouble.is_none() && e.last_error.is_none()));
    rig.shut("a:1").await;
    until(|| client.status().endpoints[0].trouble.is_some()).await;
    assert_eq!(client.status().watch_streams, 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    let (reason, since) = client.status().endpoints[0].trouble.clone().unwrap();
    assert!(since >= Duration::from_secs(1) && !reason.is_empty(), "{reason} {since:?}");
    rig.open("a:1");
    until(|| client.status().watch_streams == 1).await;
    client.put("k", "1").await.unwrap();
    assert_eq!(next(&mut events).await, "1");
    let again = client.status().endpoints.remove(0);
    assert!(again.trouble.is_none() && again.last_error.is_some());
    let kinds = told.events.lock().unwrap().clone();
    for (what, seen) in [
        ("down", told.saw(|e| matches!(e, ClientEvent::EndpointDown { .. }))),
        ("up", told.saw(|e| matches!(e, ClientEvent::EndpointUp { .. }))),
        ("interrupted", told.saw(|e| matches!(e, ClientEvent::WatchInterrupted { .. }))),
        ("resumed", told.saw(|e| matches!(e, ClientEvent::WatchResumed { gap, .. } if *gap >= since))),
        ("reconnected", told.saw(|e| matches!(e, ClientEvent::Reconnected { .. }))),
    ] {
        assert!(seen, "{what} is missing: {kinds:?}");
    }
    assert_eq!(told.count(Counter::Resumes), 1);
    assert!(told.count(Counter::Calls) > 0 && told.count(Counter::Reconnects) > 0);
    drop(events);
    until(|| client.status().watchers == 0).await;
}

#[tokio::test(start_paused = true)]
async fn streams_go_back_to_an_endpoint_that_returned_and_nothing_is_missed() {
    const WATCHES: usize = 300; // More than one stream takes.
    let rig = Rig::start().await;
    rig.open("a:1");
    let client = rig.by_address(&["a:1", "b:1"]).rebalance(Duration::from_secs(10)).build().unwrap();
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        watches.push(client.watch(KeyRange::key("k")).await.unwrap().into_events());
    }
    assert_eq!(streams(&client), [("a:1".to_owned(), 2), ("b:1".to_owned(), 0)]);
    client.put("k", "0").await.unwrap();
    rig.open("b:1");
    // Written all the while.
    let mut written = 0;
    let even = [("a:1".to_owned(), 1), ("b:1".to_owned(), 1)];
    while streams(&client) != even {
        assert!(written < 1000, "the streams stay where they are: {:?}", streams(&client));
        written += 1;
        client.put("k", written.to_string()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.put("k", "end").await.unwrap();
    for watch in &mut watches {
        for expected in 0..=written {
            assert_eq!(next(watch).await, expected.to_string());
        }
        assert_eq!(next(watch).await, "end");
    }
    assert_eq!(streams(&client), even);
}
