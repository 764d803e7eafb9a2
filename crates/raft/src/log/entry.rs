//! What the log keeps.

use bytes::Bytes;

/// Where an entry stands in the log. The default, term 0 and index 0, is before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The term in which the entry was proposed.
    pub term: u64,
    /// Its number in the log; the first entry has 1.
    pub index: u64,
}

/// What an entry is to the Raft library. The log only keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Data of the application, or nothing, as a new leader begins with.
    #[default]
    Normal,
    /// A change of one member, in the older encoding.
    Change,
    /// A change of any number of members.
    ChangeV2,
}

/// An entry. The bytes mean nothing to the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// What it is.
    pub kind: EntryKind,
    /// What the proposer wants back with it.
    pub context: Bytes,
    /// What is to be applied.
    pub data: Bytes,
}

/// What a member must not forget, beside the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term that it knows of.
    pub term: u64,
    /// Whom it voted for in that term; 0 is nobody.
    pub vote: u64,
    /// The index up to which entries are known to be committed.
    pub commit: u64,
}

/// What an append waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk: it survives a loss of power, and so does all that was appended before.
    Synced,
    /// Handed to the operating system: it survives the end of the process. A loss of power leaves any
    /// number of such appends, without a hole, as they were made.
    Buffered,
}

/// How a log uses memory and disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a segment, the unit in which the log is freed. A single append that is larger gets a
    /// segment of its own size. At least 4 KiB. Default 64 MiB.
    pub segment_bytes: u64,
    /// Bytes of recent entries that are kept in memory, 0 for none. Default 16 MiB.
    pub cached_bytes: u64,
    /// Bytes that a new segment is written ahead with zeros at first; this grows with the segment, up to
    /// sixteen times as much. Default 256 KiB.
    pub write_ahead_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 64 << 20, cached_bytes: 16 << 20, write_ahead_bytes: 256 << 10 }
    }
}
