use std::fmt;

use stentor_proto::Revision;

/// One change of one key: the revision of its transaction, and its place within it. The order of
/// changes is the order of events.
///
/// ```
/// use stentor_mvcc::ChangeId;
/// use stentor_proto::Revision;
/// let revision = Revision::new(7).ok_or("negative")?;
/// let (first, second) = (ChangeId { revision, sub: 0 }, ChangeId { revision, sub: 1 });
/// assert!(first < second && first.to_bytes() < second.to_bytes());
/// assert_eq!(ChangeId::from_bytes(&second.to_bytes()), Some(second));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId {
    /// The revision of the transaction.
    pub revision: Revision,
    /// 0 for its first change, 1 for the next: etcd's sub-revision.
    pub sub: u32,
}

impl ChangeId {
    /// Its key in the engine: ordered as changes are.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..8].copy_from_slice(&self.revision.get().to_be_bytes());
        key[8..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// The change that a key of the engine stands for; `None` for what is no such key.
    pub fn from_bytes(key: &[u8]) -> Option<ChangeId> {
        let (revision, sub) = key.split_first_chunk::<8>()?;
        let revision = Revision::new(i64::from_be_bytes(*revision))?;
        let sub = u32::from_be_bytes(sub.try_into().ok()?);
        Some(ChangeId { revision, sub })
    }
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.revision, self.sub)
    }
}
