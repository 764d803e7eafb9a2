//! Transactions.

use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use stentor_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};

use crate::clients::{Turn, Work};
use crate::scan::Answer;
use crate::wire::{Keys, Template, framed, stamped_value};

const TXN: &str = "etcdserverpb.KV/Txn";

fn put(key: Vec<u8>, value: &[u8]) -> RequestOp {
    let put = PutRequest { key: key.into(), value: value.to_vec().into(), ..Default::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

/// Each client writes a key of its own if that is as it left it, and would read it otherwise, as
/// controllers do. Not for open loops: a client's next request needs its last answer.
pub struct CompareAndSwap {
    keys: Keys,
    value: Vec<u8>,
    /// The revision of each client's key.
    revisions: Vec<AtomicI64>,
}

impl CompareAndSwap {
    /// For so many clients.
    ///
    /// # Errors
    /// When values have no room for the time.
    pub fn new(prefix: &str, clients: usize, value_size: usize) -> Result<CompareAndSwap> {
        let revisions = (0..clients.max(1)).map(|_| AtomicI64::new(0)).collect();
        let keys = Keys::new(prefix, clients as u64, 32);
        Ok(CompareAndSwap { keys, value: stamped_value(value_size)?, revisions })
    }
}

impl Work for CompareAndSwap {
    fn method(&self) -> &'static str {
        TXN
    }

    fn request(&self, turn: Turn) -> Bytes {
        let key = self.keys.get(turn.client as u64);
        let revision = self.revisions.get(turn.client).map_or(0, |revision| revision.load(Ordering::Relaxed));
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone().into(),
            target_union: Some(TargetUnion::ModRevision(revision)),
            ..Default::default()
        };
        let read = RangeRequest { key: key.clone().into(), ..Default::default() };
        framed(&TxnRequest {
            compare: vec![compare],
            success: vec![put(key, &self.value)],
            failure: vec![RequestOp { request: Some(Request::RequestRange(read)) }],
        })
    }

    fn is_right(&self, turn: Turn, answer: &Answer) -> bool {
        self.revisions.get(turn.client).into_iter().for_each(|last| last.store(answer.revision, Ordering::Relaxed));
        answer.second == 1
    }
}

/// Several puts at once, of random keys that lie side by side.
pub struct Multi {
    template: Template,
    puts: u64,
}

impl Multi {
    /// So many puts a transaction, at most 128.
    ///
    /// # Errors
    /// When there are fewer keys, more puts, or values with no room for the time.
    pub fn new(keys: &Keys, puts: usize, value_size: usize) -> Result<Multi> {
        anyhow::ensure!(puts as u64 <= keys.count(), "a transaction may put each key only once");
        let value = stamped_value(value_size)?;
        let build = |keys: Vec<Vec<u8>>| TxnRequest {
            success: keys.into_iter().map(|key| put(key, &value)).collect(),
            ..Default::default()
        };
        Ok(Multi { template: Template::new(keys, puts, build)?, puts: puts as u64 })
    }
}

impl Work for Multi {
    fn method(&self) -> &'static str {
        TXN
    }

    fn request(&self, turn: Turn) -> Bytes {
        let first = super::scattered(turn.number) % self.template.keys().count();
        self.template.fill(first..first + self.puts, turn.start)
    }

    fn is_right(&self, _turn: Turn, answer: &Answer) -> bool {
        answer.second == 1
    }
}

/// Puts every key once, many in a transaction: to have them there.
pub struct Fill {
    /// Of whole transactions.
    template: Template,
    /// Of the last one.
    last: Template,
    puts: u64,
}

impl Fill {
    /// Puts of one transaction; etcd allows 128.
    const PUTS: u64 = 100;

    /// For these keys.
    ///
    /// # Errors
    /// When values have no room for the time.
    pub fn new(keys: &Keys, value_size: usize) -> Result<Fill> {
        let puts = Fill::PUTS.min(keys.count());
        let left = keys.count() % puts;
        let template = Multi::new(keys, puts as usize, value_size)?.template;
        let last = Multi::new(keys, if left == 0 { puts } else { left } as usize, value_size)?.template;
        Ok(Fill { template, last, puts })
    }

    /// Transactions that it takes.
    pub fn transactions(&self) -> u64 {
        self.template.keys().count().div_ceil(self.puts)
    }
}

impl Work for Fill {
    fn method(&self) -> &'static str {
        TXN
    }

    fn request(&self, turn: Turn) -> Bytes {
        let first = turn.number * self.puts;
        let template = if turn.number + 1 == self.transactions() { &self.last } else { &self.template };
        template.fill(first..first + self.puts, turn.start)
    }

    fn is_right(&self, _turn: Turn, answer: &Answer) -> bool {
        answer.second == 1
    }
}
