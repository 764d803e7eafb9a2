use prost::Message;
use stentor_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use stentor_proto::mvccpb::{Event, KeyValue};

use super::*;

fn response(id: i64, revision: i64) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader { revision, ..Default::default() }),
        watch_id: id,
        ..Default::default()
    }
}

fn created(id: i64) -> WatchResponse {
    WatchResponse { created: true, ..response(id, 1) }
}

fn events(id: i64, revisions: &[i64]) -> WatchResponse {
    let event = |&mod_revision: &i64| Event {
        kv: Some(KeyValue { mod_revision, value: 400_u64.to_le_bytes().to_vec().into(), ..Default::default() }),
        ..Default::default()
    };
    WatchResponse { events: revisions.iter().map(event).collect(), ..response(id, 1) }
}

/// What is seen when these come on one stream at time 1,000, progress having been asked for at time 100.
fn seen(responses: &[WatchResponse]) -> Seen {
    let (mut seen, state) = (Seen::default(), State::default());
    state.asked.borrow_mut().push(100);
    let mut reader = Reader { state: &state, seen: &mut seen, now: 1_000, timed: true, recorded: true };
    for response in responses {
        reader.response(&response.encode_to_vec()).unwrap();
    }
    seen
}

#[test]
fn events_in_order_are_counted_and_timed() {
    let seen = seen(&[created(0), created(1), events(0, &[5, 6]), events(1, &[6]), events(0, &[9])]);
    assert_eq!((seen.created, seen.events, seen.responses, seen.disordered), (2, 4, 3, 0));
    assert_eq!((seen.latency.len(), seen.latency.max()), (4, 600));
    assert_eq!(seen.arrivals, [(5, 1_000), (6, 1_000), (6, 1_000), (9, 1_000)]);
    assert!(seen.failures.is_empty());
}

#[test]
fn an_event_twice_or_late_is_found() {
    assert_eq!(seen(&[created(0), events(0, &[5, 6]), events(0, &[6])]).disordered, 1, "twice");
    assert_eq!(seen(&[created(0), events(0, &[5, 7, 6])]).disordered, 1, "late");
    assert_eq!(seen(&[created(0), response(-1, 8), events(0, &[8, 9])]).disordered, 1, "promised to have come");
    assert_eq!(seen(&[created(0), created(1), response(1, 8), events(0, &[8])]).disordered, 0, "another's note");
}

#[test]
fn a_note_answers_a_progress_request_once() {
    let answered = seen(&[created(0), response(-1, 8), response(-1, 9)]);
    assert_eq!((answered.progress.len(), answered.progress.max()), (1, 900));
    assert!(seen(&[created(0), response(0, 8)]).progress.is_empty(), "a periodic note answers nothing");
}

#[test]
fn what_a_server_must_not_do_is_a_failure() {
    for wrong in [
        &[created(1)][..],
        &[created(0), created(0)],
        &[events(0, &[1])],
        &[created(0), WatchResponse { canceled: true, ..response(0, 1) }],
    ] {
        assert_eq!(seen(wrong).failures.len(), 1, "{wrong:?}");
    }
}
