use stentor_checks::log::{Pair, Published};
use stentor_checks::watch::{Before, Keys, Seen, Selection, Taken};

use super::*;
use crate::watcher::Ask;

fn pair(revision: i64) -> Pair {
    Pair { value: format!("{revision}.").into(), created: revision, modified: revision, version: 1, lease: 0 }
}

/// Keys `2`, `3` and `4`, each put at its revision.
fn log() -> Log {
    let mut log = Log::new();
    for revision in 2..=4 {
        let change = Published { revision, key: revision.to_string(), after: Some(pair(revision)) };
        log.publish(revision, &[change], Duration::ZERO).unwrap();
    }
    log
}

fn taken(revision: i64) -> Taken {
    let key = revision.to_string().into();
    Taken { revision, events: vec![Seen { key, revision, after: Some(pair(revision)), before: Before::NotAsked }] }
}

/// A watch from revision 3 on that has taken these.
fn record(revisions: &[i64]) -> Record {
    let selection = Selection { keys: Keys::All, prev_kv: false, skip_puts: false, skip_deletes: false };
    let ask = Ask {
        selection,
        start: Start::From(3),
        progress: false,
        fragment: false,
        buffer_bytes: None,
        slow: None,
        gives_up: None,
    };
    Record {
        name: "w".to_owned(),
        ask,
        asked_at: Duration::ZERO,
        asked_revision: 4,
        created: Some((Some(2), 4)),
        items: revisions.iter().map(|revision| Item::Events(taken(*revision))).collect(),
        position: None,
        end: None,
    }
}

fn wrong(record: &Record) -> bool {
    check(record, &log(), &Excuses::default()).is_err()
}

#[test]
fn what_the_log_says_passes() {
    assert!(!wrong(&record(&[3, 4])));
    assert!(!wrong(&record(&[3])), "the rest is to come");
}

#[test]
fn what_a_watch_takes_is_held_against_the_log() {
    for revisions in [&[4][..], &[3, 3], &[4, 3], &[2, 3]] {
        assert!(wrong(&record(revisions)), "{revisions:?}");
    }
}

#[test]
fn a_note_or_position_ahead_of_what_came_is_found() {
    let mut noted = record(&[3]);
    noted.items.push(Item::Progress(3));
    assert!(!wrong(&noted));
    noted.items.push(Item::Progress(4));
    assert!(wrong(&noted));
    let mut ahead = record(&[3]);
    ahead.position = Some(4);
    assert!(wrong(&ahead));
}

#[test]
fn a_watch_that_begins_too_early_is_found() {
    let mut begun = record(&[3, 4]);
    (begun.ask.start, begun.asked_revision) = (Start::Now, 2);
    assert!(!wrong(&begun));
    begun.asked_revision = 3;
    assert!(wrong(&begun));
}

#[test]
fn an_end_without_a_reason_is_found() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Compacted { at: stentor_client::Revision::FIRST }] {
        let mut ended = record(&[3, 4]);
        ended.end = Some((End::Error(kind, String::new()), Duration::from_secs(1)));
        assert!(wrong(&ended));
    }
    let mut silent = record(&[3, 4]);
    silent.end = Some((End::Silent, Duration::from_secs(1)));
    assert!(wrong(&silent));
}
