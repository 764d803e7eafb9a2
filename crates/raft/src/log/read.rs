//! Reading entries.

use std::io;

use bytes::Bytes;

use super::files::{Segment, segment_name};
use super::format::{self, Payload};
use super::index::Place;
use super::{Entry, Log, ReadError, Unavailable};

/// Frames that follow one another are read together, up to so many bytes.
const READ_AT_ONCE: usize = 128 << 10;

impl Log {
    /// The entries from one index up to before another, as far as their contexts and data have at most so
    /// many bytes together; at least one. From memory if they are recent, else from disk, where their
    /// checksums are verified; entries from disk share memory, up to 128 KiB or a whole append of it. None if
    /// `to` is not after `from`.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] if the log does not have all of them, whatever the number of bytes;
    /// [`ReadError::Corrupt`] if what is on disk is damaged, and errors of the file system.
    pub fn entries(&self, from: u64, to: u64, max_bytes: u64) -> Result<Vec<Entry>, ReadError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.index.check(from)?;
        self.index.check(to - 1)?;
        let mut taken = Taken { entries: Vec::new(), bytes: 0, max_bytes };
        let cached = self.cache.first().unwrap_or(to);
        let (mut next, mut part) = (from, Part::default());
        while next < to.min(cached) {
            let (place, indexes) = self.index.find(next)?;
            let (last, _) = self.index.find(to.min(cached) - 1)?;
            let entries = self.read(&mut part, place, indexes.start, last)?;
            let end = indexes.end.min(to);
            for entry in entries.into_iter().filter(|entry| (next..end).contains(&entry.position.index)) {
                if !taken.add(entry) {
                    return Ok(taken.entries);
                }
            }
            next = end;
        }
        for index in next..to {
            let entry = self.cache.get(index).ok_or(Unavailable::Purged)?;
            if !taken.add(entry.clone()) {
                break;
            }
        }
        Ok(taken.entries)
    }

    /// All entries of a frame, of which the first has this index. They share the memory of what was read at
    /// once: up to `last`, if that is not too much.
    fn read(&self, part: &mut Part, place: Place, first: u64, last: Place) -> Result<Vec<Entry>, ReadError> {
        let corrupt = || ReadError::Corrupt { file: segment_name(place.segment), offset: place.offset };
        let segment = self.segment(place.segment).ok_or_else(corrupt)?;
        if part.get(place).is_none() {
            let end = if last.segment == place.segment { last.offset + last.bytes as u64 } else { segment.bytes };
            let following = usize::try_from(end.saturating_sub(place.offset)).unwrap_or(READ_AT_ONCE);
            let mut bytes = vec![0; following.min(READ_AT_ONCE).max(place.bytes)];
            segment.file.read(&mut bytes, place.offset).map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => corrupt(),
                _ => ReadError::Io { file: segment.name(), source },
            })?;
            *part = Part { segment: place.segment, offset: place.offset, bytes: bytes.into() };
        }
        let bytes = part.get(place).ok_or_else(corrupt)?;
        let frame = format::frame(&bytes, segment.mark).ok_or_else(corrupt)?;
        match format::payload(frame.kind, &bytes.slice_ref(frame.payload)) {
            Some(Payload::Entries(_, entries)) if entries.first().is_some_and(|e| e.position.index == first) => {
                Ok(entries)
            }
            _ => Err(corrupt()),
        }
    }

    fn segment(&self, number: u64) -> Option<&Segment> {
        if number == self.current.number {
            return Some(&self.current);
        }
        let first = self.files.older.front()?.number;
        self.files.older.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }
}

/// What was read of a segment.
#[derive(Default)]
struct Part {
    segment: u64,
    offset: u64,
    bytes: Bytes,
}

impl Part {
    /// A frame, if it was read.
    fn get(&self, place: Place) -> Option<Bytes> {
        let from = usize::try_from(place.offset.checked_sub(self.offset)?).ok()?;
        let end = from.checked_add(place.bytes)?;
        (place.segment == self.segment && end <= self.bytes.len()).then(|| self.bytes.slice(from..end))
    }
}

/// Entries up to a number of bytes.
struct Taken {
    entries: Vec<Entry>,
    bytes: u64,
    max_bytes: u64,
}

impl Taken {
    /// False if it is too much; the first never is.
    fn add(&mut self, entry: Entry) -> bool {
        self.bytes = self.bytes.saturating_add((entry.context.len() + entry.data.len()) as u64);
        let fits = self.entries.is_empty() || self.bytes <= self.max_bytes;
        if fits {
            self.entries.push(entry);
        }
        fits
    }
}
