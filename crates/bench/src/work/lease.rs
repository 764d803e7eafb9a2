//! Leases.

use bytes::Bytes;
use stentor_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest};

use crate::clients::{Turn, Work};
use crate::scan::Answer;
use crate::wire::framed;

/// Long enough that none ends while anybody measures.
const TTL: i64 = 3_600;

/// Grants leases with the ids from a first one on.
pub struct Grants {
    first: i64,
}

impl Grants {
    /// Ids from `first` on.
    pub fn from(first: i64) -> Grants {
        Grants { first }
    }
}

impl Work for Grants {
    fn method(&self) -> &'static str {
        "etcdserverpb.Lease/LeaseGrant"
    }

    fn request(&self, turn: Turn) -> Bytes {
        framed(&LeaseGrantRequest { id: self.first.saturating_add_unsigned(turn.number), ttl: TTL })
    }

    fn is_right(&self, turn: Turn, answer: &Answer) -> bool {
        (answer.second, answer.third) == (self.first.saturating_add_unsigned(turn.number), TTL)
    }
}

/// Keeps leases alive in turn, each by a stream of its own for one message, as `etcdctl lease
/// keep-alive --once` does it.
pub struct KeepAlive {
    first: i64,
    count: u64,
}

impl KeepAlive {
    /// The leases with so many ids from `first` on.
    pub fn of(first: i64, count: u64) -> KeepAlive {
        KeepAlive { first, count: count.max(1) }
    }

    fn id(&self, number: u64) -> i64 {
        self.first.saturating_add_unsigned(number % self.count)
    }

    /// The request for lease number `number`, to be sent on a stream.
    pub fn message(&self, number: u64) -> Bytes {
        framed(&LeaseKeepAliveRequest { id: self.id(number) })
    }

    /// Whether an answer keeps lease number `number`.
    pub fn keeps(&self, number: u64, answer: &Answer) -> bool {
        (answer.second, answer.third) == (self.id(number), TTL)
    }
}

impl Work for KeepAlive {
    fn method(&self) -> &'static str {
        "etcdserverpb.Lease/LeaseKeepAlive"
    }

    fn request(&self, turn: Turn) -> Bytes {
        self.message(turn.number)
    }

    fn is_right(&self, turn: Turn, answer: &Answer) -> bool {
        self.keeps(turn.number, answer)
    }
}
