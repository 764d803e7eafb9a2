//! What members say to each other.

use raft::eraftpb;

/// A message of the protocol, to be carried to the member it is for. It may be lost, repeated or overtaken;
/// it must not be altered.
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
}
