//! A log entry as bytes: what a replicated log carries and keeps.
//!
//! | bytes | |
//! |---|---|
//! | 1 | the version of what follows |
//! | 8 | the member that proposed it, big endian |
//! | 8 | which of that member's proposals it is, big endian |
//! | the rest | [`LogEntry`] |
//!
//! An entry of a version that is not known must stop the member, not be skipped: the others apply it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::storagepb::LogEntry;

const VERSION: u8 = 1;

/// Version, member and number.
const HEAD: usize = 1 + 8 + 8;

/// Which proposal an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProposalId {
    /// The member whose client asked for it.
    pub member_id: u64,
    /// Used once by that member; a restarted one begins somewhere else.
    pub number: u64,
}

/// Bytes that are no log entry of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogEntryError {
    /// Written by a newer version.
    #[error("the log has an entry of version {0}, this version reads up to {VERSION}: run a newer version")]
    TooNew(u8),
    /// Cut short or altered.
    #[error("the log has an entry that can't be read ({0}): restore a snapshot or rebuild this member")]
    Malformed(String),
}

/// The entry as bytes.
pub fn encode(id: ProposalId, entry: &LogEntry) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD + entry.encoded_len());
    bytes.put_u8(VERSION);
    bytes.put_u64(id.member_id);
    bytes.put_u64(id.number);
    entry.encode_raw(&mut bytes);
    bytes.freeze()
}

/// Whose proposal the bytes are, with what [`decode`] takes.
///
/// # Errors
/// [`LogEntryError`]; the member must stop, since the others may read it otherwise.
pub fn split(mut bytes: Bytes) -> Result<(ProposalId, Bytes), LogEntryError> {
    match bytes.try_get_u8() {
        Ok(VERSION) => {}
        Ok(version) if version > VERSION => return Err(LogEntryError::TooNew(version)),
        _ => return Err(LogEntryError::Malformed("no version".to_owned())),
    }
    match (bytes.try_get_u64(), bytes.try_get_u64()) {
        (Ok(member_id), Ok(number)) => Ok((ProposalId { member_id, number }, bytes)),
        _ => Err(LogEntryError::Malformed("no proposer".to_owned())),
    }
}

/// The entry in what [`split`] leaves.
///
/// # Errors
/// [`LogEntryError::Malformed`].
pub fn decode(rest: Bytes) -> Result<LogEntry, LogEntryError> {
    LogEntry::decode(rest).map_err(|e| LogEntryError::Malformed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcdserverpb::PutRequest;
    use crate::storagepb::log_entry::Op;

    #[test]
    fn an_entry_comes_back_and_others_are_refused() {
        let put = PutRequest { key: "k".into(), value: "v".into(), lease: 3, ..Default::default() };
        let entry = LogEntry { time_unix_ms: 17, user: "alice".into(), only_in_term: 4, op: Some(Op::Put(put)) };
        let id = ProposalId { member_id: 7, number: u64::MAX };
        let bytes = encode(id, &entry);
        let (found, rest) = split(bytes.clone()).unwrap();
        assert_eq!((found, decode(rest.clone())), (id, Ok(entry)));
        assert!(matches!(decode(rest.slice(..rest.len() - 1)), Err(LogEntryError::Malformed(_))));
        assert_eq!(split(Bytes::from_static(&[9, 1])), Err(LogEntryError::TooNew(9)));
        for cut in [0, 1, HEAD - 1] {
            assert!(matches!(split(bytes.slice(..cut)), Err(LogEntryError::Malformed(_))));
        }
    }
}
