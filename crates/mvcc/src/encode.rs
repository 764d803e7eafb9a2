//! A range as the encoded answer, without building it first: the pairs go from history into the answer
//! as they are.

use prost::Message;
use prost::encoding::encode_varint;
use stentor_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use stentor_proto::{KeyRange, Revision};

use crate::key_index::Found;
use crate::source::Source;
use crate::{ChangeId, Error, View, read};

/// Field 2 of a `RangeResponse`: a pair.
const PAIR_TAG: u8 = 2 << 3 | 2;

/// Records are fetched this many at a time.
const CHUNK: usize = 512;

impl View {
    /// As [`View::range`], but gives the protobuf `RangeResponse` encoded, with `header` and this view's
    /// revision in it. `expected_bytes` is how much is reserved for it.
    ///
    /// # Errors
    /// As [`View::range`].
    pub fn range_encoded(
        &self,
        request: &RangeRequest,
        header: &ResponseHeader,
        expected_bytes: usize,
    ) -> Result<Vec<u8>, Error> {
        let header = ResponseHeader { revision: self.revision().get(), ..*header };
        if is_plain(request) {
            return plain(self.state(), request, header, expected_bytes);
        }
        let result = read::range(self.state(), request)?;
        let response = RangeResponse { header: Some(header), ..result.into() };
        Ok(response.encode_to_vec())
    }
}

/// Whether the answer is the range's whole pairs, in key order.
fn is_plain(request: &RangeRequest) -> bool {
    let wanted = RangeRequest {
        key: request.key.clone(),
        range_end: request.range_end.clone(),
        limit: request.limit,
        revision: request.revision,
        serializable: request.serializable,
        ..RangeRequest::default()
    };
    *request == wanted
}

fn plain(
    source: &impl Source,
    request: &RangeRequest,
    header: ResponseHeader,
    expected_bytes: usize,
) -> Result<Vec<u8>, Error> {
    let at = source.readable(request.revision)?;
    let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let limit = usize::try_from(request.limit).ok().filter(|&n| n > 0);
    let mut out = Vec::with_capacity(expected_bytes.max(64));
    let head = RangeResponse { header: Some(header), ..RangeResponse::default() };
    encode(&head, &mut out);

    let mut found = found(source, &range, at);
    let mut left = limit.unwrap_or(usize::MAX);
    let mut written = 0;
    loop {
        let chunk: Vec<ChangeId> = found.by_ref().take(left.min(CHUNK)).collect();
        if chunk.is_empty() {
            break;
        }
        for record in source.records(&chunk)? {
            out.push(PAIR_TAG);
            encode_varint(record.encoded_pair().len() as u64, &mut out);
            out.extend_from_slice(record.encoded_pair());
        }
        left -= chunk.len();
        written += chunk.len();
    }
    let more = limit.is_some() && found.next().is_some();
    let count = if more { source.index().count(&range, at) as i64 } else { written as i64 };
    encode(&RangeResponse { more, count, ..RangeResponse::default() }, &mut out);
    Ok(out)
}

/// The changes that a read of the range finds, in key order.
fn found<'a>(source: &'a impl Source, range: &KeyRange, at: Revision) -> Box<dyn Iterator<Item = ChangeId> + 'a> {
    let change = |found: Found| found.change;
    match range.single() {
        Some(key) => Box::new(source.index().get(key, at).map(change).into_iter()),
        None => Box::new(source.index().range(range, at).map(move |(_, found)| change(found))),
    }
}

/// Appends fields of a message; protobuf messages are joined by joining their bytes.
fn encode(part: &RangeResponse, out: &mut Vec<u8>) {
    // A vector grows as needed, so that this can't fail.
    out.extend_from_slice(&part.encode_to_vec());
}

#[cfg(test)]
mod tests {
    use stentor_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};

    use super::*;
    use crate::Store;
    use crate::engine::memory::{Disk, MemoryEngine};

    #[test]
    fn the_encoded_answer_is_the_answer() {
        let store = Store::open(MemoryEngine::open(&Disk::new()).unwrap(), Default::default()).unwrap();
        for n in 0..1300 {
            let (key, value) = (format!("k{n:04}").into(), vec![b'v'; n % 300].into());
            store.put(PutRequest { key, value, ..Default::default() }).unwrap();
        }
        store.delete_range(DeleteRangeRequest { key: "k0007".into(), ..Default::default() }).unwrap();
        let header = ResponseHeader { cluster_id: 1, member_id: 2, revision: 0, raft_term: 3 };
        let view = store.view();
        let all = RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
        let requests = [
            all.clone(),
            RangeRequest { limit: 10, ..all.clone() },
            RangeRequest { limit: 1299, ..all.clone() },
            RangeRequest { limit: 5, revision: 20, ..all.clone() },
            RangeRequest { keys_only: true, ..all.clone() },
            RangeRequest { sort_order: 2, limit: 3, ..all.clone() },
            RangeRequest { count_only: true, ..all.clone() },
            RangeRequest { range_end: "".into(), key: "k0001".into(), ..all.clone() },
            RangeRequest { range_end: "".into(), key: "none".into(), ..all.clone() },
        ];
        for request in requests {
            let encoded = view.range_encoded(&request, &header, 0).unwrap();
            let mut expected = RangeResponse::from(view.range(&request).unwrap());
            expected.header = Some(ResponseHeader { revision: view.revision().get(), ..header });
            assert_eq!(RangeResponse::decode(&encoded[..]).unwrap(), expected, "{request:?}");
        }
    }
}
