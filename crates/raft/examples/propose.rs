//! What a lone entry costs from its proposal to its commit, for a member that alone decides: in memory, which
//! is what the library and its glue cost, and on a disk.
//!
//! `cargo run --release -p stentor-raft --example propose [DIRECTORY [ENTRIES]]`; the directory must be new.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stentor_raft::log::{self, Disk, Log, Position, SystemDisk};
use stentor_raft::{Committed, Membership, Message, Options, Outputs, Replica, Standing};

/// Counts what is committed.
#[derive(Default)]
struct Count(u64);

impl Outputs for Count {
    fn send(&mut self, _: Vec<Message>) {}
    fn commit(&mut self, entries: Vec<Committed>) {
        self.0 = entries.last().map_or(self.0, |entry| entry.position.index);
    }
    fn may_read(&mut self, _: u64, _: u64) {}
    fn stands(&mut self, _: Standing) {}
    fn install(&mut self, _: Position, _: &Membership) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let entries = arguments.get(1).map_or(Ok(2_000), |text| text.parse())?;
    measure("memory", Arc::new(log::memory::Disk::new()), entries)?;
    if let Some(directory) = arguments.first() {
        measure("disk", Arc::new(SystemDisk::new(directory.as_str())?), entries)?;
    }
    Ok(())
}

fn measure(name: &str, disk: Arc<dyn Disk>, entries: usize) -> Result<(), Box<dyn Error>> {
    let start = Position { term: 1, index: 1 };
    let log = Log::create(disk, start, log::Options::default())?;
    let options = Options::new(1, start, Membership::of_voters([1]));
    let mut replica = Replica::new(log, options, Box::new(|| 4))?;
    let mut committed = Count::default();
    replica.campaign()?;
    replica.advance(&mut committed)?;
    let data = Bytes::from(vec![b'v'; 300]);
    let mut times = Vec::with_capacity(entries);
    for _ in 0..entries {
        let begun = Instant::now();
        replica.propose(Bytes::new(), data.clone())?;
        replica.advance(&mut committed)?;
        times.push(begun.elapsed());
        let applied = Position { term: replica.standing().term, index: committed.0 };
        replica.applied(applied);
    }
    if committed.0 != start.index + 1 + entries as u64 {
        return Err(format!("{} entries were committed", committed.0).into());
    }
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(Duration::ZERO);
    println!("{name}: {entries} entries of 300 B, p50 {:?}, p90 {:?}, p99 {:?}", at(50), at(90), at(99));
    Ok(())
}
