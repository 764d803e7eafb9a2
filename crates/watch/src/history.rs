use std::ops::ControlFlow;

use stentor_mvcc::{Error, Record, Store, View};
use stentor_proto::Revision;
use stentor_proto::mvccpb::KeyValue;

/// What a hub reads events from that are no longer in memory.
pub trait History: Send + Sync + 'static {
    /// The history as it is now.
    fn now(&self) -> Box<dyn Moment>;
}

/// History at one moment. While it is held, compaction keeps what it can read.
pub trait Moment: Send {
    /// The newest revision.
    fn revision(&self) -> Revision;

    /// The revision below which history is gone.
    fn compacted(&self) -> Option<Revision>;

    /// Gives the changes from revision `from` to `to`, both included, in order, until `take` breaks.
    ///
    /// # Errors
    /// Those of reading; `from` below the compacted revision.
    fn changes(
        &self,
        from: Revision,
        to: Revision,
        take: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), Error>;

    /// The pair of a key as of a revision; `None` if there was none. Exact for what changes at or above
    /// the compacted revision have superseded.
    ///
    /// # Errors
    /// Those of reading.
    fn pair_at(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, Error>;
}

impl History for Store {
    fn now(&self) -> Box<dyn Moment> {
        Box::new(self.view())
    }
}

impl Moment for View {
    fn revision(&self) -> Revision {
        View::revision(self)
    }

    fn compacted(&self) -> Option<Revision> {
        View::compacted(self)
    }

    fn changes(
        &self,
        from: Revision,
        to: Revision,
        take: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        for record in self.history(from, to)? {
            if take(record?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn pair_at(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, Error> {
        View::pair_at(self, key, at)
    }
}
