use prost::Message;
use stentor_proto::etcdserverpb::{
    LeaseGrantResponse, PutResponse, RangeResponse, RangeStreamResponse, ResponseHeader, WatchResponse,
};
use stentor_proto::mvccpb::{self, KeyValue};

use super::*;

fn pair(revision: i64, value: Vec<u8>) -> KeyValue {
    KeyValue {
        key: b"some/key".to_vec().into(),
        create_revision: 3,
        mod_revision: revision,
        version: 9,
        value: value.into(),
        lease: 77,
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: u64::MAX, member_id: 5, revision, raft_term: 2 })
}

fn with_events(id: i64, revisions: std::ops::Range<i64>, size: usize, prev: bool) -> WatchResponse {
    let event = |revision: i64| mvccpb::Event {
        r#type: i32::from(revision % 3 == 0),
        kv: Some(pair(revision, revision.to_le_bytes().into_iter().chain(vec![b'x'; size]).collect())),
        prev_kv: prev.then(|| pair(revision - 1, b"before it".to_vec())),
    };
    WatchResponse {
        header: header(revisions.end),
        watch_id: id,
        events: revisions.map(event).collect(),
        ..Default::default()
    }
}

fn responses() -> Vec<WatchResponse> {
    vec![
        WatchResponse { header: header(7), created: true, ..Default::default() },
        with_events(0, 8..9, 0, false),
        with_events(300, 9..15, 200, true),
        WatchResponse { header: header(14), watch_id: -1, ..Default::default() },
        WatchResponse { fragment: true, ..with_events(-5, 15..17, 20, false) },
        WatchResponse {
            header: header(0),
            watch_id: 4,
            canceled: true,
            compact_revision: 12,
            cancel_reason: "why".into(),
            ..Default::default()
        },
        WatchResponse::default(),
    ]
}

fn framed(responses: &[WatchResponse]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for response in responses {
        bytes.push(0);
        bytes.extend(u32::try_from(response.encoded_len()).unwrap().to_be_bytes());
        bytes.extend(response.encode_to_vec());
    }
    bytes
}

/// What the scanner is to find in a message.
fn check(message: &[u8], want: &WatchResponse) {
    let got = Response::read(message).unwrap();
    let want_revision = want.header.as_ref().map_or(0, |h| h.revision);
    assert_eq!((got.revision, got.watch_id), (want_revision, want.watch_id));
    assert_eq!((got.created, got.canceled, got.fragment), (want.created, want.canceled, want.fragment));
    assert_eq!(got.compact_revision, want.compact_revision);
    assert_eq!(got.cancel_reason, want.cancel_reason.as_bytes());
    assert_eq!(got.has_events(), !want.events.is_empty());
    let events: Vec<Event> = got.events().collect::<Result<_, _>>().unwrap();
    assert_eq!(events.len(), want.events.len());
    for (got, want) in events.iter().zip(&want.events) {
        let pair = want.kv.as_ref().unwrap();
        assert_eq!(got.mod_revision, pair.mod_revision);
        assert_eq!(got.stamp, u64::from_le_bytes(*pair.value.first_chunk().unwrap()));
        assert_eq!(got.has_prev, want.prev_kv.is_some());
    }
}

#[test]
fn messages_cut_at_every_pair_of_places() {
    let responses = responses();
    let bytes = framed(&responses);
    for first in 0..=bytes.len() {
        // Every second place near the first, and then a coarser walk: all pairs take too long.
        for second in (first..=bytes.len()).step_by(7).chain(first..bytes.len().min(first + 12)) {
            let mut frames = Frames::default();
            let mut seen = 0;
            for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                let each = |message: &[u8]| {
                    check(message, &responses[seen]);
                    seen += 1;
                    Ok(())
                };
                frames.push(piece, each).unwrap();
            }
            assert_eq!(seen, responses.len(), "cut at {first} and {second}");
        }
    }
}

#[test]
fn messages_byte_by_byte() {
    let responses = responses();
    let (mut frames, mut seen) = (Frames::default(), 0);
    for byte in framed(&responses) {
        let each = |message: &[u8]| {
            check(message, &responses[seen]);
            seen += 1;
            Ok(())
        };
        frames.push(&[byte], each).unwrap();
    }
    assert_eq!(seen, responses.len());
}

#[test]
fn garbage_is_an_error_and_never_a_panic() {
    let nothing = |_: &[u8]| Ok(());
    assert_eq!(Frames::default().push(&[1, 0, 0, 0, 0], nothing), Err(Malformed::Compressed));
    let huge = Frames::default().push(&[0, 255, 0, 0, 0], nothing);
    assert!(matches!(huge, Err(Malformed::TooLarge(_))), "{huge:?}");
    assert_eq!(Response::read(&[0xff; 12]), Err(Malformed::Truncated));
    assert_eq!(Response::read(&[0x0b]), Err(Malformed::WireType(3)));
    let message = with_events(1, 5..9, 30, true).encode_to_vec();
    let mut broken = 0;
    for end in 0..message.len() {
        for flip in 0..8 {
            let mut bytes = message[..end].to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1 << flip;
            }
            let read = Response::read(&bytes).and_then(|r| r.events().collect::<Result<Vec<_>, _>>());
            broken += u32::from(read.is_err());
        }
    }
    assert!(broken > 100, "only {broken} of them were found broken");
}

#[test]
fn an_answer_is_the_sum_of_its_messages() {
    let mut answer = Answer::default();
    let put = PutResponse { header: header(1 << 40), prev_kv: None }.encode_to_vec();
    answer.read(&put).unwrap();
    assert_eq!((answer.revision, answer.bytes), (1 << 40, put.len() as u64));
    let kvs = vec![KeyValue { key: "k".into(), ..Default::default() }; 3];
    let range = RangeResponse { header: header(7), kvs, more: true, count: 300 };
    answer.read(&range.encode_to_vec()).unwrap();
    answer.read_wrapped(&RangeStreamResponse { range_response: Some(range) }.encode_to_vec()).unwrap();
    assert_eq!((answer.revision, answer.pairs, answer.third, answer.fourth), (7, 6, 1, 300));
    let grant = LeaseGrantResponse { header: header(8), id: -5, ttl: 60, error: String::new() };
    answer.read(&grant.encode_to_vec()).unwrap();
    assert_eq!((answer.second, answer.third), (-5, 60));
    assert_eq!(answer.read(&[0xff; 12]), Err(Malformed::Truncated));
}
