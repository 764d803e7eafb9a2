use stentor_mvcc::Record;
use stentor_proto::etcdserverpb::WatchCreateRequest;
use stentor_proto::etcdserverpb::watch_create_request::FilterType;
use stentor_proto::{KeyRange, Revision};

/// A watcher's name within its stream that is never used twice, as ids are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) u64);

/// Where a watcher takes its events from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// With the others that have the stream's fence behind them; `due` while events of the current batch
    /// wait for it.
    Group {
        /// It is among those the current batch has events for.
        due: bool,
    },
    /// Reading what it missed, by its own cursor.
    Behind,
}

/// A progress note that is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    No,
    /// Unless an event comes first.
    IfQuiet,
    Yes,
}

pub(crate) struct Watcher {
    pub(crate) id: i64,
    pub(crate) range: KeyRange,
    pub(crate) options: Options,
    /// Its cursor: no event below it is delivered any more.
    pub(crate) from: Revision,
    /// The least revision that a progress note may tell it.
    pub(crate) notes_from: Revision,
    pub(crate) place: Place,
    /// It got an event since the last tick.
    pub(crate) active: bool,
    pub(crate) note: Note,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) prev_kv: bool,
    pub(crate) fragment: bool,
    pub(crate) progress_notify: bool,
    no_put: bool,
    no_delete: bool,
}

impl Options {
    pub(crate) fn of(request: &WatchCreateRequest) -> Options {
        let has = |filter: FilterType| request.filters.contains(&(filter as i32));
        Options {
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            no_put: has(FilterType::Noput),
            no_delete: has(FilterType::Nodelete),
        }
    }

    /// Whether the filters let a change through.
    pub(crate) fn pass(&self, record: &Record) -> bool {
        !if record.is_delete() { self.no_delete } else { self.no_put }
    }
}
