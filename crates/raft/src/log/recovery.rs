//! Reading a log back: which files are its segments, what their frames say, and where the last one ends.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Disk, File};
use super::files::{Name, Segment, segment_name};
use super::format::{self, ALIGNMENT, FIRST_FRAME, FRAME_HEADER, Frame, Kind, Mark, NoHeader, Payload, SegmentHeader};
use super::index::{Index, Place};
use super::{HardState, LogError};

/// A log as it was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Segments before the last, oldest first.
    pub older: VecDeque<Segment>,
    /// The last one.
    pub current: Segment,
    pub salt: u64,
    pub state: Replay,
    /// Where the frames of the last segment end.
    pub end: u64,
    /// A part of the last segment that may not be on disk, though it could be read, and where it begins.
    pub unsure: (u64, Bytes),
    /// Segments that are not part of the log: purged, or never used.
    pub leftovers: Vec<String>,
}

/// A segment with a header.
struct Begun {
    header: SegmentHeader,
    name: String,
    file: Arc<dyn File>,
}

/// Finds the log and reads all of it. Changes nothing.
pub(super) fn find(disk: &dyn Disk) -> Result<Option<Found>, LogError> {
    let names = disk.list().map_err(|e| LogError::io("list", "", e))?;
    let mut numbers: BTreeSet<u64> = BTreeSet::new();
    for name in &names {
        numbers.extend(match Name::of(name) {
            Some(Name::Segment(number)) => Some(number),
            _ => None,
        });
    }
    let Some((last, mut leftovers)) = last_segment(disk, &mut numbers)? else { return Ok(None) };
    let mut chain = VecDeque::from([last]);
    while let Some(before) = segment_before(disk, &chain, &mut numbers)? {
        chain.push_front(before);
    }
    leftovers.extend(numbers.into_iter().map(segment_name));
    replay(chain, leftovers)
}

/// The newest segment that has a header, and the names of those after it: at most one, not used yet.
fn last_segment(disk: &dyn Disk, numbers: &mut BTreeSet<u64>) -> Result<Option<(Begun, Vec<String>)>, LogError> {
    let Some(number) = numbers.pop_last() else { return Ok(None) };
    let (name, file) = opened(disk, number)?;
    match begun(number, file.clone())? {
        Some(begun) => return Ok(Some((begun, Vec::new()))),
        // The first one of a log that has not come to be holds nothing but zeros.
        None if numbers.is_empty() => {
            let bytes = contents(&name, &*file)?;
            let used = number > 1 || frames_from(&bytes, 0).any(format::looks_like_a_frame);
            return if used { Err(no_header(&name)) } else { Ok(None) };
        }
        None => {}
    }
    // A header is synced before the first frame is written, and before the segment after it.
    let Some(before) = numbers.pop_last().filter(|before| before.checked_add(1) == Some(number)) else {
        return Err(no_header(&name));
    };
    let (before_name, before_file) = opened(disk, before)?;
    let before = begun(before, before_file)?.ok_or_else(|| no_header(&before_name))?;
    let mark = Mark::new(before.header.salt, number);
    if frames_from(&contents(&name, &*file)?, 0).any(|bytes| format::begins(bytes, mark)) {
        return Err(no_header(&name));
    }
    tracing::warn!(%name, "a segment of the log was not begun to the end, and is not used");
    Ok(Some((before, vec![name])))
}

fn no_header(name: &str) -> LogError {
    LogError::corrupt(name, 0, "the segment's header is not readable")
}

/// The segment before the first of the chain, if it is there.
fn segment_before(
    disk: &dyn Disk,
    chain: &VecDeque<Begun>,
    numbers: &mut BTreeSet<u64>,
) -> Result<Option<Begun>, LogError> {
    let Some(first) = chain.front().map(|first| first.header) else { return Ok(None) };
    let Some(number) = first.number.checked_sub(1).filter(|number| numbers.contains(number)) else { return Ok(None) };
    let before = begun(number, opened(disk, number)?.1)?.filter(|before| before.header.salt == first.salt);
    if before.is_some() {
        numbers.remove(&number);
    }
    Ok(before)
}

fn opened(disk: &dyn Disk, number: u64) -> Result<(String, Arc<dyn File>), LogError> {
    let name = segment_name(number);
    let file = disk.open(&name).map_err(|e| LogError::io("open", &name, e))?;
    Ok((name, file))
}

/// `None` without a header of this number.
fn begun(number: u64, file: Arc<dyn File>) -> Result<Option<Begun>, LogError> {
    let name = segment_name(number);
    let length = file.bytes().map_err(|e| LogError::io("read", &name, e))?;
    let mut first = [0; FIRST_FRAME];
    if length < FIRST_FRAME as u64 {
        return Ok(None);
    }
    file.read(&mut first, 0).map_err(|e| LogError::io("read", &name, e))?;
    match SegmentHeader::decode(&first) {
        Ok(header) if header.number == number => Ok(Some(Begun { header, name, file })),
        Ok(_) | Err(NoHeader::Bad) => Ok(None),
        Err(NoHeader::Newer(found)) => Err(LogError::Version { file: name, found, supported: format::VERSION }),
    }
}

fn contents(name: &str, file: &dyn File) -> Result<Bytes, LogError> {
    let error = |e| LogError::io("read", name, e);
    let length = usize::try_from(file.bytes().map_err(error)?).map_err(|e| error(std::io::Error::other(e)))?;
    let mut bytes = vec![0; length];
    file.read(&mut bytes, 0).map_err(error)?;
    Ok(bytes.into())
}

/// All places where a frame may begin.
fn frames_from(bytes: &[u8], at: usize) -> impl Iterator<Item = &[u8]> {
    (at..bytes.len()).step_by(ALIGNMENT).filter_map(|at| bytes.get(at..))
}

fn replay(mut chain: VecDeque<Begun>, leftovers: Vec<String>) -> Result<Option<Found>, LogError> {
    let Some(first) = chain.front().map(|first| first.header) else { return Ok(None) };
    let mut state = Replay::new(&first);
    let mut older = VecDeque::new();
    while let Some(begun) = chain.pop_front() {
        let Begun { header, name, file } = begun;
        state.begin(&header, &name)?;
        let bytes = contents(&name, &*file)?;
        let next = chain.front().map(|next| next.header.first_sequence);
        let end = state.segment(&name, &bytes, &header, next)?;
        let segment = Segment { number: header.number, file, bytes: bytes.len() as u64, mark: header.mark() };
        if next.is_some() {
            older.push_back(segment);
            continue;
        }
        if header.number == 1 && end == FIRST_FRAME {
            // Creating it ends with the first frame.
            return Ok(None);
        }
        if !state.index.is_complete() {
            let first = older.front().map_or_else(|| name.clone(), Segment::name);
            return Err(LogError::corrupt(&first, 0, "entries before this segment are missing"));
        }
        let unsure = if end == FIRST_FRAME { 0 } else { state.unsynced.front().map_or(end, |(_, offset)| *offset) };
        let found = Found {
            older,
            current: segment,
            salt: header.salt,
            state,
            end: end as u64,
            unsure: (unsure as u64, bytes.slice(unsure..end)),
            leftovers,
        };
        return Ok(Some(found));
    }
    Ok(None)
}

/// What the frames read so far amount to.
#[derive(Debug)]
pub(super) struct Replay {
    pub index: Index,
    pub hard_state: HardState,
    pub epoch: u64,
    /// The newest epoch of any frame that was seen, of the log or cut off.
    pub newest_epoch: u64,
    /// The sequence number of the next frame.
    pub next: u64,
    /// All frames up to this sequence number are known to be on disk.
    pub synced: u64,
    /// The frames of this segment for which that is not known, and where they begin.
    unsynced: VecDeque<(u64, usize)>,
    /// The file and the byte in it where an append begins that was not completed.
    pub torn: Option<(String, u64)>,
}

impl Replay {
    fn new(first: &SegmentHeader) -> Replay {
        Replay {
            index: Index::new(first.start, first.last),
            hard_state: first.hard_state,
            epoch: first.epoch,
            newest_epoch: first.epoch,
            next: first.first_sequence,
            synced: first.first_sequence.saturating_sub(1),
            unsynced: VecDeque::new(),
            torn: None,
        }
    }

    /// Checks that a segment goes on where the one before it has ended, perhaps in a new epoch.
    fn begin(&mut self, header: &SegmentHeader, name: &str) -> Result<(), LogError> {
        let same = header.first_sequence == self.next
            && header.epoch >= self.epoch
            && header.start == self.index.start()
            && header.last == self.index.last()
            && header.hard_state == self.hard_state;
        if !same {
            return Err(LogError::corrupt(name, 0, "the segment does not follow the one before it"));
        }
        self.epoch = header.epoch;
        self.newest_epoch = self.newest_epoch.max(header.epoch);
        Ok(())
    }

    /// Reads the frames of a segment, up to the one before `until`, and says where they end.
    fn segment(
        &mut self,
        name: &str,
        bytes: &Bytes,
        header: &SegmentHeader,
        until: Option<u64>,
    ) -> Result<usize, LogError> {
        let mark = header.mark();
        let mut at = FIRST_FRAME;
        self.synced = self.next.saturating_sub(1);
        self.unsynced.clear();
        while until.is_none_or(|until| self.next < until) {
            let found = bytes.get(at..).and_then(|rest| format::frame(rest, mark));
            // With the zeros behind it: they were written, and synced, with it.
            let found = found.filter(|frame| frame.bytes() <= bytes.len() - at);
            let Some(frame) = found.filter(|frame| self.is_next(frame)) else {
                self.end(name, bytes, at, mark, until)?;
                break;
            };
            let content = format::payload(frame.kind, &bytes.slice_ref(frame.payload));
            let place = Place { segment: header.number, offset: at as u64, bytes: FRAME_HEADER + frame.payload.len() };
            content
                .and_then(|content| self.apply(content, place))
                .ok_or_else(|| LogError::corrupt(name, at, "what stands here contradicts what is before it"))?;
            self.count(&frame, at);
            at += frame.bytes();
        }
        Ok(at)
    }

    fn is_next(&self, frame: &Frame<'_>) -> bool {
        let order = frame.order;
        let in_epoch = order.epoch == self.epoch || (order.epoch > self.epoch && frame.kind == Kind::Opening);
        order.sequence == self.next && in_epoch && order.synced < order.sequence
    }

    fn count(&mut self, frame: &Frame<'_>, at: usize) {
        self.epoch = frame.order.epoch;
        self.newest_epoch = self.newest_epoch.max(self.epoch);
        self.synced = self.synced.max(frame.order.synced);
        self.unsynced.push_back((frame.order.sequence, at));
        while self.unsynced.front().is_some_and(|(sequence, _)| *sequence <= self.synced) {
            self.unsynced.pop_front();
        }
        self.next = self.next.saturating_add(1);
    }

    /// There is no frame at `at`: tells the end of what was written from damage.
    fn end(&mut self, name: &str, bytes: &[u8], at: usize, mark: Mark, until: Option<u64>) -> Result<(), LogError> {
        if until.is_some() {
            return Err(LogError::corrupt(name, at, "a frame is not readable, and the next segment follows it"));
        }
        let mut torn = bytes.get(at..).is_some_and(|rest| format::begins(rest, mark));
        for later in frames_from(bytes, at).filter_map(|rest| format::frame(rest, mark)) {
            self.newest_epoch = self.newest_epoch.max(later.order.epoch);
            // Those of an earlier epoch were cut off before.
            if later.order.sequence > self.next && later.order.epoch >= self.epoch {
                if later.order.synced >= self.next {
                    return Err(LogError::corrupt(name, at, "a frame is not readable that was synced"));
                }
                torn = true;
            }
        }
        if torn {
            self.torn = Some((name.to_owned(), at as u64));
        }
        Ok(())
    }

    /// `None` if it does not fit.
    fn apply(&mut self, payload: Payload, place: Place) -> Option<()> {
        match payload {
            Payload::Opening => {}
            Payload::Entries(hard_state, entries) => {
                if let Some(first) = entries.first() {
                    self.index.accepts(first.position.index).then_some(())?;
                    self.index.append(entries.iter().map(|entry| entry.position), place);
                }
                self.hard_state = hard_state.unwrap_or(self.hard_state);
            }
            Payload::Purge(to) => {
                self.index.check(to.index).ok()?;
                if self.index.term(to.index).is_ok_and(|term| term != to.term) {
                    return None;
                }
                self.index.purge(to);
            }
            Payload::Reset(start, hard_state) => {
                self.index.reset(start);
                self.hard_state = hard_state;
            }
        }
        Some(())
    }
}
