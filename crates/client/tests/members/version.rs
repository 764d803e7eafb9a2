//! Servers whose versions are known to have faults, with a server that says it is of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prost::Message as _;
use stentor_client::{Client, ClientEvent, KeyRange, Revision};
use stentor_proto::etcdserverpb::{RangeResponse, ResponseHeader, StatusResponse, WatchResponse};
use tokio::task::JoinSet;

use crate::harness::{soon, until};
use crate::members::scripted;

/// How often a client of two watch streams that go to a server of this version asks for it, and tells that it has
/// faults.
async fn told(version: &'static str) -> Vec<String> {
    let asked = Arc::new(AtomicU64::new(0));
    let (told, mut events) = tokio::sync::mpsc::unbounded_channel();
    let (counted, ids) = (asked.clone(), AtomicI64::new(0));
    let builder = scripted::client(move |call| {
        let header = Some(ResponseHeader { cluster_id: 7, revision: 5, ..ResponseHeader::default() });
        if call.path.ends_with("/Watch") {
            let watch_id = ids.fetch_add(1, Ordering::Relaxed);
            return Ok(scripted::frames([WatchResponse {
                header,
                watch_id,
                created: true,
                ..WatchResponse::default()
            }]));
        }
        if call.path.ends_with("/Range") {
            return Ok(RangeResponse { header, ..RangeResponse::default() }.encode_to_vec());
        }
        assert!(call.path.ends_with("/Status"), "{}", call.path);
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(StatusResponse { header, version: version.into(), leader: 1, ..StatusResponse::default() }.encode_to_vec())
    });
    let client = builder.on_event(move |event| drop(told.send(event.clone()))).build().unwrap();
    let _watches = watches(&client, 300).await;
    // Each stream asks.
    until(|| asked.load(Ordering::Relaxed) == 2).await;
    // The answers are taken before the client is closed.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    drop(client);
    let mut found = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let ClientEvent::FlawedServer { endpoint, version, flaw } = event {
            found.push(format!("{endpoint} {version} {flaw}"));
        }
    }
    found
}

/// More than one stream takes.
async fn watches(client: &Client, count: usize) -> Vec<stentor_client::Watch> {
    let mut starting = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        starting.spawn(async move { client.watch(KeyRange::key("k")).after(Revision::FIRST).await.unwrap() });
    }
    soon(starting.join_all()).await
}

#[tokio::test(start_paused = true)]
async fn a_version_with_faults_is_told_once() {
    let flawed = told("3.5.1").await;
    assert_eq!(flawed.len(), 1, "{flawed:?}");
    assert!(flawed[0].starts_with("a:1 3.5.1 progress notes"), "{flawed:?}");
    assert_eq!(told("3.7.3").await, Vec::<String>::new());
}
