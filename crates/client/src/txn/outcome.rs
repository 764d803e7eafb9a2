use stentor_proto::etcdserverpb::response_op::Response;
use stentor_proto::etcdserverpb::{ResponseOp, TxnResponse};

use crate::key_value::revision;
use crate::namespace::Namespace;
use crate::txn::Nested;
use crate::txn::op::{Kind, Op};
use crate::{KeyValue, Revision};

/// What a [`Txn`](crate::txn::Txn) did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TxnOutcome {
    /// All conditions held, and the steps of [`then`](crate::txn::Txn::then) ran; else those of
    /// [`or_else`](crate::txn::Txn::or_else).
    pub succeeded: bool,
    /// Of the transaction; if it changed nothing, what the store was at.
    pub revision: Revision,
    /// One for each step of the branch that ran, in order.
    pub results: Vec<OpResult>,
}

/// What one step of a [`Txn`](crate::txn::Txn) gave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpResult {
    /// The pair, if the key exists.
    Get(Option<KeyValue>),
    /// The pairs of a range.
    List {
        /// In the order of their keys.
        pairs: Vec<KeyValue>,
        /// There are others, above the limit.
        more: bool,
    },
    /// The pair before, if there was one and it was [asked for](crate::txn::PutOp::prev_kv).
    Put(Option<KeyValue>),
    /// What was deleted.
    Delete {
        /// How many keys there were.
        count: u64,
        /// The pairs, if they were [asked for](crate::txn::DeleteOp::prev_kv).
        prev: Vec<KeyValue>,
    },
    /// What the inner transaction did. Its revision is that of the outer one.
    Txn(TxnOutcome),
}

impl TxnOutcome {
    /// The pair that a step read or replaced, counted from 0.
    pub fn pair(&self, step: usize) -> Option<&KeyValue> {
        self.results.get(step)?.pair()
    }
}

impl OpResult {
    /// The pair that was read or replaced: of several, the first.
    pub fn pair(&self) -> Option<&KeyValue> {
        self.pairs().first()
    }

    /// The pairs that were read, replaced or deleted.
    pub fn pairs(&self) -> &[KeyValue] {
        match self {
            OpResult::Get(pair) | OpResult::Put(pair) => pair.as_slice(),
            OpResult::List { pairs, .. } | OpResult::Delete { prev: pairs, .. } => pairs,
            OpResult::Txn(_) => &[],
        }
    }
}

impl Nested {
    /// Reads an answer. `None` if it does not fit what was asked.
    pub(crate) fn outcome(&self, answer: TxnResponse, namespace: &Namespace) -> Option<TxnOutcome> {
        let revision = revision(answer.header.as_ref().map_or(0, |header| header.revision));
        self.read(answer, revision, namespace)
    }

    fn read(&self, answer: TxnResponse, revision: Revision, namespace: &Namespace) -> Option<TxnOutcome> {
        let branch = if answer.succeeded { &self.then } else { &self.or_else };
        let mut answers = answer.responses.into_iter();
        let results: Option<Vec<_>> = branch.iter().map(|op| op.read(&mut answers, revision, namespace)).collect();
        match answers.next() {
            None => Some(TxnOutcome { succeeded: answer.succeeded, revision, results: results? }),
            Some(_) => None,
        }
    }
}

impl Op {
    /// Takes the answers to its steps.
    fn read(
        &self,
        answers: &mut impl Iterator<Item = ResponseOp>,
        revision: Revision,
        namespace: &Namespace,
    ) -> Option<OpResult> {
        let mut whole = self.read_step(answers.next()?, revision, namespace)?;
        for _ in 1..self.steps() {
            join(&mut whole, self.read_step(answers.next()?, revision, namespace)?);
        }
        if let (Kind::List(list), OpResult::List { pairs, more }) = (&self.0, &mut whole)
            && let Some(limit) = list.limit
            && pairs.len() > limit
        {
            // Each part was asked for as many.
            pairs.truncate(limit);
            *more = true;
        }
        Some(whole)
    }

    fn read_step(&self, answer: ResponseOp, revision: Revision, namespace: &Namespace) -> Option<OpResult> {
        Some(match (&self.0, answer.response?) {
            (Kind::Get(_), Response::ResponseRange(range)) => {
                OpResult::Get(range.kvs.into_iter().next().map(|pair| namespace.pair(pair)))
            }
            (Kind::List(_), Response::ResponseRange(range)) => {
                OpResult::List { pairs: namespace.pairs(range.kvs), more: range.more }
            }
            (Kind::Put(_), Response::ResponsePut(put)) => OpResult::Put(put.prev_kv.map(|pair| namespace.pair(pair))),
            (Kind::Delete(_), Response::ResponseDeleteRange(deleted)) => OpResult::Delete {
                count: u64::try_from(deleted.deleted).unwrap_or(0),
                prev: namespace.pairs(deleted.prev_kvs),
            },
            (Kind::Nested(nested), Response::ResponseTxn(answer)) => {
                OpResult::Txn(nested.read(answer, revision, namespace)?)
            }
            _ => return None,
        })
    }
}

/// Adds what the next part of the same range gave.
fn join(whole: &mut OpResult, part: OpResult) {
    match (whole, part) {
        (OpResult::List { pairs, more }, OpResult::List { pairs: next, more: next_more }) => {
            pairs.extend(next);
            *more |= next_more;
        }
        (OpResult::Delete { count, prev }, OpResult::Delete { count: next, prev: next_prev }) => {
            *count += next;
            prev.extend(next_prev);
        }
        _ => {}
    }
}
