//! How a member takes part.

use crate::log::{Durability, Position};
use crate::membership::Membership;

/// How a member takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member; not 0, and never used by another one before.
    pub id: u64,
    /// Ticks without a word from the leader after which a member stands for election; each draws a number
    /// from this to twice it.
    pub election_ticks: usize,
    /// Ticks between two heartbeats of a leader; less than `election_ticks`.
    pub heartbeat_ticks: usize,
    /// The last entry whose effects are in the store and survive a crash.
    pub applied: Position,
    /// Who takes part as of `applied`.
    pub membership: Membership,
    /// Whether what was acknowledged survives a crash of the machine.
    pub durability: Durability,
    /// Bytes of entries in one message, at least one entry.
    pub max_message_bytes: u64,
    /// Messages of entries on their way to one member.
    pub max_inflight_messages: usize,
    /// Bytes of entries that a leader takes before they are committed; more are refused.
    pub max_uncommitted_bytes: u64,
    /// Bytes of committed entries handed out at a time, at least one entry.
    pub max_committed_bytes: u64,
}

impl Options {
    /// etcd's defaults, for a tick of 100 ms.
    pub fn new(id: u64, applied: Position, membership: Membership) -> Options {
        Options {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            applied,
            membership,
            durability: Durability::Synced,
            max_message_bytes: 1 << 20,
            max_inflight_messages: 512,
            max_uncommitted_bytes: 128 << 20,
            max_committed_bytes: 4 << 20,
        }
    }
}
