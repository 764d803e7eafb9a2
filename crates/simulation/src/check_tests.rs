use super::*;
use crate::log::tests::log;
use crate::watcher::{Ask, Before, Keys, Seen, Taken};

/// All of the log but its first revision, with what was there before, as a watch must see it.
fn right() -> Vec<Taken> {
    let log = log();
    let taken = |revision: i64| Taken { revision, events: log.at(revision).iter().map(seen).collect() };
    vec![taken(3), taken(4)]
}

fn seen(change: &Change) -> Seen {
    let before = match change.before.clone() {
        Some(pair) => Before::Pair(change.key.clone().into(), pair),
        None => Before::Nothing,
    };
    Seen { key: change.key.clone().into(), revision: change.revision, after: change.after.clone(), before }
}

fn record(taken: Vec<Taken>) -> Record {
    let ask = Ask {
        keys: Keys::All,
        start: Start::From(3),
        prev_kv: true,
        skip_puts: false,
        skip_deletes: false,
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
        items: taken.into_iter().map(Item::Events).collect(),
        position: None,
        end: None,
    }
}

fn wrong(record: &Record) -> bool {
    check(record, &log(), &Excuses::default()).is_err()
}

#[test]
fn what_the_log_says_passes() {
    assert_eq!(check(&record(right()), &log(), &Excuses::default()), Ok(()));
    assert_eq!(check(&record(right()[..1].to_vec()), &log(), &Excuses::default()), Ok(()), "the rest is to come");
}

#[test]
fn a_missing_repeated_or_reordered_event_is_found() {
    let missing = right()[1..].to_vec();
    assert!(wrong(&record(missing)));
    let repeated = [right(), right()[1..].to_vec()].concat();
    assert!(wrong(&record(repeated)));
    let reordered = right().into_iter().rev().collect();
    assert!(wrong(&record(reordered)));
    let mut within = right();
    within[0].events.reverse();
    assert!(wrong(&record(within)), "within a revision too");
    let mut torn = right();
    torn[0].events.pop();
    assert!(wrong(&record(torn)), "a batch is said to be whole");
}

#[test]
fn another_event_is_found() {
    let mut value = right();
    value[0].events[0].after.iter_mut().for_each(|pair| pair.value = "other".into());
    assert!(wrong(&record(value)));
    let mut before = right();
    before[0].events[0].before = Before::Nothing;
    assert!(wrong(&record(before)));
    let mut unknown = right();
    unknown[1].events[0].before = Before::Unknown;
    assert!(wrong(&record(unknown)));
    let mut kind = right();
    kind[0].events[0].after = None;
    assert!(wrong(&record(kind)));
}

#[test]
fn a_note_or_position_ahead_of_what_came_is_found() {
    let mut noted = record(right()[..1].to_vec());
    noted.items.push(Item::Progress(3));
    assert!(!wrong(&noted));
    noted.items.push(Item::Progress(4));
    assert!(wrong(&noted));
    let mut ahead = record(right()[..1].to_vec());
    ahead.position = Some(4);
    assert!(wrong(&ahead));
}

#[test]
fn an_end_without_a_reason_is_found() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Compacted { at: stentor_client::Revision::FIRST }] {
        let mut ended = record(right());
        ended.end = Some((End::Error(kind, String::new()), Duration::from_secs(1)));
        assert!(wrong(&ended));
    }
    let mut silent = record(right());
    silent.end = Some((End::Silent, Duration::from_secs(1)));
    assert!(wrong(&silent));
}
