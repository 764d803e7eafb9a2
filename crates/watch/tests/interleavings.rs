//! A writer, streams and the task that wakes them, on threads whose order shuttle chooses: no change is
//! missed, none comes early, and nobody sleeps on (which shuttle reports as a deadlock).
//!
//! `cargo xtask test` builds this with `--cfg shuttle`. `STENTOR_SCHEDULES` sets how many orders are tried.
//! A failing one is printed; `shuttle::replay` runs it again.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ops::ControlFlow;
use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::thread;
use stentor_mvcc::{ChangeId, Commit, Error, Observer as _, Record};
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::WatchCreateRequest;
use stentor_proto::mvccpb::KeyValue;
use stentor_watch::{History, Hub, HubOptions, Moment, StreamOptions, Tip, WatchStream};

/// What is written: the keys of revisions 2 and on, by commit.
const COMMITS: [&[&str]; 3] = [&["a"], &["b", "a"], &["a"]];
const NEWEST: i64 = 5;

fn at(revision: i64) -> Revision {
    Revision::new(revision).unwrap()
}

fn record(revision: i64, key: &str) -> Record {
    let pair =
        KeyValue { key: key.to_owned().into(), create_revision: 1, mod_revision: revision, ..KeyValue::default() };
    Record::put(ChangeId { revision: at(revision), sub: 0 }, 0, None, &pair)
}

fn commits() -> Vec<Commit> {
    let mut revision = 1;
    let mut commit = |keys: &&[&str]| {
        let records: Vec<Record> = keys
            .iter()
            .map(|key| {
                revision += 1;
                record(revision, key)
            })
            .collect();
        Commit { records: records.into(), revision: at(revision), compacted: None }
    };
    COMMITS.iter().map(&mut commit).collect()
}

/// All that is ever written: what a watcher reads that was created late.
struct Written;

impl History for Written {
    fn now(&self) -> Box<dyn Moment> {
        Box::new(Written)
    }
}

impl Moment for Written {
    fn revision(&self) -> Revision {
        at(NEWEST)
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
        for record in commits().iter().flat_map(|commit| commit.records.iter()) {
            if from <= record.id.revision && record.id.revision <= to && take(record.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn pair_at(&self, _: &[u8], _: Revision) -> Result<Option<KeyValue>, Error> {
        Ok(None)
    }
}

fn hub(recent_bytes: usize) -> Arc<Hub> {
    let tip = Tip { revision: at(1), compacted: None };
    Hub::new(Arc::new(Written), tip, HubOptions { recent_bytes, ..HubOptions::default() })
}

fn write(hub: &Hub) {
    for commit in commits() {
        hub.committed(&commit);
        hub.answered();
    }
}

fn request(key: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), start_revision, ..WatchCreateRequest::default() }
}

/// Reads until the revision `until` came as an event; returns the created revision and those of the events.
async fn read_until(stream: &mut WatchStream, until: i64) -> (i64, Vec<i64>) {
    let (mut created, mut events) = (0, Vec::new());
    while events.last() != Some(&until) {
        let Some(response) = stream.next_response() else {
            stream.changed().await;
            continue;
        };
        if response.created {
            created = response.header.unwrap().revision;
        }
        events.extend(response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
    }
    (created, events)
}

/// A watcher of `a` from `start` (0: from now) gets each of its changes, once.
async fn watch_a(hub: Arc<Hub>, start: i64) {
    let mut stream = WatchStream::open(&hub, StreamOptions::default());
    // Something to come after all others, so that the end is seen whenever it was created.
    stream.create(request("a", start), Ok(()));
    let from = if start == 0 { None } else { Some(start) };
    if from.is_none() {
        let created = stream.next_response().unwrap();
        let from = created.header.unwrap().revision + 1;
        let expected: Vec<i64> = [2, 4, 5].into_iter().filter(|revision| *revision >= from).collect();
        if let Some(last) = expected.last() {
            assert_eq!(read_until(&mut stream, *last).await.1, expected, "from {from} on");
        }
    } else {
        let expected: Vec<i64> = [2, 4, 5].into_iter().filter(|revision| *revision >= start).collect();
        assert_eq!(read_until(&mut stream, 5).await.1, expected);
    }
    assert!(stream.next_response().is_none());
}

fn schedules() -> usize {
    std::env::var("STENTOR_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(scenario, schedules());
}

#[test]
fn a_watcher_created_beside_writes_misses_nothing() {
    for start in [0, 1, 4, 5] {
        explore(move || {
            let hub = hub(1 << 20);
            let writer = thread::spawn({
                let hub = hub.clone();
                move || write(&hub)
            });
            block_on(watch_a(hub, start));
            writer.join().unwrap();
        });
    }
}

#[test]
fn neither_does_one_that_finds_memory_empty() {
    explore(|| {
        let hub = hub(0);
        let writer = thread::spawn({
            let hub = hub.clone();
            move || write(&hub)
        });
        block_on(watch_a(hub, 0));
        writer.join().unwrap();
    });
}

#[test]
fn streams_that_a_task_wakes_and_streams_that_end_are_in_nobodys_way() {
    explore(|| {
        let hub = hub(1 << 20);
        let waking = shuttle::future::spawn(hub.clone().wake_streams());
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let hub = hub.clone();
                thread::spawn(move || block_on(watch_a(hub, 0)))
            })
            .collect();
        let leaver = thread::spawn({
            let hub = hub.clone();
            move || {
                let mut stream = WatchStream::open(&hub, StreamOptions::default());
                stream.create(request("a", 0), Ok(()));
                stream.cancel(0);
                stream.create(request("b", 0), Ok(()));
            }
        });
        write(&hub);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        leaver.join().unwrap();
        waking.abort();
        assert_eq!(hub.gauges().streams, 0);
    });
}

#[test]
fn a_note_of_progress_at_a_revision_still_to_come_is_woken_for() {
    explore(|| {
        let hub = hub(1 << 20);
        let writer = thread::spawn({
            let hub = hub.clone();
            move || write(&hub)
        });
        block_on(async {
            let mut stream = WatchStream::open(&hub, StreamOptions::default());
            stream.create(request("nobody writes it", NEWEST), Ok(()));
            stream.request_progress();
            let mut note = None;
            while note.is_none() {
                match stream.next_response() {
                    Some(response) if response.watch_id == -1 => note = response.header,
                    Some(_) => {}
                    None => stream.changed().await,
                }
            }
            assert_eq!(note.unwrap().revision, NEWEST);
        });
        writer.join().unwrap();
    });
}
