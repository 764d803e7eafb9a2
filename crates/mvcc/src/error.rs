use stentor_proto::EtcdError;

use crate::ChangeId;
use crate::engine::EngineError;
use crate::record::RecordError;

/// Why the store did not do what it was asked.
///
/// ```
/// use stentor_mvcc::{Error, Store, engine::memory};
/// use stentor_proto::EtcdError;
/// use stentor_proto::etcdserverpb::PutRequest;
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// let on_no_lease = PutRequest { key: "k".into(), lease: 7, ..Default::default() };
/// assert!(matches!(store.put(on_no_lease), Err(Error::Refused(EtcdError::LeaseNotFound))));
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request can't be served as things are; nothing was changed. The text is the protocol's.
    #[error(transparent)]
    Refused(#[from] EtcdError),
    /// The engine failed. After a failed write the store refuses every further one; reads go on as far
    /// as they can.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// History has no readable record where the index says there is one. Restore a snapshot, or remove
    /// this member and let it copy the data from the others.
    #[error("change {at} is not readable ({cause}): restore a snapshot or rebuild this member")]
    Record {
        /// The change.
        at: ChangeId,
        /// What is wrong with it.
        cause: String,
    },
    /// A record beside history is not readable, or contradicts it. Restore a snapshot, or remove this
    /// member and let it copy the data from the others.
    #[error("the store's records contradict each other ({detail}): restore a snapshot or rebuild this member")]
    Inconsistent {
        /// What was found.
        detail: String,
    },
}

impl Error {
    pub(crate) fn missing(at: ChangeId) -> Error {
        Error::Record { at, cause: "it is missing".to_owned() }
    }

    pub(crate) fn unreadable(at: ChangeId, cause: RecordError) -> Error {
        Error::Record { at, cause: cause.to_string() }
    }

    pub(crate) fn inconsistent(detail: impl Into<String>) -> Error {
        Error::Inconsistent { detail: detail.into() }
    }
}
