//! Reads.

use anyhow::Result;
use bytes::Bytes;
use stentor_proto::etcdserverpb::RangeRequest;

use super::{Order, scattered};
use crate::clients::{Turn, Work};
use crate::scan::{Answer, Malformed};
use crate::wire::{Keys, Template, framed};

const RANGE: &str = "etcdserverpb.KV/Range";

/// One random key at a time, all of which are there.
pub struct Gets {
    template: Template,
}

impl Gets {
    /// Of these keys; serializable or else linearizable.
    ///
    /// # Errors
    /// When the keys make no template.
    pub fn new(keys: &Keys, serializable: bool) -> Result<Gets> {
        let build = |mut key: Vec<Vec<u8>>| RangeRequest {
            key: key.pop().unwrap_or_default().into(),
            serializable,
            ..Default::default()
        };
        Ok(Gets { template: Template::new(keys, 1, build)? })
    }
}

impl Work for Gets {
    fn method(&self) -> &'static str {
        RANGE
    }

    fn request(&self, turn: Turn) -> Bytes {
        self.template.fill([Order::Random.of(turn)], 0)
    }

    fn is_right(&self, _turn: Turn, answer: &Answer) -> bool {
        (answer.pairs, answer.fourth) == (1, 1)
    }
}

/// Pages from random keys on, to the end of all.
pub struct Pages {
    template: Template,
    limit: u64,
}

impl Pages {
    /// Of these keys, which are all there, so many a page.
    ///
    /// # Errors
    /// When the keys make no template.
    pub fn new(keys: &Keys, limit: u64) -> Result<Pages> {
        let template = Template::new(keys, 1, |mut key| RangeRequest {
            key: key.pop().unwrap_or_default().into(),
            range_end: keys.range().1.into(),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            ..Default::default()
        })?;
        Ok(Pages { template, limit })
    }

    fn first(&self, turn: Turn) -> u64 {
        scattered(turn.number) % self.template.keys().count()
    }
}

impl Work for Pages {
    fn method(&self) -> &'static str {
        RANGE
    }

    fn request(&self, turn: Turn) -> Bytes {
        self.template.fill([self.first(turn)], 0)
    }

    fn is_right(&self, turn: Turn, answer: &Answer) -> bool {
        let left = self.template.keys().count() - self.first(turn);
        answer.pairs == self.limit.min(left) && answer.fourth.cast_unsigned() == left
    }
}

/// How many keys there are.
pub struct Counts {
    request: Bytes,
    count: u64,
}

impl Counts {
    /// Of these keys, which are all there.
    pub fn new(keys: &Keys) -> Counts {
        let (key, range_end) = keys.range();
        let range =
            RangeRequest { key: key.into(), range_end: range_end.into(), count_only: true, ..Default::default() };
        Counts { request: framed(&range), count: keys.count() }
    }
}

impl Work for Counts {
    fn method(&self) -> &'static str {
        RANGE
    }

    fn request(&self, _turn: Turn) -> Bytes {
        self.request.clone()
    }

    fn is_right(&self, _turn: Turn, answer: &Answer) -> bool {
        answer.fourth.cast_unsigned() == self.count
    }
}

/// All keys, page by page, at the revision of the first page: one piece of work is all of them.
pub struct Paginate {
    keys: Keys,
    limit: u64,
}

impl Paginate {
    /// Of these keys, which are all there, so many a page.
    pub fn new(keys: Keys, limit: u64) -> Paginate {
        Paginate { keys, limit: limit.max(1) }
    }

    fn page(&self, first: u64, revision: i64) -> Bytes {
        framed(&RangeRequest {
            key: self.keys.get(first).into(),
            range_end: self.keys.range().1.into(),
            limit: i64::try_from(self.limit).unwrap_or(i64::MAX),
            revision,
            ..Default::default()
        })
    }
}

impl Work for Paginate {
    fn method(&self) -> &'static str {
        RANGE
    }

    fn request(&self, _turn: Turn) -> Bytes {
        self.page(0, 0)
    }

    fn more(&self, _turn: Turn, answer: &Answer) -> Option<Bytes> {
        // Nobody writes meanwhile: the last header has the first one's revision. A page that brings less
        // than it should ends it, and is found by the sum.
        let whole = answer.pairs == answer.calls * self.limit;
        (whole && answer.pairs < self.keys.count()).then(|| self.page(answer.pairs, answer.revision))
    }

    fn is_right(&self, _turn: Turn, answer: &Answer) -> bool {
        answer.pairs == self.keys.count()
    }
}

/// All keys in one answer of many messages.
pub struct Streamed {
    request: Bytes,
    count: u64,
}

impl Streamed {
    /// Of these keys, which are all there.
    pub fn new(keys: &Keys) -> Streamed {
        let (key, range_end) = keys.range();
        let range = RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
        Streamed { request: framed(&range), count: keys.count() }
    }
}

impl Work for Streamed {
    fn method(&self) -> &'static str {
        "etcdserverpb.KV/RangeStream"
    }

    fn request(&self, _turn: Turn) -> Bytes {
        self.request.clone()
    }

    fn read(&self, message: &[u8], answer: &mut Answer) -> Result<(), Malformed> {
        answer.read_wrapped(message)
    }

    fn is_right(&self, _turn: Turn, answer: &Answer) -> bool {
        answer.pairs == self.count
    }
}
