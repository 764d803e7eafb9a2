//! The key range in a request.

use bytes::Bytes;
use prost::Message;
use stentor_proto::KeyRange;
use stentor_proto::etcdserverpb::RangeRequest;

use crate::{Outcome, Target};

/// Input: a `RangeRequest`.
pub const KEY_RANGE: Target = Target { name: "key_range", decode, samples, refuses: true, cost: 1 };

fn decode(bytes: &[u8]) -> Outcome {
    let Ok(request) = RangeRequest::decode(bytes) else { return Outcome::Refused };
    let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let (key, range_end) = range.to_wire();
    assert_eq!((&key, &range_end), (&request.key, &request.range_end), "the range goes out as it came in");
    assert_eq!(KeyRange::from_wire(key.clone(), range_end), range);
    assert_eq!(range.contains(&key), !range.is_empty(), "a range that is not empty holds its own start: {range:?}");
    Outcome::Accepted
}

fn samples() -> Vec<Vec<u8>> {
    let ranges = [
        KeyRange::key("hello"),
        KeyRange::prefix("/registry/pods/"),
        KeyRange::prefix(&b"\xff\xff"[..]),
        KeyRange::interval("b", "a"),
        KeyRange::from_key("k"),
        KeyRange::all(),
    ];
    let request = |range: KeyRange| {
        let (key, range_end) = range.to_wire();
        RangeRequest { key, range_end, revision: 7, limit: 100, ..RangeRequest::default() }.encode_to_vec()
    };
    let mut samples = Vec::from(ranges.map(request));
    samples.push(RangeRequest { key: Bytes::from_static(b"\0"), ..RangeRequest::default() }.encode_to_vec());
    samples
}
