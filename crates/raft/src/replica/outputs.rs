//! What comes out of a member.

use bytes::Bytes;

use crate::log::Position;
use crate::membership::Membership;
use crate::message::Message;
use crate::payload::Payload;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes proposals.
    Leader,
    /// It follows the log, or waits for somebody to.
    Follower,
    /// It stands for election, or asks whether it should.
    Candidate,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The newest term it knows.
    pub term: u64,
    /// Whom it follows, itself included.
    pub leader: Option<u64>,
    /// What it is.
    pub role: Role,
}

/// An entry that a majority has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place.
    pub position: Position,
    /// What the proposer put beside it.
    pub context: Bytes,
    /// What it is.
    pub payload: Payload,
}

/// How far another member is, as a leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Which member.
    pub id: u64,
    /// Its last entry known to be the leader's too.
    pub matched: u64,
    /// Whether it was heard of lately.
    pub recent: bool,
    /// Whether it waits for a snapshot.
    pub needs_snapshot: bool,
}

/// Takes what a member gives out, in this order.
pub trait Outputs {
    /// Carry these to their members. Each may be lost.
    fn send(&mut self, messages: Vec<Message>);
    /// Apply these, in order; then say so by [`Replica::applied`](crate::Replica::applied).
    fn commit(&mut self, entries: Vec<Committed>);
    /// A read of this round is linearizable once the entry of this index is applied.
    fn may_read(&mut self, round: u64, index: u64);
    /// Term, leader or role have changed.
    fn stands(&mut self, standing: Standing);
    /// The log now goes on after this entry: the store received with the message must take the place of the
    /// present one.
    fn install(&mut self, position: Position, membership: &Membership);
}
