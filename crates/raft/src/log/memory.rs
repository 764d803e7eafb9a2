//! A disk in memory that can lose, on command, what a real one may lose.
//!
//! Content is written in sectors. Until a file is synced, a crash leaves each sector as it was after any of
//! the writes since the last sync, by itself: writes are lost, reordered and torn, now and then even inside
//! a sector. Names behave alike until the directory is synced. After a failed sync, what it should have
//! written is read as before and lost at the next crash, even if a later sync succeeds, as on Linux.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk;

/// Bytes that reach the disk together.
const SECTOR: usize = 512;
/// One sector in so many that are lost in part is torn inside.
const TORN_INSIDE: u64 = 8;

type Sector = [u8; SECTOR];

/// A disk; its clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, Content>,
    next_file: u64,
    /// The names as they are read.
    names: BTreeMap<String, u64>,
    /// The names after a crash if nothing below has happened.
    durable_names: BTreeMap<String, u64>,
    unsynced: Vec<Change>,
    write_faults: Faults,
    sync_faults: Faults,
    capacity: Option<u64>,
    writes: u64,
    syncs: u64,
}

/// A change of the directory.
#[derive(Clone, Debug)]
enum Change {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Change::Create(name, file) => drop(names.insert(name.clone(), *file)),
            Change::Remove(name) => drop(names.remove(name)),
            Change::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

/// What a file holds, and what may be left of it.
#[derive(Debug, Default)]
struct Content {
    /// As it is read.
    bytes: Vec<u8>,
    /// What a sector was since the last sync, beside what it is now, oldest first. The oldest is durable.
    unsynced: BTreeMap<usize, Vec<Sector>>,
    /// The same of sectors that a sync failed to write: syncing again does not write them.
    lost: BTreeMap<usize, Vec<Sector>>,
    /// The lengths since the last sync, before the one now.
    lengths: Vec<usize>,
}

impl Content {
    fn sector(&self, number: usize) -> Sector {
        let mut sector = [0; SECTOR];
        let there = self.bytes.get(number * SECTOR..).unwrap_or_default();
        for (to, from) in sector.iter_mut().zip(there) {
            *to = *from;
        }
        sector
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        let numbers = offset / SECTOR..end.div_ceil(SECTOR);
        let before: Vec<(usize, Sector)> = numbers.map(|number| (number, self.sector(number))).collect();
        if end > self.bytes.len() {
            self.lengths.push(self.bytes.len());
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        for (number, old) in before {
            if let Some(versions) = self.lost.remove(&number) {
                self.unsynced.entry(number).or_insert(versions).push(old);
            } else if self.sector(number) != old {
                self.unsynced.entry(number).or_default().push(old);
            }
        }
    }

    fn sync(&mut self) {
        self.unsynced.clear();
        self.lengths.clear();
    }

    fn fail_sync(&mut self) {
        for (number, versions) in std::mem::take(&mut self.unsynced) {
            self.lost.entry(number).or_insert(versions);
        }
    }

    fn crash(&mut self, random: &mut dyn FnMut() -> u64) {
        let lost = std::mem::take(&mut self.lost).into_iter();
        for (number, mut versions) in lost.chain(std::mem::take(&mut self.unsynced)) {
            versions.push(self.sector(number));
            let left = survivor(&versions, random);
            let there = self.bytes.get_mut(number * SECTOR..).unwrap_or_default();
            for (to, from) in there.iter_mut().zip(left) {
                *to = from;
            }
        }
        self.lengths.push(self.bytes.len());
        let chosen = below(random, self.lengths.len());
        self.bytes.truncate(self.lengths[chosen]);
        self.lengths.clear();
    }
}

/// One of the versions of a sector, or the beginning of one and the end of another.
fn survivor(versions: &[Sector], random: &mut dyn FnMut() -> u64) -> Sector {
    let mut left = versions[below(random, versions.len())];
    if random().is_multiple_of(TORN_INSIDE) {
        let (other, from) = (versions[below(random, versions.len())], below(random, SECTOR));
        left[from..].copy_from_slice(&other[from..]);
    }
    left
}

fn below(random: &mut dyn FnMut() -> u64, end: usize) -> usize {
    (random() % end as u64) as usize
}

/// Failures to come: after how many successes, and of what kind.
#[derive(Debug, Default)]
struct Faults(VecDeque<(u64, io::ErrorKind)>);

impl Faults {
    fn next(&mut self) -> io::Result<()> {
        match self.0.front_mut() {
            Some((0, kind)) => {
                let error = io::Error::from(*kind);
                self.0.pop_front();
                Err(error)
            }
            Some((after, _)) => {
                *after -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        Disk::default()
    }

    /// Takes the power away: what was not synced is lost as the random numbers say. Logs that are open must
    /// be dropped first; what they still write belongs to the files as they are after the crash.
    pub fn crash(&self, random: &mut dyn FnMut() -> u64) {
        let state = &mut *self.state.lock();
        for change in std::mem::take(&mut state.unsynced) {
            if random().is_multiple_of(2) {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        let State { files, names, .. } = state;
        files.retain(|file, _| names.values().any(|named| named == file));
        files.values_mut().for_each(|content| content.crash(random));
        state.write_faults = Faults::default();
        state.sync_faults = Faults::default();
    }

    /// Lets a write or a change of a name fail, after so many that succeed. What fails with
    /// [`io::ErrorKind::StorageFull`] has written nothing, another failure half of it.
    pub fn fail_write(&self, after: u64, kind: io::ErrorKind) {
        self.state.lock().write_faults.0.push_back((after, kind));
    }

    /// Lets a sync fail, after so many that succeed.
    pub fn fail_sync(&self, after: u64, kind: io::ErrorKind) {
        self.state.lock().sync_faults.0.push_back((after, kind));
    }

    /// Takes back the failures that have not happened yet, and says how many those are.
    pub fn clear_faults(&self) -> usize {
        let state = &mut *self.state.lock();
        let left = state.write_faults.0.len() + state.sync_faults.0.len();
        state.write_faults = Faults::default();
        state.sync_faults = Faults::default();
        left
    }

    /// Lets all files together have at most so many bytes; `None` is no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Inverts bits of a durable byte of a file. False if there is no such byte.
    pub fn flip(&self, name: &str, offset: u64, bits: u8) -> bool {
        let state = &mut *self.state.lock();
        let file = state.names.get(name).and_then(|file| state.files.get_mut(file));
        let byte = file.zip(usize::try_from(offset).ok()).and_then(|(file, offset)| file.bytes.get_mut(offset));
        byte.map(|byte| *byte ^= bits).is_some()
    }

    /// Another disk with the same files, all of them durable.
    pub fn copy(&self) -> Disk {
        let state = self.state.lock();
        let files = state.files.iter();
        let copied =
            files.map(|(file, content)| (*file, Content { bytes: content.bytes.clone(), ..Content::default() }));
        let (files, names) = (copied.collect(), state.names.clone());
        let copy = State { files, next_file: state.next_file, durable_names: names.clone(), names, ..State::default() };
        Disk { state: Arc::new(Mutex::new(copy)) }
    }

    /// How many writes there were to files.
    pub fn writes(&self) -> u64 {
        self.state.lock().writes
    }

    /// How many syncs there were, of files and of the directory.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    fn handle(&self, file: u64) -> Arc<dyn disk::File> {
        Arc::new(File { state: self.state.clone(), file })
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    fn change(&mut self, change: Change) -> io::Result<()> {
        self.write_faults.next()?;
        change.apply(&mut self.names);
        self.unsynced.push(change);
        Ok(())
    }

    fn content(&mut self, file: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&file).ok_or_else(missing)
    }

    /// Whether a file can grow to a length.
    fn has_room(&self, file: u64, end: usize) -> bool {
        let length = |content: &Content| content.bytes.len();
        let others = self.names.values().filter(|other| **other != file);
        let used: usize = others.filter_map(|other| self.files.get(other)).map(length).sum();
        let grows = self.files.get(&file).is_some_and(|content| content.bytes.len() < end);
        !grows || self.capacity.is_none_or(|most| (used + end) as u64 <= most)
    }
}

impl disk::Disk for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn disk::File>> {
        let file = self.state.lock().names.get(name).copied();
        file.map(|file| self.handle(file)).ok_or_else(missing)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn disk::File>> {
        let state = &mut *self.state.lock();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.next_file;
        state.change(Change::Create(name.to_owned(), file))?;
        state.next_file += 1;
        state.files.insert(file, Content::default());
        Ok(self.handle(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let state = &mut *self.state.lock();
        if !state.names.contains_key(from) {
            return Err(missing());
        }
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let state = &mut *self.state.lock();
        if !state.names.contains_key(name) {
            return Err(missing());
        }
        state.change(Change::Remove(name.to_owned()))
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.syncs += 1;
        state.sync_faults.next()?;
        state.unsynced.clear();
        state.durable_names = state.names.clone();
        let State { files, names, .. } = state;
        files.retain(|file, _| names.values().any(|named| named == file));
        Ok(())
    }
}

#[derive(Debug)]
struct File {
    state: Arc<Mutex<State>>,
    file: u64,
}

impl disk::File for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.state.lock().content(self.file)?.bytes.len() as u64)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let bytes = &state.content(self.file)?.bytes;
        let there = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)?.get(..buffer.len()));
        buffer.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let state = &mut *self.state.lock();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if !state.has_room(self.file, offset + bytes.len()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let fault = state.write_faults.next().err();
        let written = match &fault {
            None => bytes,
            Some(error) if error.kind() == io::ErrorKind::StorageFull => return Err(io::ErrorKind::StorageFull.into()),
            Some(_) => &bytes[..bytes.len() / 2],
        };
        state.content(self.file)?.write(written, offset);
        state.writes += 1;
        fault.map_or(Ok(()), Err)
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.syncs += 1;
        let fault = state.sync_faults.next();
        let content = state.content(self.file)?;
        match fault {
            Ok(()) => content.sync(),
            Err(_) => content.fail_sync(),
        }
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk as _;
    use super::*;

    fn read(file: &dyn disk::File) -> Vec<u8> {
        let mut bytes = vec![0; file.bytes().unwrap() as usize];
        file.read(&mut bytes, 0).unwrap();
        bytes
    }

    fn numbers() -> impl FnMut() -> u64 {
        let mut state = 1_u64;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        }
    }

    #[test]
    fn a_crash_takes_any_part_of_what_is_not_synced_and_nothing_else() {
        let mut random = numbers();
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for _ in 0..200 {
            let disk = Disk::new();
            let file = disk.create("a").unwrap();
            file.write(&[1; 4 * SECTOR], 0).unwrap();
            file.sync().unwrap();
            disk.sync().unwrap();
            file.write(&[2; 2 * SECTOR], SECTOR as u64).unwrap();
            disk.crash(&mut random);
            let bytes = read(&*disk.open("a").unwrap());
            assert!(bytes.len() == 4 * SECTOR && bytes[..SECTOR] == [1; SECTOR] && bytes[3 * SECTOR..] == [1; SECTOR]);
            match bytes[SECTOR..3 * SECTOR].iter().filter(|byte| **byte == 2).count() {
                0 => lost += 1,
                n if n == 2 * SECTOR => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(kept > 10 && lost > 10 && torn > 10, "{kept} {lost} {torn}");
    }

    #[test]
    fn names_are_lost_until_the_directory_is_synced() {
        let mut random = numbers();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let disk = Disk::new();
            disk.create("old").unwrap();
            disk.sync().unwrap();
            disk.rename("old", "new").unwrap();
            disk.create("other").unwrap();
            disk.crash(&mut random);
            seen.insert(disk.list().unwrap());
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    #[test]
    fn a_failed_sync_loses_what_is_still_read_and_only_writing_it_again_helps() {
        let outcome = |again: bool| {
            let mut lost = false;
            for seed in 0..20 {
                let mut random = move || seed;
                let disk = Disk::new();
                let file = disk.create("a").unwrap();
                file.write(&[0; SECTOR], 0).unwrap();
                file.sync().unwrap();
                disk.sync().unwrap();
                disk.fail_sync(0, io::ErrorKind::Other);
                file.write(&[7; SECTOR], 0).unwrap();
                file.sync().unwrap_err();
                if again {
                    file.write(&[7; SECTOR], 0).unwrap();
                }
                file.sync().unwrap();
                assert_eq!(read(&*file), [7; SECTOR]);
                disk.crash(&mut random);
                lost |= read(&*disk.open("a").unwrap()) != [7; SECTOR];
            }
            lost
        };
        assert!(outcome(false) && !outcome(true));
    }

    #[test]
    fn faults_come_when_they_are_due() {
        let disk = Disk::new();
        disk.set_capacity(Some(1000));
        disk.fail_write(2, io::ErrorKind::Other);
        let file = disk.create("a").unwrap();
        file.write(&[1; 600], 0).unwrap();
        assert_eq!(file.write(&[2; 100], 0).unwrap_err().kind(), io::ErrorKind::Other);
        assert_eq!(read(&*file)[..100], [[2; 50], [1; 50]].concat());
        assert_eq!(file.write(&[3; 600], 600).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write(&[3; 400], 600).unwrap();
        assert_eq!((disk.writes(), disk.clear_faults()), (3, 0));
    }
}
