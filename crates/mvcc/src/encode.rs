//! A range as the encoded answer, without building it first: the pairs go from history into the answer
//! as they are.

use bytes::Bytes;
use prost::Message;
use prost::encoding::encode_varint;
use stentor_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use stentor_proto::{KeyRange, Revision};

use crate::key_index::Found;
use crate::source::Source;
use crate::{ChangeId, Error, View, read};

/// Field 2 of a `RangeResponse`: a pair.
const PAIR_TAG: u8 = 2 << 3 | 2;

/// Records are fetched this many at a time, at most.
const CHUNK: usize = 512;

/// How many come first, while it is not known how large they are.
const FIRST_CHUNK: usize = 16;

/// About how many bytes are fetched at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The first pairs of a range, encoded.
///
/// ```
/// use prost::Message;
/// use stentor_mvcc::{EncodedPairs, Store, engine::memory};
/// use stentor_proto::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
/// let request = RangeRequest { key: "k".into(), ..Default::default() };
/// let first: EncodedPairs = store.view().first_pairs_encoded(&request, 1 << 20)?;
/// assert_eq!((first.keys, first.last_key, first.more), (1, Some("k".into()), false));
/// // The bytes alone are an answer too.
/// assert_eq!(RangeResponse::decode(&first.bytes[..])?.kvs[0].key, "k");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedPairs {
    /// Each as a field of a `RangeResponse`.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub keys: usize,
    /// The key of the last one.
    pub last_key: Option<Bytes>,
    /// The range goes on after them.
    pub more: bool,
}

impl View {
    /// As [`View::range`], but gives the protobuf `RangeResponse` encoded, with `header` and this view's
    /// revision in it. `expected_bytes` is how much is reserved for it.
    ///
    /// ```
    /// use prost::Message;
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::{PutRequest, RangeRequest, RangeResponse, ResponseHeader};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.put(PutRequest { key: "k".into(), ..Default::default() })?;
    /// let request = RangeRequest { key: "k".into(), ..Default::default() };
    /// let header = ResponseHeader { member_id: 5, ..Default::default() };
    /// let answer = RangeResponse::decode(&store.view().range_encoded(&request, &header, 64)?[..])?;
    /// assert_eq!((answer.count, answer.header.map(|h| (h.member_id, h.revision))), (1, Some((5, 2))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`View::range`].
    pub fn range_encoded(
        &self,
        request: &RangeRequest,
        header: &ResponseHeader,
        expected_bytes: usize,
    ) -> Result<Vec<u8>, Error> {
        // Nothing is above the largest number.
        Ok(self.range_encoded_within(request, header, expected_bytes, usize::MAX)?.unwrap_or_default())
    }

    /// As [`View::range_encoded`], but gives up, with `None`, once the answer is seen to take more than
    /// `max_bytes`. Little more than that is held meanwhile, unless the request sorts, filters or wants
    /// the keys only.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::{PutRequest, RangeRequest, ResponseHeader};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// store.put(PutRequest { key: "k".into(), value: vec![0; 1000].into(), ..Default::default() })?;
    /// let (view, header) = (store.view(), ResponseHeader::default());
    /// let request = RangeRequest { key: "k".into(), ..Default::default() };
    /// assert!(view.range_encoded_within(&request, &header, 64, 2000)?.is_some());
    /// assert!(view.range_encoded_within(&request, &header, 64, 500)?.is_none());
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`View::range`].
    pub fn range_encoded_within(
        &self,
        request: &RangeRequest,
        header: &ResponseHeader,
        expected_bytes: usize,
        max_bytes: usize,
    ) -> Result<Option<Vec<u8>>, Error> {
        let header = ResponseHeader { revision: self.revision().get(), ..*header };
        if is_plain(request) {
            return plain(self.state(), request, header, expected_bytes, max_bytes);
        }
        let result = read::range(self.state(), request)?;
        let response = RangeResponse { header: Some(header), ..result.into() };
        Ok((response.encoded_len() <= max_bytes).then(|| response.encode_to_vec()))
    }

    /// The pairs at the start of a range, in key order: as many as the request's limit allows and
    /// `max_bytes` hold, but at least one. It regards the range, the revision and the limit alone.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// for key in ["a", "b", "c"] {
    ///     store.put(PutRequest { key: key.into(), value: vec![0; 1000].into(), ..Default::default() })?;
    /// }
    /// let all = RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
    /// let first = store.view().first_pairs_encoded(&all, 2500)?;
    /// assert_eq!((first.keys, first.last_key, first.more), (2, Some("b".into()), true));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`View::range`].
    pub fn first_pairs_encoded(&self, request: &RangeRequest, max_bytes: usize) -> Result<EncodedPairs, Error> {
        let mut out = EncodedPairs::default();
        append_pairs(self.state(), request, max_bytes, &mut out)?;
        Ok(out)
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
    max_bytes: usize,
) -> Result<Option<Vec<u8>>, Error> {
    let mut out = EncodedPairs { bytes: Vec::with_capacity(expected_bytes.max(64)), ..EncodedPairs::default() };
    encode(&RangeResponse { header: Some(header), ..RangeResponse::default() }, &mut out.bytes);
    append_pairs(source, request, max_bytes, &mut out)?;
    let is_cut = out.more && (request.limit <= 0 || out.keys as i64 != request.limit);
    if is_cut || out.bytes.len() > max_bytes {
        return Ok(None);
    }
    let count = if out.more {
        let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        source.index().count(&range, source.readable(request.revision)?) as i64
    } else {
        out.keys as i64
    };
    encode(&RangeResponse { more: out.more, count, ..RangeResponse::default() }, &mut out.bytes);
    Ok(Some(out.bytes))
}

/// Adds pairs to `out` until the request's limit, the end of the range or `max_bytes` is reached; one at
/// least, so that whoever goes on from there gets on.
fn append_pairs(
    source: &impl Source,
    request: &RangeRequest,
    max_bytes: usize,
    out: &mut EncodedPairs,
) -> Result<(), Error> {
    let at = source.readable(request.revision)?;
    let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let mut left = usize::try_from(request.limit).ok().filter(|&n| n > 0).unwrap_or(usize::MAX);
    let mut found = found(source, &range, at).peekable();
    let mut step = FIRST_CHUNK;
    while found.peek().is_some() && left > 0 {
        let chunk: Vec<ChangeId> = found.by_ref().take(left.min(step)).collect();
        let mut records = source.records(&chunk)?.into_iter();
        for record in records.by_ref() {
            let pair = record.encoded_pair();
            if out.keys > 0 && out.bytes.len() + pair.len() > max_bytes {
                out.more = true;
                return Ok(());
            }
            out.bytes.push(PAIR_TAG);
            encode_varint(pair.len() as u64, &mut out.bytes);
            out.bytes.extend_from_slice(pair);
            out.keys += 1;
            out.last_key = Some(record.key_bytes());
        }
        left -= chunk.len();
        step = (CHUNK_BYTES / (out.bytes.len() / out.keys.max(1)).max(1)).clamp(1, CHUNK);
    }
    out.more = found.peek().is_some();
    Ok(())
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

    #[test]
    fn an_answer_that_grows_too_large_is_given_up_and_a_part_ends_in_time() {
        let store = Store::open(MemoryEngine::open(&Disk::new()).unwrap(), Default::default()).unwrap();
        for n in 0..100 {
            let (key, value) = (format!("k{n:03}").into(), vec![b'v'; 1000 * (n % 10)].into());
            store.put(PutRequest { key, value, ..Default::default() }).unwrap();
        }
        let (view, header) = (store.view(), ResponseHeader::default());
        let all = RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
        for request in
            [all.clone(), RangeRequest { limit: 50, ..all.clone() }, RangeRequest { sort_order: 2, ..all.clone() }]
        {
            let whole = view.range_encoded(&request, &header, 0).unwrap();
            let within = |max| view.range_encoded_within(&request, &header, 0, max).unwrap();
            assert_eq!(within(whole.len()).unwrap(), whole);
            assert_eq!((within(whole.len() / 2), within(0)), (None, None));
        }
        let expected = view.range(&all).unwrap().kvs;
        for (limit, max_bytes) in [(0, 0), (7, 30_000), (0, 30_000), (100, 1 << 30), (1000, 1 << 30)] {
            let mut rest = RangeRequest { limit, ..all.clone() };
            let mut pairs = Vec::new();
            loop {
                let part = view.first_pairs_encoded(&rest, max_bytes).unwrap();
                assert!(part.keys > 0 && (part.keys == 1 || part.bytes.len() <= max_bytes + 10));
                assert!(limit == 0 || part.keys as i64 <= limit);
                pairs.extend(RangeResponse::decode(&part.bytes[..]).unwrap().kvs);
                assert_eq!(pairs.last().map(|pair| &pair.key), part.last_key.as_ref());
                if !part.more {
                    break;
                }
                rest.key = [&part.last_key.unwrap()[..], b"\0"].concat().into();
            }
            assert_eq!(pairs, expected);
        }
    }
}
