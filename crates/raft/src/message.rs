//! What members say to each other.

use raft::eraftpb;

use crate::log::Position;
use crate::membership::Membership;

/// A message of the protocol, to be carried to the member it is for. It may be lost or overtaken, and repeated
/// unless it [is a proposal](Message::is_proposal); it must not be altered.
#[derive(Clone, Debug)]
pub struct Message(pub(crate) eraftpb::Message);

impl Message {
    /// Who is to get it.
    pub fn to(&self) -> u64 {
        self.0.to
    }

    /// Who sent it.
    pub fn from(&self) -> u64 {
        self.0.from
    }

    /// Its sender's term.
    pub fn term(&self) -> u64 {
        self.0.term
    }

    /// Whether it says that a snapshot follows: the receiver must have the store's before it is handed this.
    pub fn is_snapshot(&self) -> bool {
        self.0.get_msg_type() == eraftpb::MessageType::MsgSnapshot
    }

    /// What the store is that it says follows: where it stands, and who takes part.
    pub fn snapshot(&self) -> Option<(Position, Membership)> {
        let metadata = self.0.get_snapshot().get_metadata();
        let position = Position { term: metadata.term, index: metadata.index };
        self.is_snapshot().then(|| (position, Membership::from_raft(metadata.get_conf_state())))
    }

    /// Whether it carries proposals to the leader. Carried twice, they are proposed twice: it must not be
    /// sent again when it is unknown whether it has arrived.
    pub fn is_proposal(&self) -> bool {
        self.0.get_msg_type() == eraftpb::MessageType::MsgPropose
    }

    /// Says what the store is that goes with a message of a snapshot: the sender's may have gone on since the
    /// message was made. Both must agree, as the receiver goes on from there. Does nothing to other messages.
    pub fn set_snapshot(&mut self, applied: Position, membership: &Membership) {
        if self.is_snapshot() {
            let metadata = self.0.mut_snapshot().mut_metadata();
            (metadata.term, metadata.index) = (applied.term, applied.index);
            metadata.set_conf_state(membership.to_raft());
        }
    }
}
