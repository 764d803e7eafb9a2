//! What a read reads from: the published state, or the state that a transaction is changing.

use stentor_proto::{EtcdError, Revision};

use crate::engine::{Family, Read};
use crate::key_index::IndexView;
use crate::lease::Leases;
use crate::record::Record;
use crate::{ChangeId, Error};

/// One consistent state of the store.
pub(crate) trait Source {
    /// Which changes each key has had.
    fn index(&self) -> &IndexView;

    /// The newest revision that can be read.
    fn current(&self) -> Revision;

    /// What reads below are refused; `None` if nothing was ever compacted.
    fn compacted(&self) -> Option<Revision>;

    /// The leases.
    fn leases(&self) -> &Leases;

    /// The records of changes that the index knows, in the order asked for.
    fn records(&self, ids: &[ChangeId]) -> Result<Vec<Record>, Error>;

    /// The record of one change.
    fn record(&self, id: ChangeId) -> Result<Record, Error> {
        self.records(&[id])?.pop().ok_or_else(|| Error::missing(id))
    }

    /// The revision that a request with `revision` reads at, or why it can't.
    fn readable(&self, revision: i64) -> Result<Revision, EtcdError> {
        let Some(wanted) = Revision::new(revision).filter(|r| *r > Revision::ZERO) else {
            return Ok(self.current());
        };
        if wanted > self.current() {
            Err(EtcdError::FutureRev)
        } else if self.compacted().is_some_and(|compacted| wanted < compacted) {
            Err(EtcdError::Compacted)
        } else {
            Ok(wanted)
        }
    }
}

/// Reads records from an engine; one that is not there is an error, since the index named it.
pub(crate) fn read_records(engine: &(impl Read + ?Sized), ids: &[ChangeId]) -> Result<Vec<Record>, Error> {
    let keys: Vec<[u8; 12]> = ids.iter().map(|id| id.to_bytes()).collect();
    let values = engine.get_many(Family::History, &keys)?;
    ids.iter()
        .zip(values)
        .map(|(&id, value)| {
            let value = value.ok_or_else(|| Error::missing(id))?;
            Record::decode(id, value).map_err(|e| Error::unreadable(id, e))
        })
        .collect()
}
