//! Messages as they travel. The library's own parser sees nothing that comes from outside: what is here is
//! read by prost into types of ours and then said anew.

use protobuf::{Message as _, ProtobufEnum};
use raft::eraftpb::{self, ConfChange, EntryType, MessageType};
use stentor_proto::peerpb::{RaftChange, RaftEntry, RaftMessage, RaftSnapshot, raft_change};

use crate::membership::{Change, Membership};
use crate::message::Message;

/// What another member said that no member says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A message of a kind that this version does not know.
    #[error("a message of the unknown kind {0}: run the same version on all members")]
    Kind(u32),
    /// A change of the membership that this version does not know.
    #[error("an unknown change of the membership: run the same version on all members")]
    Change,
    /// An entry of this member's own log that can't be read.
    #[error("a change of the membership can't be read: {0}")]
    Own(String),
}

impl Message {
    /// As it travels.
    ///
    /// # Errors
    /// [`WireError::Own`].
    pub fn to_wire(&self) -> Result<RaftMessage, WireError> {
        let message = &self.0;
        let metadata = message.get_snapshot().get_metadata();
        let membership = Membership::from_raft(metadata.get_conf_state());
        Ok(RaftMessage {
            kind: message.get_msg_type().value().unsigned_abs(),
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.get_entries().iter().map(entry_to_wire).collect::<Result<_, _>>()?,
            commit: message.commit,
            commit_term: message.commit_term,
            snapshot: message.has_snapshot().then(|| RaftSnapshot {
                term: metadata.term,
                index: metadata.index,
                voters: membership.voters.into_iter().collect(),
                learners: membership.learners.into_iter().collect(),
            }),
            request_snapshot: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context.clone(),
            priority: message.priority,
        })
    }

    /// From what has travelled.
    ///
    /// # Errors
    /// [`WireError::Kind`], [`WireError::Change`].
    pub fn from_wire(wire: RaftMessage) -> Result<Message, WireError> {
        let unknown = || WireError::Kind(wire.kind);
        let kind = i32::try_from(wire.kind).ok().and_then(MessageType::from_i32).ok_or_else(unknown)?;
        let mut message = eraftpb::Message::default();
        message.set_msg_type(kind);
        (message.to, message.from, message.term) = (wire.to, wire.from, wire.term);
        (message.log_term, message.index) = (wire.log_term, wire.index);
        (message.commit, message.commit_term) = (wire.commit, wire.commit_term);
        message.request_snapshot = wire.request_snapshot;
        (message.reject, message.reject_hint) = (wire.reject, wire.reject_hint);
        (message.context, message.priority) = (wire.context, wire.priority);
        let entries = wire.entries.into_iter().map(entry_from_wire).collect::<Result<Vec<_>, _>>()?;
        message.set_entries(entries.into());
        if let Some(snapshot) = wire.snapshot {
            let metadata = message.mut_snapshot().mut_metadata();
            (metadata.term, metadata.index) = (snapshot.term, snapshot.index);
            let membership = Membership {
                voters: snapshot.voters.into_iter().collect(),
                learners: snapshot.learners.into_iter().collect(),
            };
            metadata.set_conf_state(membership.to_raft());
        }
        Ok(Message(message))
    }
}

fn entry_to_wire(entry: &eraftpb::Entry) -> Result<RaftEntry, WireError> {
    let (change, data) = match entry.get_entry_type() {
        EntryType::EntryNormal => (None, entry.data.clone()),
        EntryType::EntryConfChange => {
            let mut change = ConfChange::default();
            change.merge_from_bytes(&entry.data).map_err(|e| WireError::Own(e.to_string()))?;
            let change_of = Change::from_raft(&change);
            let kind = match change_of {
                Change::AddVoter(_) => raft_change::Kind::AddVoter,
                Change::AddLearner(_) => raft_change::Kind::AddLearner,
                Change::Remove(_) => raft_change::Kind::Remove,
            };
            (Some(RaftChange { kind: kind.into(), member_id: change_of.id() }), change.context)
        }
        EntryType::EntryConfChangeV2 => return Err(WireError::Own("it is of the second kind".to_owned())),
    };
    Ok(RaftEntry { term: entry.term, index: entry.index, change, data, context: entry.context.clone() })
}

fn entry_from_wire(wire: RaftEntry) -> Result<eraftpb::Entry, WireError> {
    let mut entry = eraftpb::Entry::default();
    (entry.term, entry.index, entry.context) = (wire.term, wire.index, wire.context);
    entry.data = match wire.change {
        None => wire.data,
        Some(RaftChange { kind, member_id }) => {
            entry.set_entry_type(EntryType::EntryConfChange);
            let change = match raft_change::Kind::try_from(kind) {
                Ok(raft_change::Kind::AddVoter) => Change::AddVoter(member_id),
                Ok(raft_change::Kind::AddLearner) => Change::AddLearner(member_id),
                Ok(raft_change::Kind::Remove) => Change::Remove(member_id),
                Err(_) => return Err(WireError::Change),
            };
            change.encode(wire.data).map_err(WireError::Own)?
        }
    };
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Position;

    /// With every field another value.
    fn message() -> eraftpb::Message {
        let mut normal = eraftpb::Entry::default();
        (normal.term, normal.index) = (3, 7);
        (normal.data, normal.context) = ("data".into(), "beside".into());
        let mut change = eraftpb::Entry::default();
        (change.term, change.index) = (3, 8);
        change.set_entry_type(EntryType::EntryConfChange);
        change.data = Change::AddLearner(9).encode("who".into()).unwrap();
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        (message.to, message.from, message.term, message.log_term, message.index) = (1, 2, 3, 4, 5);
        (message.commit, message.commit_term, message.request_snapshot) = (6, 7, 8);
        (message.reject, message.reject_hint, message.priority) = (true, 9, -10);
        message.context = "context".into();
        message.set_entries(vec![normal, change].into());
        message
    }

    #[test]
    fn a_message_arrives_as_it_was() {
        let sent = message();
        let wire = Message(sent.clone()).to_wire().unwrap();
        assert_eq!(Message::from_wire(wire).unwrap().0, sent);

        let mut snapshot = eraftpb::Message::default();
        snapshot.set_msg_type(MessageType::MsgSnapshot);
        let mut snapshot = Message(snapshot);
        let membership = Membership { voters: [1, 2].into(), learners: [3].into() };
        snapshot.set_snapshot(Position { term: 4, index: 5 }, &membership);
        let arrived = Message::from_wire(snapshot.to_wire().unwrap()).unwrap();
        assert_eq!(arrived.snapshot(), Some((Position { term: 4, index: 5 }, membership)));
        assert_eq!(Message(message()).snapshot(), None);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let wire = Message(message()).to_wire().unwrap();
        for kind in [99, u32::MAX] {
            let wire = RaftMessage { kind, ..wire.clone() };
            assert_eq!(Message::from_wire(wire).unwrap_err(), WireError::Kind(kind));
        }
        let mut wire = wire;
        wire.entries[1].change = Some(RaftChange { kind: 17, member_id: 1 });
        assert_eq!(Message::from_wire(wire).unwrap_err(), WireError::Change);
    }
}
