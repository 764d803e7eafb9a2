//! What each member publishes: a watch of everything, over any number of streams. The first to tell of a revision
//! makes the log, the others must tell the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use stentor_checks::log::{Log, Published};
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use stentor_proto::mvccpb::Event;
use tokio::time::sleep;

use super::load::{Shared, count};
use super::stream;

/// Watches everything on one member, from the first revision on.
pub(super) async fn follow(shared: Arc<Shared>, member: usize) -> Result<()> {
    loop {
        follow_once(&shared, member).await.with_context(|| format!("the watcher of member {member}"))?;
        count(&shared.reached.resumed);
        sleep(Duration::from_millis(50)).await;
    }
}

async fn follow_once(shared: &Shared, member: usize) -> Result<()> {
    let next = &shared.next[member];
    let everything = Bytes::from_static(b"\0");
    let start_revision = next.load(Ordering::SeqCst);
    let create =
        WatchCreateRequest { key: everything.clone(), range_end: everything, start_revision, ..Default::default() };
    let Ok(mut stream) = stream::open(&shared.clients[member], create, false).await else { return Ok(()) };
    while let Ok(Some(told)) = stream.message().await {
        if told.canceled {
            ensure!(told.compact_revision == 0, "what it waits for was compacted: {told:?}");
            return Ok(());
        }
        let now = shared.now();
        let mut state = shared.lock();
        let after = publish(&mut state.log, next.load(Ordering::SeqCst), &told, now)?;
        next.store(after, Ordering::SeqCst);
        state.history.tell(after - 1);
    }
    Ok(())
}

/// Takes in a response to a watcher that has had every revision below `next`; the next one after it.
fn publish(log: &mut Log, next: i64, told: &WatchResponse, now: Duration) -> Result<i64> {
    let mut revisions: BTreeMap<i64, Vec<Published>> = BTreeMap::new();
    let mut due = next;
    for event in &told.events {
        let change = Published::of_event(event).map_err(|error| anyhow!(error))?;
        let last = revisions.last_key_value().map_or(next - 1, |(revision, _)| *revision);
        ensure!(change.revision == last || change.revision == due, "{} was sent where {due} was due", describe(event));
        due = change.revision + 1;
        revisions.entry(change.revision).or_default().push(change);
    }
    ensure!(!revisions.contains_key(&(next - 1)), "revision {} was sent again, or in two parts", next - 1);
    for (revision, changes) in &revisions {
        log.publish(*revision, changes, now).map_err(|error| anyhow!(error))?;
    }
    Ok(due)
}

fn describe(event: &Event) -> String {
    let kv = event.kv.clone().unwrap_or_default();
    format!("{:?} at {}", kv.key, kv.mod_revision)
}

#[cfg(test)]
mod tests {
    use stentor_proto::mvccpb::KeyValue;

    use super::*;

    fn event(revision: i64, key: &'static str) -> Event {
        let kv = KeyValue {
            key: key.into(),
            value: "v".into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        };
        Event { kv: Some(kv), ..Event::default() }
    }

    /// Another member has published revisions 2 to 4, and this one is told these from `next` on.
    fn told(next: i64, events: &[(i64, &'static str)]) -> Result<i64> {
        let mut log = Log::new();
        let response = |events: &[(i64, &'static str)]| WatchResponse {
            events: events.iter().map(|(revision, key)| event(*revision, key)).collect(),
            ..WatchResponse::default()
        };
        let all = [(2, "a"), (3, "b"), (3, "c"), (4, "d")];
        assert_eq!(publish(&mut log, 2, &response(&all), Duration::ZERO).ok(), Some(5));
        publish(&mut log, next, &response(events), Duration::ZERO)
    }

    #[test]
    fn a_member_tells_every_event_once_in_order_and_as_the_others() {
        assert_eq!(told(2, &[(2, "a"), (3, "b"), (3, "c")]).ok(), Some(4));
        assert_eq!(told(4, &[(4, "d"), (5, "e")]).ok(), Some(6));
        for (what, next, events) in [
            ("missing", 2, &[(3, "b"), (3, "c")][..]),
            ("missing in between", 2, &[(2, "a"), (4, "d")]),
            ("missing of a revision", 3, &[(3, "b"), (4, "d")]),
            ("repeated", 3, &[(2, "a"), (3, "b"), (3, "c")]),
            ("repeated in a response", 2, &[(2, "a"), (2, "a")]),
            ("the rest of a revision", 4, &[(3, "c"), (4, "d")]),
            ("reordered", 3, &[(4, "d"), (3, "b"), (3, "c")]),
            ("reordered within a revision", 3, &[(3, "c"), (3, "b")]),
            ("another", 4, &[(4, "x")]),
        ] {
            assert!(told(next, events).is_err(), "{what}");
        }
    }
}
