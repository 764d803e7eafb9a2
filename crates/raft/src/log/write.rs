//! Changing the log.

use std::io;

use super::error::is_full;
use super::files::{full_or_io, segment_name};
use super::format::{self, ALIGNMENT, FIRST_FRAME, FRAME_HEADER, Kind, Mark, Order, PAYLOAD_MAX};
use super::index::Place;
use super::{Durability, Entry, HardState, Log, LogError, Position};
use crate::failpoints;

/// Bytes that only a purge and a reset may use, so that a full disk does not keep them from making room.
const RESERVE: u64 = 256;
/// A segment is written ahead in pieces of at most so many times what it begins with.
const AHEAD_GROWTH: u64 = 16;
/// A frame's memory is kept for the next one if it is not larger than this, in bytes.
const KEPT_FRAME: usize = 1 << 20;

impl Log {
    /// Appends a hard state, entries or both, as one: after a crash all of it is there or nothing. The
    /// entries go on after the last one, or replace those from the first one's index on. With neither, and
    /// [`Durability::Synced`], this is [`sync`](Log::sync).
    ///
    /// The entries' bytes are kept in memory as they are passed, until newer ones take their place.
    ///
    /// # Errors
    /// [`LogError::Misplaced`] if the entries do not follow one another or leave a gap,
    /// [`LogError::TooLarge`] if they are more than 1 GiB, [`LogError::Full`] if there is no room. All of
    /// them change nothing. After any other error the log refuses to change.
    pub fn append(
        &mut self,
        hard_state: Option<HardState>,
        entries: &[Entry],
        durability: Durability,
    ) -> Result<(), LogError> {
        self.check_usable()?;
        if hard_state.is_none() && entries.is_empty() {
            return if durability == Durability::Synced { self.sync() } else { Ok(()) };
        }
        let next = self.check_places(entries)?;
        let bytes = format::entries_bytes(entries);
        if bytes > PAYLOAD_MAX as u64 {
            return Err(LogError::TooLarge { bytes, most: PAYLOAD_MAX as u64 });
        }
        let place = self.write(Kind::Entries, durability, |out| format::put_entries(out, hard_state, next, entries))?;
        self.index.append(entries.iter().map(|entry| entry.position), place);
        self.cache.append(entries);
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        Ok(())
    }

    /// Waits until all that was appended is on disk.
    ///
    /// # Errors
    /// Errors of the file system, after which the log refuses to change.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check_usable()?;
        self.sync_current()
    }

    /// Allows to forget the entries up to this index: they cannot be read any more, and segments without any
    /// other entries are freed, if there are such after a sync. Nothing happens if they were purged before.
    ///
    /// # Errors
    /// [`LogError::Misplaced`] if the log does not reach so far, [`LogError::Full`] as with
    /// [`append`](Log::append), though a purge finds room on a full disk a few times. After any other error
    /// the log refuses to change.
    pub fn purge(&mut self, through: u64) -> Result<(), LogError> {
        self.check_usable()?;
        if through <= self.index.start().index {
            return Ok(());
        }
        let term = self.index.term(through).map_err(|_| self.misplaced(through))?;
        let to = Position { term, index: through };
        self.write(Kind::Purge, Durability::Buffered, |out| format::put_position(out, to))?;
        self.index.purge(to);
        self.cache.purge(through);
        if self.files.older.front().is_some_and(|segment| segment.number < self.first_segment()) {
            // Without this frame the entries in those segments would be missed.
            self.sync_current()?;
            self.retire();
        }
        Ok(())
    }

    /// Begins anew after a snapshot was installed: no entries, going on after `start`, with this hard state.
    /// Durable, and one change: after a crash the log is as before or as here, never in between.
    ///
    /// # Errors
    /// As [`purge`](Log::purge); misplaced is an index of 2^62 and more.
    pub fn reset(&mut self, start: Position, hard_state: HardState) -> Result<(), LogError> {
        self.check_usable()?;
        if !format::is_countable(&start) {
            return Err(self.misplaced(start.index));
        }
        self.write(Kind::Reset, Durability::Synced, |out| {
            format::put_position(out, start);
            format::put_hard_state(out, hard_state);
        })?;
        self.index.reset(start);
        self.cache.clear();
        self.hard_state = hard_state;
        self.retire();
        Ok(())
    }

    /// Does a piece of what later appends would have to do otherwise: writes ahead, and prepares the next
    /// segment. To be called when there is nothing to append, until it says `false`. A call takes
    /// milliseconds, and syncs.
    ///
    /// # Errors
    /// [`LogError::Full`] if there is no room, which can be ignored: the log is as before. After any other
    /// error it refuses to change.
    pub fn prepare(&mut self) -> Result<bool, LogError> {
        self.check_usable()?;
        let (piece, most) = (self.piece(), self.options.segment_bytes);
        if self.current.bytes < most && self.current.bytes.saturating_sub(self.end) < piece / 2 {
            self.lengthen((self.current.bytes + piece).min(most))?;
            self.sync_file()?;
            return Ok(true);
        }
        if self.end < most / 2 {
            return Ok(false);
        }
        let number = self.current.number.saturating_add(1);
        self.files.prepare_spare(number, piece, most).map_err(|error| match error {
            LogError::Io { action, file, source } => self.fail(action, &file, source),
            other => other,
        })
    }

    /// The index of the first of the entries, or of the entry to come if there are none.
    fn check_places(&self, entries: &[Entry]) -> Result<u64, LogError> {
        let after_last = self.index.last().index.saturating_add(1);
        let Some(first) = entries.first().map(|entry| entry.position.index) else { return Ok(after_last) };
        if !self.index.accepts(first) {
            return Err(self.misplaced(first));
        }
        let fits = |(expected, entry): &(u64, &Entry)| {
            *expected == entry.position.index && format::is_countable(&entry.position)
        };
        let expected = (first..).zip(entries).find(|pair| !fits(pair));
        expected.map_or(Ok(first), |(_, entry)| Err(self.misplaced(entry.position.index)))
    }

    fn misplaced(&self, index: u64) -> LogError {
        let first = self.index.start().index.saturating_add(1);
        LogError::Misplaced { index, first, last: self.index.last().index }
    }

    /// Writes a frame behind the last one. What it says is for the caller to follow.
    pub(super) fn write(
        &mut self,
        kind: Kind,
        durability: Durability,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Place, LogError> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(FRAME_HEADER, 0);
        fill(&mut frame);
        let result = self.write_frame(kind, durability, &mut frame);
        if frame.capacity() <= KEPT_FRAME {
            self.frame = frame;
        }
        result
    }

    fn write_frame(&mut self, kind: Kind, durability: Durability, frame: &mut Vec<u8>) -> Result<Place, LogError> {
        let bytes = frame.len();
        let reserve = if kind == Kind::Entries { RESERVE } else { 0 };
        self.make_room(bytes.next_multiple_of(ALIGNMENT) as u64 + reserve)?;
        let order = Order { sequence: self.next, epoch: self.epoch, synced: self.synced };
        format::seal(frame, kind, order, self.current.mark);
        self.current.file.write(frame, self.end).map_err(|e| self.fail_on_current("write", e))?;
        let place = Place { segment: self.current.number, offset: self.end, bytes };
        self.end += frame.len() as u64;
        self.next += 1;
        if durability == Durability::Synced {
            self.sync_file()?;
        }
        Ok(place)
    }

    /// Sees to it that so many bytes behind the end are written, in this segment or in a new one.
    fn make_room(&mut self, bytes: u64) -> Result<(), LogError> {
        let is_empty = self.end <= FIRST_FRAME as u64;
        if self.end + bytes > self.options.segment_bytes && !is_empty {
            self.begin_next()?;
        }
        if self.end + bytes <= self.current.bytes {
            return Ok(());
        }
        let piece = (self.current.bytes + self.piece()).min(self.options.segment_bytes);
        match self.lengthen(piece.max(self.end + bytes)) {
            // There may be room for this frame, if not for more.
            Err(LogError::Full(_)) if self.end + bytes <= self.current.bytes => Ok(()),
            result => result,
        }
    }

    /// Bytes that are written ahead at once: the more, the more the segment holds.
    fn piece(&self) -> u64 {
        let ahead = self.options.write_ahead_bytes;
        self.end.clamp(ahead, ahead.saturating_mul(AHEAD_GROWTH))
    }

    fn lengthen(&mut self, bytes: u64) -> Result<(), LogError> {
        self.current
            .lengthen(bytes)
            .map_err(|e| if is_full(&e) { LogError::Full(e) } else { self.fail_on_current("write", e) })
    }

    /// Goes on in a new segment. All of the one before is on disk then, which recovery relies on.
    fn begin_next(&mut self) -> Result<(), LogError> {
        self.sync_current()?;
        let number = self.current.number + 1;
        let mark = Mark::new(self.salt, number);
        let new = self.files.take(number, mark, self.options.write_ahead_bytes);
        let new = new.map_err(|error| match full_or_io("create", &segment_name(number), error) {
            LogError::Io { action, file, source } => self.fail(action, &file, source),
            full => full,
        })?;
        let old = std::mem::replace(&mut self.current, new);
        self.files.older.push_back(old);
        self.end = FIRST_FRAME as u64;
        self.begin_current()?;
        self.retire();
        Ok(())
    }

    /// Writes the header of the current segment, durably.
    pub(super) fn begin_current(&mut self) -> Result<(), LogError> {
        let header = self.header(self.current.number).encode();
        self.current.file.write(&header, 0).map_err(|e| self.fail_on_current("write", e))?;
        self.sync_file()?;
        self.files.disk.sync().map_err(|e| self.fail("sync", "", e))
    }

    /// Syncs what is not known to be synced.
    fn sync_current(&mut self) -> Result<(), LogError> {
        if self.synced + 1 == self.next { Ok(()) } else { self.sync_file() }
    }

    fn sync_file(&mut self) -> Result<(), LogError> {
        failpoints::BEFORE_SYNC.hit();
        self.current.file.sync().map_err(|e| self.fail_on_current("sync", e))?;
        failpoints::AFTER_SYNC.hit();
        self.synced = self.next - 1;
        Ok(())
    }

    /// The segment with the first entry; the current one if there is none.
    fn first_segment(&self) -> u64 {
        self.index.first_segment().unwrap_or(self.current.number)
    }

    /// Frees the segments that hold no entry of the log. What made them superfluous must be synced.
    pub(super) fn retire(&mut self) {
        self.files.retire_before(self.first_segment(), self.options.segment_bytes);
    }

    fn check_usable(&self) -> Result<(), LogError> {
        self.failed.as_ref().map_or(Ok(()), |cause| Err(LogError::Failed { cause: cause.clone() }))
    }

    fn fail_on_current(&mut self, action: &'static str, error: io::Error) -> LogError {
        let name = self.current.name();
        self.fail(action, &name, error)
    }

    /// From here on the log refuses to change.
    fn fail(&mut self, action: &'static str, file: &str, error: io::Error) -> LogError {
        let error = LogError::io(action, file, error);
        tracing::error!(%error, "the log refuses to change until it is opened again");
        self.failed = Some(error.to_string());
        error
    }
}
