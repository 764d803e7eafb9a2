//! Puts and deletes.

use anyhow::Result;
use bytes::Bytes;
use stentor_proto::etcdserverpb::DeleteRangeRequest;

use super::Order;
use crate::clients::{Turn, Work};
use crate::scan::Answer;
use crate::wire::{Keys, Template};

/// Puts whose values carry when they were due.
pub struct Puts {
    template: Template,
    order: Order,
}

impl Puts {
    /// Of the keys one after the other.
    ///
    /// # Errors
    /// When values have no room for the time.
    pub fn in_turn(keys: Keys, value_size: usize) -> Result<Puts> {
        Ok(Puts { template: Template::put(&keys, value_size)?, order: Order::InTurn })
    }

    /// Of random keys among these.
    ///
    /// # Errors
    /// As of [`Puts::in_turn`].
    pub fn random(keys: Keys, value_size: usize) -> Result<Puts> {
        Ok(Puts { order: Order::Random, ..Puts::in_turn(keys, value_size)? })
    }
}

impl Work for Puts {
    fn method(&self) -> &'static str {
        "etcdserverpb.KV/Put"
    }

    fn request(&self, turn: Turn) -> Bytes {
        self.template.fill([self.order.of(turn)], turn.start)
    }

    fn is_right(&self, _turn: Turn, answer: &Answer) -> bool {
        answer.revision > 1
    }
}

/// Deletes of keys that are there, one after the other.
pub struct Deletes {
    template: Template,
}

impl Deletes {
    /// Of these keys, each once.
    ///
    /// # Errors
    /// When the keys make no template.
    pub fn new(keys: &Keys) -> Result<Deletes> {
        let build = |mut key: Vec<Vec<u8>>| DeleteRangeRequest {
            key: key.pop().unwrap_or_default().into(),
            ..Default::default()
        };
        Ok(Deletes { template: Template::new(keys, 1, build)? })
    }
}

impl Work for Deletes {
    fn method(&self) -> &'static str {
        "etcdserverpb.KV/DeleteRange"
    }

    fn request(&self, turn: Turn) -> Bytes {
        self.template.fill([turn.number], 0)
    }

    fn is_right(&self, turn: Turn, answer: &Answer) -> bool {
        answer.second == i64::from(turn.number < self.template.keys().count())
    }
}
