//! The files of a log: their names, those in use, and those that wait to be used again.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::LogError;
use super::disk::{Disk, File};
use super::error::is_full;
use super::format::Mark;

/// At most so many files wait to be used again.
const SPARES: usize = 2;
/// Zeros are written in pieces of so many bytes.
const PIECE: usize = 256 << 10;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// A file in use.
#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    pub file: Arc<dyn File>,
    /// Its length; so far its blocks are written.
    pub bytes: u64,
    pub mark: Mark,
}

impl Segment {
    pub(super) fn name(&self) -> String {
        segment_name(self.number)
    }

    /// Writes zeros at the end until the file is so long. If there is no room, the file has become as long
    /// as it could.
    pub(super) fn lengthen(&mut self, bytes: u64) -> io::Result<()> {
        let result = lengthen(&*self.file, self.bytes, bytes);
        self.bytes = match &result {
            Ok(()) => self.bytes.max(bytes),
            Err(_) => self.file.bytes()?.max(self.bytes),
        };
        result
    }
}

/// A file that waits to be used.
#[derive(Debug)]
struct Spare {
    name: String,
    file: Arc<dyn File>,
    bytes: u64,
}

/// All files but the one that is written.
#[derive(Debug)]
pub(super) struct Files {
    pub disk: Arc<dyn Disk>,
    /// Segments before the one that is written, oldest first.
    pub older: VecDeque<Segment>,
    spares: Vec<Spare>,
}

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Segment(u64),
    Spare,
}

impl Name {
    /// `None` if it is not the log's.
    pub(super) fn of(name: &str) -> Option<Name> {
        let (number, kind) = name.split_once('.')?;
        let value = u64::from_str_radix(number, 16).ok()?;
        match kind {
            "log" if segment_name(value) == name => Some(Name::Segment(value)),
            "spare" if spare_name(value) == name => Some(Name::Spare),
            _ => None,
        }
    }
}

pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016x}.log")
}

fn spare_name(number: u64) -> String {
    format!("{number:016x}.spare")
}

fn lengthen(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let piece = ZEROS.get(..(to - at).min(PIECE as u64) as usize).unwrap_or(&ZEROS);
        file.write(piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

impl Files {
    pub(super) fn new(disk: Arc<dyn Disk>, older: VecDeque<Segment>) -> Files {
        Files { disk, older, spares: Vec::new() }
    }

    /// Takes in the spares of an earlier opening.
    pub(super) fn find_spares(&mut self) -> Result<(), LogError> {
        let names = self.disk.list().map_err(|e| LogError::io("list", "", e))?;
        for name in names.into_iter().filter(|name| Name::of(name) == Some(Name::Spare)) {
            if self.spares.len() == SPARES {
                self.disk.remove(&name).map_err(|e| LogError::io("remove", &name, e))?;
                continue;
            }
            let file = self.disk.open(&name).map_err(|e| LogError::io("open", &name, e))?;
            let bytes = file.bytes().map_err(|e| LogError::io("open", &name, e))?;
            self.spares.push(Spare { name, file, bytes });
        }
        Ok(())
    }

    /// Bytes of all files here.
    pub(super) fn bytes(&self) -> u64 {
        self.older.iter().map(|segment| segment.bytes).sum::<u64>() + self.spares.iter().map(|s| s.bytes).sum::<u64>()
    }

    /// A file of at least so many bytes under a segment's name: a spare, or a new one. Its header is still
    /// to be written, and nothing is synced.
    pub(super) fn take(&mut self, number: u64, mark: Mark, bytes: u64) -> io::Result<Segment> {
        let name = segment_name(number);
        self.spares.sort_by_key(|spare| spare.bytes);
        let (file, length) = match self.spares.last() {
            Some(spare) => {
                self.disk.rename(&spare.name, &name)?;
                let spare = self.spares.pop();
                spare.map(|spare| (spare.file, spare.bytes)).ok_or(io::ErrorKind::NotFound)?
            }
            None => (self.disk.create(&name)?, 0),
        };
        let mut segment = Segment { number, file, bytes: length, mark };
        segment.lengthen(bytes).inspect_err(|_| {
            // It takes the room that there is not. Without a header it is no segment, should it remain.
            if let Err(error) = self.disk.remove(&name) {
                tracing::warn!(%name, %error, "cannot remove a file of the log that is not used");
            }
        })?;
        Ok(segment)
    }

    /// Keeps the segments before this one to be used again, or removes them.
    pub(super) fn retire_before(&mut self, number: u64, segment_bytes: u64) {
        while self.older.front().is_some_and(|segment| segment.number < number) {
            let Some(segment) = self.older.pop_front() else { return };
            let (from, to) = (segment.name(), spare_name(segment.number));
            let keep = self.spares.len() < SPARES
                && segment.bytes / 2 <= segment_bytes
                && self.spares.iter().all(|spare| spare.name != to);
            let result = if keep { self.disk.rename(&from, &to) } else { self.disk.remove(&from) };
            match result {
                Ok(()) if keep => self.spares.push(Spare { name: to, file: segment.file, bytes: segment.bytes }),
                Ok(()) => {}
                Err(error) => tracing::warn!(name = %from, %error, "cannot free a segment of the log"),
            }
        }
    }

    /// Makes the spare that is used next longer by a piece, or creates one. False if there is nothing to do.
    pub(super) fn prepare_spare(&mut self, number: u64, piece: u64, segment_bytes: u64) -> Result<bool, LogError> {
        if self.spares.is_empty() {
            let name = spare_name(number);
            let file = self.disk.create(&name).map_err(|e| full_or_io("create", &name, e))?;
            self.spares.push(Spare { name, file, bytes: 0 });
        }
        let Some(spare) = self.spares.iter_mut().max_by_key(|spare| spare.bytes) else { return Ok(false) };
        if spare.bytes >= segment_bytes {
            return Ok(false);
        }
        let bytes = (spare.bytes + piece).min(segment_bytes);
        lengthen(&*spare.file, spare.bytes, bytes).map_err(|e| full_or_io("write", &spare.name, e))?;
        spare.bytes = bytes;
        spare.file.sync().map_err(|e| LogError::io("sync", &spare.name, e))?;
        Ok(true)
    }
}

/// What a failure means that has left the log as it was.
pub(super) fn full_or_io(action: &'static str, file: &str, error: io::Error) -> LogError {
    if is_full(&error) { LogError::Full(error) } else { LogError::io(action, file, error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(Name::of(&segment_name(0x1f)), Some(Name::Segment(0x1f)));
        assert_eq!(Name::of(&spare_name(7)), Some(Name::Spare));
        for other in ["1.log", "000000000000000G.log", "lost+found", "+000000000000001.log", "0000000000000001.tmp", ""]
        {
            assert_eq!(Name::of(other), None, "{other}");
        }
    }
}
