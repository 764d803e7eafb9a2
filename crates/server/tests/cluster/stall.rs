//! A log's disk on which syncs take as long as a test likes.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use stentor_raft::log::{Disk, File};

use crate::harness::PATIENCE;

/// Whether syncs stall, for as long as that. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stall(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    stalls: bool,
    waiting: usize,
}

impl Stall {
    pub(crate) fn set(&self, stalls: bool) {
        let (state, changed) = &*self.0;
        state.lock().unwrap().stalls = stalls;
        changed.notify_all();
    }

    /// Whether somebody waits for a sync.
    pub(crate) fn is_felt(&self) -> bool {
        self.0.0.lock().unwrap().waiting > 0
    }

    fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.waiting += 1;
        // Not for ever: a test that fails must end.
        let (mut state, _) = changed.wait_timeout_while(state, PATIENCE, |state| state.stalls).unwrap();
        state.waiting -= 1;
    }
}

#[derive(Debug)]
pub(crate) struct StallingDisk {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) stall: Stall,
}

impl StallingDisk {
    fn stalling(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(StallingFile { file, stall: self.stall.clone() })
    }
}

impl Disk for StallingDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.open(name).map(|file| self.stalling(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.create(name).map(|file| self.stalling(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.stall.pass();
        self.disk.sync()
    }
}

#[derive(Debug)]
struct StallingFile {
    file: Arc<dyn File>,
    stall: Stall,
}

impl File for StallingFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read(buffer, offset)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.stall.pass();
        self.file.sync()
    }
}
