//! A log entry as bytes: what a replicated log carries and keeps.
//!
//! The first byte is the version of what follows. An entry of a version that is not known must stop the
//! member, not be skipped: the others apply it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use stentor_proto::storagepb::LogEntry;

const VERSION: u8 = 1;

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
pub fn encode(entry: &LogEntry) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + entry.encoded_len());
    bytes.put_u8(VERSION);
    // The buffer grows as needed, so that encoding can't fail.
    bytes.put_slice(&entry.encode_to_vec());
    bytes.freeze()
}

/// The entry that bytes stand for.
///
/// # Errors
/// [`LogEntryError`]; the member must stop, since the others may read it otherwise.
pub fn decode(mut bytes: Bytes) -> Result<LogEntry, LogEntryError> {
    match bytes.try_get_u8() {
        Ok(VERSION) => LogEntry::decode(bytes).map_err(|e| LogEntryError::Malformed(e.to_string())),
        Ok(version) if version > VERSION => Err(LogEntryError::TooNew(version)),
        _ => Err(LogEntryError::Malformed("no version".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use stentor_proto::etcdserverpb::PutRequest;
    use stentor_proto::storagepb::log_entry::Op;

    use super::*;

    #[test]
    fn an_entry_comes_back_and_others_are_refused() {
        let put = PutRequest { key: "k".into(), value: "v".into(), lease: 3, ..Default::default() };
        let entry = LogEntry { time_unix_ms: 17, user: "alice".into(), op: Some(Op::Put(put)) };
        let bytes = encode(&entry);
        assert_eq!(decode(bytes.clone()), Ok(entry));
        assert_eq!(decode(Bytes::from_static(&[9, 1])), Err(LogEntryError::TooNew(9)));
        assert!(matches!(decode(Bytes::new()), Err(LogEntryError::Malformed(_))));
        assert!(matches!(decode(bytes.slice(..bytes.len() - 1)), Err(LogEntryError::Malformed(_))));
    }
}
