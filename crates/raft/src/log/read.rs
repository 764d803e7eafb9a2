//! Reading entries.

use std::io;

use super::files::{Segment, segment_name};
use super::format::{self, Payload};
use super::index::Place;
use super::{Entry, Log, ReadError, Unavailable};

impl Log {
    /// The entries from one index up to before another, as far as their contexts and data have at most so
    /// many bytes together; at least one. From memory if they are recent, else from disk, where their
    /// checksums are verified. None if `to` is not after `from`.
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
        let mut next = from;
        while next < to.min(cached) {
            let (place, indexes) = self.index.find(next)?;
            let entries = self.read(place, indexes.start)?;
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

    /// All entries of a frame, of which the first has this index. They share its memory.
    fn read(&self, place: Place, first: u64) -> Result<Vec<Entry>, ReadError> {
        let file = || segment_name(place.segment);
        let corrupt = || ReadError::Corrupt { file: file(), offset: place.offset };
        let segment = self.segment(place.segment).ok_or_else(corrupt)?;
        let mut bytes = vec![0; place.bytes];
        segment.file.read(&mut bytes, place.offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => corrupt(),
            _ => ReadError::Io { file: file(), source },
        })?;
        let bytes = bytes::Bytes::from(bytes);
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
