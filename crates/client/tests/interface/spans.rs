//! The spans that a client makes, as somebody sees them who listens.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stentor_client::{KeyRange, WatchItem};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::harness::Rig;

/// A span, with the newest value of each field.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    fields: BTreeMap<&'static str, String>,
    events: Vec<String>,
    closed: bool,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

/// Keeps all spans of the client.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Spans>>);

#[derive(Default)]
struct Spans {
    all: Vec<Seen>,
    /// How many handles each has.
    held: Vec<usize>,
    entered: Vec<usize>,
}

fn place(id: &Id) -> usize {
    id.into_u64() as usize - 1
}

impl Listener {
    fn of(&self, name: &str) -> Vec<Seen> {
        self.0.lock().unwrap().all.iter().filter(|span| span.name == name).cloned().collect()
    }

    fn only(&self, name: &str) -> Seen {
        let found = self.of(name);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "stentor_client" && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut seen = Seen { name: attributes.metadata().name(), ..Seen::default() };
        attributes.record(&mut seen);
        let spans = &mut *self.0.lock().unwrap();
        spans.all.push(seen);
        spans.held.push(1);
        Id::from_u64(spans.all.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        values.record(&mut self.0.lock().unwrap().all[place(id)]);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    write!(self.0, "{value:?}").unwrap();
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let spans = &mut *self.0.lock().unwrap();
        let within = spans.entered.last().copied().expect("each event is within a span");
        spans.all[within].events.push(message.0);
    }

    fn enter(&self, id: &Id) {
        self.0.lock().unwrap().entered.push(place(id));
    }

    fn exit(&self, id: &Id) {
        assert_eq!(self.0.lock().unwrap().entered.pop(), Some(place(id)));
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.0.lock().unwrap().held[place(id)] += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let spans = &mut *self.0.lock().unwrap();
        spans.held[place(&id)] -= 1;
        spans.all[place(&id)].closed = spans.held[place(&id)] == 0;
        spans.all[place(&id)].closed
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_and_the_connection_it_needs_have_theirs() {
    let rig = Rig::start().await;
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    rig.client().put("key", "secret").await.unwrap();
    let call = listener.only("call");
    assert_eq!((&*call.fields["request"], &*call.fields["tries"]), ("\"PutRequest\"", "1"));
    assert!(call.closed);
    let dial = listener.only("dial");
    assert_eq!(dial.fields["endpoint"], call.fields["endpoint"]);
    let all = format!("{:?}", listener.0.lock().unwrap().all);
    assert!(!all.contains("secret"), "{all}");
}

#[tokio::test(start_paused = true)]
async fn a_call_says_where_it_was_answered() {
    let rig = Rig::start().await;
    rig.open("b:1");
    // The first address leads nowhere.
    let client = rig.by_address(&["a:1", "b:1"]).build().unwrap();
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    for _ in 0..2 {
        client.get("key").await.unwrap();
    }
    for call in listener.of("call") {
        assert_eq!((&*call.fields["request"], &*call.fields["endpoint"]), ("\"RangeRequest\"", "b:1"));
    }
    assert!(listener.of("dial").iter().any(|dial| dial.fields["endpoint"] == "a:1" && dial.closed));
}

#[tokio::test(start_paused = true)]
async fn a_watch_has_one_for_all_its_life() {
    let rig = Rig::start().await;
    let client = rig.client();
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let mut watch = client.watch(KeyRange::prefix("a/")).notices().await.unwrap();
    let begun = listener.only("watch");
    assert_eq!((&*begun.fields["range"], &*begun.fields["from"]), ("[\"a/\", \"a0\")", "2"));
    assert_eq!(begun.events, ["the watch is served"]);
    assert!(begun.fields.contains_key("id") && begun.fields.contains_key("endpoint"));
    rig.put("a/1", "secret").await;
    watch.next().await.unwrap().unwrap();
    rig.wire.cut();
    while !matches!(watch.next().await, Some(Ok(WatchItem::Resumed { .. }))) {}
    let resumed = listener.only("watch");
    assert_eq!(resumed.fields["from"], "3");
    assert_eq!(resumed.events, ["the watch is served", "the watch is interrupted", "the watch is served"]);
    assert!(!resumed.closed);
    drop(watch);
    drop(client);
    // The client's task lets go of the watcher.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(listener.only("watch").closed);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_says_so_in_it() {
    let rig = Rig::start().await;
    for _ in 0..4 {
        rig.put("a", "1").await;
    }
    rig.compact(stentor_client::Revision::new(4).unwrap()).await;
    let client = rig.client();
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    client.watch("a").from(stentor_client::Revision::new(2).unwrap()).await.unwrap_err();
    let failed = listener.only("watch");
    assert_eq!(failed.events.last().unwrap(), "the watch ends");
    assert!(failed.closed);
}
