use stentor_proto::etcdserverpb::ResponseHeader;
use stentor_proto::mvccpb::KeyValue;
use stentor_proto::mvccpb::event::EventType;

use super::*;

fn pair(key: &'static str, value: &'static str, created: i64, revision: i64, version: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
        create_revision: created,
        mod_revision: revision,
        version,
        lease: 0,
    }
}

/// `a` put at 2 and 3, with `b` put at 3 as well; `a` deleted at 4.
fn events() -> Vec<Event> {
    let (first, second) = (pair("a", "1.", 2, 2, 1), pair("a", "2.", 2, 3, 2));
    let put = |kv: &KeyValue, before: Option<&KeyValue>| Event {
        kv: Some(kv.clone()),
        prev_kv: before.cloned(),
        ..Event::default()
    };
    let delete = Event {
        r#type: EventType::Delete.into(),
        kv: Some(KeyValue { key: "a".into(), mod_revision: 4, ..KeyValue::default() }),
        prev_kv: Some(second.clone()),
    };
    vec![put(&first, None), put(&second, Some(&first)), put(&pair("b", "2.", 3, 3, 1), None), delete]
}

fn log() -> Log {
    let mut log = Log::new();
    let events = events();
    for revision in 2..=4 {
        let changes = events.iter().map(|event| Published::of_event(event).unwrap());
        let changes: Vec<_> = changes.filter(|change| change.revision == revision).collect();
        log.publish(revision, &changes, Duration::ZERO).unwrap();
    }
    log
}

fn told(revision: i64, events: &[Event]) -> WatchResponse {
    let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
    WatchResponse { header, events: events.to_vec(), ..WatchResponse::default() }
}

/// A watch from 2 on that is told all this, and ended by its program.
fn record(responses: &[WatchResponse]) -> Result<Record> {
    let selection = Selection { keys: Keys::All, prev_kv: true, skip_puts: false, skip_deletes: false };
    let ask = Ask { selection, start: 2, notes: true, fragment: true, needs_leader: false };
    let mut record = Record::new(ask);
    for response in responses {
        record.take(response)?;
    }
    record.end.get_or_insert(None);
    Ok(record)
}

fn check(responses: &[WatchResponse]) -> Result<()> {
    record(responses)?.check(&log())
}

#[test]
fn what_a_watch_must_be_told_passes() {
    let e = events();
    check(&[told(4, &e)]).unwrap();
    check(&[told(2, &e[..1]), told(2, &[]), told(4, &e[1..]), told(4, &[])]).unwrap();
    check(&[told(3, &e[..3])]).unwrap();
}

#[test]
fn a_missing_repeated_or_reordered_event_is_found() {
    let e = events();
    let swapped = [e[0].clone(), e[2].clone(), e[1].clone(), e[3].clone()];
    for (what, responses) in [
        ("missing", vec![told(4, &e[1..])]),
        ("missing in between", vec![told(2, &e[..1]), told(4, &e[3..])]),
        ("missing of a revision", vec![told(3, &e[..2]), told(4, &e[3..])]),
        ("torn", vec![told(3, &e[..2])]),
        ("repeated", vec![told(2, &e[..1]), told(4, &e)]),
        ("reordered", vec![told(4, &e[1..]), told(2, &e[..1])]),
        ("reordered in a revision", vec![told(4, &swapped)]),
        ("ahead of its header", vec![told(3, &e)]),
        ("a note ahead of what came", vec![told(2, &e[..1]), told(3, &[])]),
    ] {
        assert!(check(&responses).is_err(), "{what}");
    }
    let mut another = e.clone();
    another[1].prev_kv = None;
    assert!(check(&[told(4, &another)]).is_err(), "another pair before");
}

#[test]
fn a_watch_that_lacks_something_in_the_end_is_found() {
    let mut short = record(&[told(3, &events()[..3])]).unwrap();
    short.end = None;
    assert!(short.missing(&log()).is_some());
    assert!(short.check(&log()).is_err());
}

#[test]
fn an_end_by_compaction_must_be_one() {
    let compacted = |at| WatchResponse { canceled: true, compact_revision: at, ..WatchResponse::default() };
    let mut log = log();
    assert!(record(&[compacted(3)]).unwrap().check(&log).is_err(), "nobody has compacted");
    log.compactions.insert(3);
    record(&[compacted(3)]).unwrap().check(&log).unwrap();
    let had = record(&[told(3, &events()[..3]), compacted(3)]).unwrap();
    assert!(had.check(&log).is_err(), "it had all that is gone");
}

#[test]
fn a_watch_from_now_on_begins_where_its_member_says() {
    let created = |revision| WatchResponse { created: true, ..told(revision, &[]) };
    let mut now = record(&[]).unwrap();
    (now.ask.start, now.start, now.cursor) = (0, None, 0);
    now.take(&created(2)).unwrap();
    now.take(&created(3)).unwrap();
    now.take(&told(4, &events()[1..])).unwrap();
    now.check(&log()).unwrap();
    assert!(now.take(&told(4, &events()[3..])).is_err(), "again");
}

#[test]
fn parts_make_a_whole() {
    let e = events();
    let mut parts = Vec::new();
    assert_eq!(whole(&mut parts, WatchResponse { fragment: true, ..told(4, &e[..2]) }), None);
    assert_eq!(whole(&mut parts, told(4, &e[2..])), Some(told(4, &e)));
    assert_eq!(whole(&mut parts, told(5, &[])), Some(told(5, &[])), "nothing is left over");
}
