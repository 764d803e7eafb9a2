use super::*;
use crate::log::Published;
use crate::log::tests::{delete, put};

/// Key `a`: put by operation 0 at 2, by 1 at 3, deleted by 2 at 4.
fn log() -> Log {
    let mut log = Log::new();
    let changes: [Published; 3] = [put(2, "a", "0.", 2, 1), put(3, "a", "1.", 2, 2), delete(4, "a")];
    changes.iter().for_each(|c| log.publish(c.revision, std::slice::from_ref(c), Duration::from_secs(9)).unwrap());
    log
}

fn asks_put(value: &'static str) -> Ask {
    Ask::Put { key: "a".to_owned(), value: value.into(), lease: 0 }
}

fn read(serializable: bool) -> Ask {
    Ask::Read { keys: Keys::Prefix(String::new()), serializable }
}

fn a(value: &'static str, modified: i64, version: u64) -> Pairs {
    let pair = Pair { value: value.into(), created: 2, modified, version, lease: 0 };
    [("a".to_owned(), pair)].into()
}

/// Each operation is asked for after those before it were answered.
fn history(operations: &[(Ask, Option<(i64, Answer)>)]) -> History {
    let mut history = History::default();
    for (ask, answer) in operations {
        let at = history.ask(format!("o{}", history.operations.len()), ask.clone());
        if let Some((revision, answer)) = answer {
            history.answer(at, *revision, answer.clone());
        }
    }
    history
}

fn writes() -> Vec<(Ask, Option<(i64, Answer)>)> {
    vec![
        (asks_put("0."), Some((2, Answer::Done))),
        (asks_put("1."), Some((3, Answer::Done))),
        (Ask::Delete(Keys::One("a".to_owned())), Some((4, Answer::Deleted(1)))),
    ]
}

fn with(more: Vec<(Ask, Option<(i64, Answer)>)>) -> History {
    history(&[writes(), more].concat())
}

#[test]
fn what_is_linearizable_passes() {
    assert_eq!(history(&writes()).check(&log()).wrong, [""; 0]);
    let txn = |unless_changed_after| Ask::Txn {
        key: "a".to_owned(),
        unless_changed_after,
        writes: vec![("a".to_owned(), None)],
    };
    let more = vec![
        (read(false), Some((4, Answer::Read(Pairs::new())))),
        (read(true), Some((3, Answer::Read(a("1.", 3, 2))))),
        (Ask::Delete(Keys::One("a".to_owned())), Some((4, Answer::Deleted(0)))),
        (txn(3), Some((4, Answer::Txn(Err(Pairs::new()))))),
        (txn(0), Some((4, Answer::Txn(Ok(false))))),
        (asks_put("8."), None),
    ];
    assert_eq!(with(more).check(&log()).wrong, [""; 0]);
    let mut lost = writes();
    lost[1].1 = None;
    assert_eq!(history(&lost).check(&log()).wrong, [""; 0], "its answer was lost");
    lost[2].1 = None;
    assert_eq!(history(&lost).check(&log()).wrong, [""; 0], "so was that of the deletion");
}

#[test]
fn a_lost_write_is_found() {
    assert!(!with(vec![(asks_put("3."), Some((5, Answer::Done)))]).check(&log()).wrong.is_empty(), "beyond the log");
    let mut wrong = writes();
    wrong[1] = (asks_put("1.other"), Some((3, Answer::Done)));
    assert!(!history(&wrong).check(&log()).wrong.is_empty(), "another value");
    wrong[1] = (asks_put("1."), Some((2, Answer::Done)));
    assert!(!history(&wrong).check(&log()).wrong.is_empty(), "another revision");
}

#[test]
fn a_stale_read_is_found() {
    let stale = vec![(read(false), Some((3, Answer::Read(a("1.", 3, 2)))))];
    assert!(!with(stale).check(&log()).wrong.is_empty());
    let torn = vec![(read(true), Some((3, Answer::Read(a("0.", 2, 1)))))];
    assert!(!with(torn).check(&log()).wrong.is_empty(), "it says a revision and reads another");
    let lost = vec![(Ask::Delete(Keys::One("a".to_owned())), Some((3, Answer::Deleted(0))))];
    assert!(!with(lost).check(&log()).wrong.is_empty(), "there was one to delete");
}

#[test]
fn what_was_done_twice_or_too_early_or_by_nobody_is_found() {
    let mut twice = log();
    twice.publish(5, &[put(5, "a", "0.", 5, 1)], Duration::ZERO).unwrap();
    assert!(!history(&writes()).check(&twice).wrong.is_empty(), "twice");
    let mut early = writes();
    early.swap(0, 1);
    assert!(!history(&early).check(&log()).wrong.is_empty(), "the one asked for later has the lower revision");
    let mut nobody = writes();
    nobody[2] = (read(true), None);
    assert!(!history(&nobody).check(&log()).wrong.is_empty(), "nobody has deleted it");
    let mut both = writes();
    both.insert(1, (asks_put("0."), Some((2, Answer::Done))));
    assert!(!history(&both).check(&log()).wrong.is_empty(), "one revision for two");
}

#[test]
fn a_lease_that_ends_early_is_found() {
    let mut log = Log::new();
    let mut first = put(2, "a", "0.", 2, 1);
    first.after.iter_mut().for_each(|pair| pair.lease = 7);
    log.publish(2, &[first], Duration::from_secs(1)).unwrap();
    log.publish(3, &[delete(3, "a")], Duration::from_secs(9)).unwrap();
    let ask = Ask::Put { key: "a".to_owned(), value: "0.".into(), lease: 7 };
    let mut history = history(&[(ask, Some((2, Answer::Done)))]);
    let life = |renewed_at| LeaseLife { ttl: Duration::from_secs(3), renewed_at: Duration::from_secs(renewed_at) };
    history.leases.insert(7, life(6));
    assert_eq!(history.check(&log).wrong, [""; 0]);
    history.leases.insert(7, life(7));
    assert!(!history.check(&log).wrong.is_empty(), "it was renewed two seconds before");
    history.known = 3;
    let at = history.ask("revoke".to_owned(), Ask::Revoke(7));
    assert!(!history.check(&log).wrong.is_empty(), "that was asked for later");
    if let Some(operation) = history.operations.get_mut(at) {
        operation.known = 2;
    }
    assert_eq!(history.check(&log).wrong, [""; 0], "its holder has ended it");
}
