use super::*;
use crate::log::tests::log;

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

/// A watch from revision 3 on, with previous pairs, that is told these and then promised this.
fn told(batches: &[Taken], promised: i64) -> Result<(), String> {
    let log = log();
    let selection = Selection { keys: Keys::All, prev_kv: true, skip_puts: false, skip_deletes: false };
    let mut follower = Follower::new(selection.due(&log, 3), true);
    batches.iter().try_for_each(|batch| follower.take(batch))?;
    follower.promised(promised, "a note")
}

#[test]
fn what_the_log_says_passes() {
    assert_eq!(told(&right(), 4), Ok(()));
    assert_eq!(told(&right()[..1], 3), Ok(()), "the rest is to come");
}

#[test]
fn a_missing_repeated_or_reordered_event_is_found() {
    assert!(told(&right()[1..], 0).is_err(), "missing");
    let repeated = [right(), right()[1..].to_vec()].concat();
    assert!(told(&repeated, 0).is_err(), "repeated");
    let reordered: Vec<_> = right().into_iter().rev().collect();
    assert!(told(&reordered, 0).is_err(), "reordered");
    let mut within = right();
    within[0].events.reverse();
    assert!(told(&within, 0).is_err(), "within a revision too");
    let mut torn = right();
    torn[0].events.pop();
    assert!(told(&torn, 0).is_err(), "a batch is said to be whole");
}

#[test]
fn another_event_is_found() {
    let mut value = right();
    value[0].events[0].after.iter_mut().for_each(|pair| pair.value = "other".into());
    assert!(told(&value, 0).is_err());
    let mut before = right();
    before[0].events[0].before = Before::Nothing;
    assert!(told(&before, 0).is_err());
    let mut unknown = right();
    unknown[1].events[0].before = Before::Unknown;
    assert!(told(&unknown, 0).is_err());
    let mut kind = right();
    kind[0].events[0].after = None;
    assert!(told(&kind, 0).is_err());
}

#[test]
fn a_promise_ahead_of_what_came_is_found() {
    assert_eq!(told(&right()[..1], 3), Ok(()));
    assert!(told(&right()[..1], 4).is_err());
}

#[test]
fn what_a_selection_leaves_out_is_not_due() {
    let log = log();
    let due = |keys, skip_puts, skip_deletes| {
        let selection = Selection { keys, prev_kv: false, skip_puts, skip_deletes };
        selection.due(&log, 1).count()
    };
    assert_eq!(due(Keys::All, false, false), 5);
    assert_eq!(due(Keys::All, true, false), 2);
    assert_eq!(due(Keys::All, false, true), 3);
    assert_eq!(due(Keys::Key("a".to_owned()), false, false), 3);
    assert_eq!(due(Keys::Interval("b".to_owned(), "c".to_owned()), false, false), 2);
    assert_eq!(due(Keys::Segment("a/b".to_owned()), false, false), 0);
}
