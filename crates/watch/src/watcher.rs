use stentor_mvcc::Record;
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::WatchCreateRequest;
use stentor_proto::etcdserverpb::watch_create_request::FilterType;

use crate::counts::Sent;
use crate::span::Span;

/// A watcher's name within its stream that is never used twice, as ids are: its place, and how often that
/// was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Where a watcher takes its events from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// With the others that have the stream's fence behind them.
    Group,
    /// With them, and events of the current batch wait for it.
    Due,
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

/// There may be a million of them: what few of them have is kept elsewhere.
pub(crate) struct Watcher {
    pub(crate) id: i64,
    pub(crate) span: Span,
    /// Its cursor: no event below it is delivered any more.
    pub(crate) from: Revision,
    /// What it was sent, once it was sent something.
    sent: Option<Box<Sent>>,
    pub(crate) options: Options,
    pub(crate) place: Place,
    pub(crate) note: Note,
    /// It got an event since the last tick.
    pub(crate) active: bool,
    /// The slot of the next one with the same range. They are a ring.
    pub(crate) next: u32,
}

impl Watcher {
    /// One that is due events from a revision on, with its stream's other watchers.
    pub(crate) fn new(id: i64, span: Span, from: Revision, options: Options) -> Watcher {
        Watcher { id, span, from, sent: None, options, place: Place::Group, note: Note::No, active: false, next: 0 }
    }

    /// Events were sent to it.
    pub(crate) fn count(&mut self, events: u64, bytes: u64) {
        self.active = true;
        let sent = self.sent.get_or_insert_default();
        sent.events += events;
        sent.bytes += bytes;
    }

    /// All that was sent to it.
    pub(crate) fn sent(&self) -> Sent {
        self.sent.as_deref().copied().unwrap_or_default()
    }
}

/// What a watcher was created with, in a byte.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options(u8);

impl Options {
    const PREV_KV: u8 = 1;
    const FRAGMENT: u8 = 2;
    const PROGRESS_NOTIFY: u8 = 4;
    const NO_PUT: u8 = 8;
    const NO_DELETE: u8 = 16;

    pub(crate) fn of(request: &WatchCreateRequest) -> Options {
        let has = |filter: FilterType| request.filters.contains(&(filter as i32));
        let flags = [
            (request.prev_kv, Options::PREV_KV),
            (request.fragment, Options::FRAGMENT),
            (request.progress_notify, Options::PROGRESS_NOTIFY),
            (has(FilterType::Noput), Options::NO_PUT),
            (has(FilterType::Nodelete), Options::NO_DELETE),
        ];
        Options(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum())
    }

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    pub(crate) fn prev_kv(self) -> bool {
        self.has(Options::PREV_KV)
    }

    pub(crate) fn fragment(self) -> bool {
        self.has(Options::FRAGMENT)
    }

    pub(crate) fn progress_notify(self) -> bool {
        self.has(Options::PROGRESS_NOTIFY)
    }

    /// Those that decide what is in a response.
    pub(crate) fn of_content(self) -> Options {
        Options(self.0 & !(Options::FRAGMENT | Options::PROGRESS_NOTIFY))
    }

    /// Whether the filters let a change through.
    pub(crate) fn pass(self, record: &Record) -> bool {
        !self.has(if record.is_delete() { Options::NO_DELETE } else { Options::NO_PUT })
    }
}
