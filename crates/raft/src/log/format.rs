//! What is in the files, byte by byte. Numbers are little-endian.
//!
//! A segment is a header of 512 bytes, frames without a gap between them, and a rest that is zeros or what
//! an earlier use of the file has left. A frame begins at a multiple of 8 bytes.
//!
//! | header, from byte | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `STENTLOG` |
//! | 8 | 4 | version of the format, 1. Magic, version and checksum stay where they are in every version |
//! | 12 | 4 | CRC32C over the 512 bytes, these four left out |
//! | 16 | 8 | salt: a random number, the same in all segments of a log |
//! | 24 | 8 | number of the segment: 1 for the first of a log, then one more for each use of any file |
//! | 32 | 8 | sequence number of the first frame |
//! | 40 | 8 | epoch in which the segment was begun |
//! | 48 | 16 | start: term and index of the entry before the first that is in the log |
//! | 64 | 16 | last: term and index of the last entry |
//! | 80 | 24 | hard state: term, vote, commit |
//! | 104 | 408 | zeros |
//!
//! | frame, from byte | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `STFR` |
//! | 4 | 4 | CRC32C over bytes 8 to the end of the payload |
//! | 8 | 4 | length of the payload in bytes |
//! | 12 | 4 | kind |
//! | 16 | 8 | mark: a number made of the log's salt and the segment's number |
//! | 24 | 8 | sequence number: one more than that of the frame before |
//! | 32 | 8 | epoch: one more for each opening of the log |
//! | 40 | 8 | synced: the sequence number up to which all frames were on disk when this one was written |
//! | 48 | | payload, then zeros to the next multiple of 8 |
//!
//! | kind | payload |
//! |---|---|
//! | 1, opening | nothing |
//! | 2, entries | flags (4; 1: with a hard state), number of entries (4), hard state (24) if flagged, index of the first entry (8), then for each entry its term (8), kind (4), lengths of context and data (4 each), context, data |
//! | 3, purge | new start: term and index (8 each) |
//! | 4, reset | new start (16), hard state (24) |

use bytes::Bytes;

use super::{Entry, EntryKind, HardState, Position};

/// Where the first frame of a segment begins, in bytes.
pub(super) const FIRST_FRAME: usize = 512;
/// Bytes of a frame before its payload.
pub(super) const FRAME_HEADER: usize = 48;
/// Frames begin at multiples of this, in bytes.
pub(super) const ALIGNMENT: usize = 8;
/// The longest payload, in bytes.
pub(super) const PAYLOAD_MAX: usize = 1 << 30;
/// No sequence number, epoch, segment number or index reaches this: counting further never overflows.
pub(super) const NUMBER_END: u64 = 1 << 62;
/// The version that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;

const SEGMENT_MAGIC: [u8; 8] = *b"STENTLOG";
const FRAME_MAGIC: [u8; 4] = *b"STFR";
/// Where the checksums are.
const SEGMENT_CRC: usize = 12;
const FRAME_CRC: usize = 4;
const WITH_HARD_STATE: u32 = 1;
/// Bytes of an entry before context and data.
const ENTRY_HEADER: usize = 20;

/// What a segment begins with: all that is to be known of the frames before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub salt: u64,
    pub number: u64,
    pub first_sequence: u64,
    pub epoch: u64,
    pub start: Position,
    pub last: Position,
    pub hard_state: HardState,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// It is not whole: never written, torn or damaged.
    Bad,
    /// It is whole, and of a newer version.
    Newer(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; FIRST_FRAME] {
        let mut fields = Vec::with_capacity(FIRST_FRAME);
        fields.extend_from_slice(&SEGMENT_MAGIC);
        fields.extend_from_slice(&VERSION.to_le_bytes());
        fields.extend_from_slice(&[0; 4]);
        let numbers = [self.salt, self.number, self.first_sequence, self.epoch];
        numbers.iter().for_each(|number| fields.extend_from_slice(&number.to_le_bytes()));
        put_position(&mut fields, self.start);
        put_position(&mut fields, self.last);
        put_hard_state(&mut fields, self.hard_state);
        fields.resize(FIRST_FRAME, 0);
        let crc = header_crc(&fields);
        let mut header = [0; FIRST_FRAME];
        header.copy_from_slice(&fields);
        header[SEGMENT_CRC..SEGMENT_CRC + 4].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Reads the header that a file begins with.
    pub(super) fn decode(file: &[u8]) -> Result<SegmentHeader, NoHeader> {
        let header = file.get(..FIRST_FRAME).ok_or(NoHeader::Bad)?;
        let mut fields = Fields(header);
        let magic = fields.bytes(SEGMENT_MAGIC.len());
        let (version, crc) = (fields.u32().ok_or(NoHeader::Bad)?, fields.u32());
        if magic != Some(&SEGMENT_MAGIC[..]) || crc != Some(header_crc(header)) || version == 0 {
            return Err(NoHeader::Bad);
        }
        if version > VERSION {
            return Err(NoHeader::Newer(version));
        }
        let mut decoded = || {
            Some(SegmentHeader {
                salt: fields.u64()?,
                number: fields.u64()?,
                first_sequence: fields.u64()?,
                epoch: fields.u64()?,
                start: fields.position()?,
                last: fields.position()?,
                hard_state: fields.hard_state()?,
            })
        };
        decoded().filter(SegmentHeader::is_possible).ok_or(NoHeader::Bad)
    }

    fn is_possible(&self) -> bool {
        let counted = [self.number, self.first_sequence, self.last.index];
        counted.iter().chain([&self.epoch]).all(|number| *number < NUMBER_END)
            && self.number > 0
            && self.first_sequence > 0
            && self.start.index <= self.last.index
    }

    /// What its frames bear.
    pub(super) fn mark(&self) -> Mark {
        Mark::new(self.salt, self.number)
    }
}

fn header_crc(header: &[u8]) -> u32 {
    let (before, rest) = header.split_at(SEGMENT_CRC.min(header.len()));
    crc32c::crc32c_append(crc32c::crc32c(before), rest.get(4..).unwrap_or_default())
}

/// What tells the frames of one use of one file from all else that may stand there: what an earlier use has
/// left, and values of clients that look like frames. Nobody who does not know the salt can guess it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    pub(super) fn new(salt: u64, segment: u64) -> Mark {
        Mark(mixed(mixed(salt).wrapping_add(segment)))
    }
}

/// A number in which every bit depends on every bit of another one.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 29)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    number ^ (number >> 32)
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Opening,
    Entries,
    Purge,
    Reset,
}

impl Kind {
    fn code(self) -> u32 {
        match self {
            Kind::Opening => 1,
            Kind::Entries => 2,
            Kind::Purge => 3,
            Kind::Reset => 4,
        }
    }

    fn of(code: u32) -> Option<Kind> {
        [Kind::Opening, Kind::Entries, Kind::Purge, Kind::Reset].into_iter().find(|kind| kind.code() == code)
    }
}

/// A frame's place among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub sequence: u64,
    pub epoch: u64,
    pub synced: u64,
}

/// A frame whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub kind: Kind,
    pub order: Order,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes from its begin to that of the next.
    pub(super) fn bytes(&self) -> usize {
        (FRAME_HEADER + self.payload.len()).next_multiple_of(ALIGNMENT)
    }
}

/// Completes a frame of which the payload stands behind room for its header.
pub(super) fn seal(frame: &mut Vec<u8>, kind: Kind, order: Order, mark: Mark) {
    let length = frame.len().saturating_sub(FRAME_HEADER) as u32;
    let mut header = [0; FRAME_HEADER];
    header[..4].copy_from_slice(&FRAME_MAGIC);
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..16].copy_from_slice(&kind.code().to_le_bytes());
    for (at, number) in [(16, mark.0), (24, order.sequence), (32, order.epoch), (40, order.synced)] {
        header[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    if let Some(room) = frame.first_chunk_mut() {
        *room = header;
    }
    let crc = crc32c::crc32c(frame.get(8..).unwrap_or_default());
    if let Some(room) = frame.get_mut(FRAME_CRC..FRAME_CRC + 4) {
        room.copy_from_slice(&crc.to_le_bytes());
    }
    frame.resize(frame.len().next_multiple_of(ALIGNMENT), 0);
}

/// Whether the beginning of a frame of this use of the file stands here, whatever follows.
pub(super) fn begins(bytes: &[u8], mark: Mark) -> bool {
    looks_like_a_frame(bytes) && bytes.get(16..24) == Some(&mark.0.to_le_bytes()[..])
}

/// Whether the beginning of a frame of any use of the file, or what looks like one, stands here.
pub(super) fn looks_like_a_frame(bytes: &[u8]) -> bool {
    bytes.starts_with(&FRAME_MAGIC)
}

/// The frame that stands here.
pub(super) fn frame(bytes: &[u8], mark: Mark) -> Option<Frame<'_>> {
    if !begins(bytes, mark) {
        return None;
    }
    let mut fields = Fields(bytes.get(4..)?);
    let (crc, length, kind) = (fields.u32()?, fields.u32()?, Kind::of(fields.u32()?)?);
    fields.u64()?;
    let order = Order { sequence: fields.u64()?, epoch: fields.u64()?, synced: fields.u64()? };
    let payload = fields.bytes(usize::try_from(length).ok()?)?;
    let covered = bytes.get(8..FRAME_HEADER + payload.len())?;
    let is_possible = [order.sequence, order.epoch, order.synced].iter().all(|number| *number < NUMBER_END);
    (is_possible && crc32c::crc32c(covered) == crc).then_some(Frame { kind, order, payload })
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Opening,
    Entries(Option<HardState>, Vec<Entry>),
    Purge(Position),
    Reset(Position, HardState),
}

/// Reads a payload. `None` if it is not as it should be, or goes on.
pub(super) fn payload(kind: Kind, bytes: &Bytes) -> Option<Payload> {
    let mut fields = Fields(bytes);
    let decoded = match kind {
        Kind::Opening => Payload::Opening,
        Kind::Entries => return entries(bytes),
        Kind::Purge => Payload::Purge(fields.position()?),
        Kind::Reset => Payload::Reset(fields.position().filter(is_countable)?, fields.hard_state()?),
    };
    fields.0.is_empty().then_some(decoded)
}

/// Whether entries can go on behind this position.
pub(super) fn is_countable(position: &Position) -> bool {
    position.index < NUMBER_END
}

fn entries(bytes: &Bytes) -> Option<Payload> {
    let mut fields = Fields(bytes);
    let (flags, count) = (fields.u32()?, fields.u32()?);
    let hard_state = if flags & WITH_HARD_STATE == 0 { None } else { Some(fields.hard_state()?) };
    let first = fields.u64()?;
    // A number of entries that the payload cannot hold must not take memory.
    let most = fields.0.len() / ENTRY_HEADER;
    let mut entries = Vec::with_capacity(most.min(usize::try_from(count).ok()?));
    for nth in 0..u64::from(count) {
        let position = Position { term: fields.u64()?, index: first.checked_add(nth)? };
        is_countable(&position).then_some(())?;
        let kind = match fields.u32()? {
            0 => EntryKind::Normal,
            1 => EntryKind::Change,
            2 => EntryKind::ChangeV2,
            _ => return None,
        };
        let (context, data) = (fields.u32()?, fields.u32()?);
        let mut part = |length| Some(bytes.slice_ref(fields.bytes(usize::try_from(length).ok()?)?));
        entries.push(Entry { position, kind, context: part(context)?, data: part(data)? });
    }
    let whole = fields.0.is_empty() && flags & !WITH_HARD_STATE == 0 && first > 0;
    whole.then_some(Payload::Entries(hard_state, entries))
}

/// How many bytes the payload of these entries has.
pub(super) fn entries_bytes(entries: &[Entry]) -> u64 {
    let bytes = |entry: &Entry| (ENTRY_HEADER + entry.context.len() + entry.data.len()) as u64;
    40 + entries.iter().map(bytes).sum::<u64>()
}

/// Writes a hard state and entries that follow one another; `next` is the index of the first, or would be.
pub(super) fn put_entries(out: &mut Vec<u8>, hard_state: Option<HardState>, next: u64, entries: &[Entry]) {
    let flags = if hard_state.is_some() { WITH_HARD_STATE } else { 0 };
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    if let Some(hard_state) = hard_state {
        put_hard_state(out, hard_state);
    }
    out.extend_from_slice(&next.to_le_bytes());
    for entry in entries {
        let kind: u32 = match entry.kind {
            EntryKind::Normal => 0,
            EntryKind::Change => 1,
            EntryKind::ChangeV2 => 2,
        };
        out.extend_from_slice(&entry.position.term.to_le_bytes());
        for number in [kind, entry.context.len() as u32, entry.data.len() as u32] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&entry.context);
        out.extend_from_slice(&entry.data);
    }
}

pub(super) fn put_position(out: &mut Vec<u8>, position: Position) {
    out.extend_from_slice(&position.term.to_le_bytes());
    out.extend_from_slice(&position.index.to_le_bytes());
}

pub(super) fn put_hard_state(out: &mut Vec<u8>, state: HardState) {
    for number in [state.term, state.vote, state.commit] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Reads one field after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    fn position(&mut self) -> Option<Position> {
        Some(Position { term: self.u64()?, index: self.u64()? })
    }

    fn hard_state(&mut self) -> Option<HardState> {
        Some(HardState { term: self.u64()?, vote: self.u64()?, commit: self.u64()? })
    }
}

/// Gives a segment's header the checksum that it should have.
pub(super) fn correct_header(segment: &mut [u8]) {
    let Some(header) = segment.get_mut(..FIRST_FRAME) else { return };
    let crc = header_crc(header);
    if let Some(room) = header.get_mut(SEGMENT_CRC..SEGMENT_CRC + 4) {
        room.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Gives the frame that stands here the checksum that it should have, and says how many bytes it has.
pub(super) fn with_right_crc(bytes: &mut [u8]) -> Option<usize> {
    let length = usize::try_from(Fields(bytes.get(8..)?).u32()?).ok()?;
    let end = FRAME_HEADER.checked_add(length)?;
    let crc = crc32c::crc32c(bytes.get(8..end)?);
    bytes.get_mut(FRAME_CRC..FRAME_CRC + 4)?.copy_from_slice(&crc.to_le_bytes());
    Some(end)
}
