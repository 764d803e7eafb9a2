//! What a lone durable append costs: through the log, and in other ways of writing a file.
//!
//! `cargo run --release -p stentor-raft --example append -- [APPENDS] [DATA-BYTES] [DIRECTORY]`
//!
//! The ways take turns, so that a slower moment of the disk meets all of them.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stentor_raft::log::{Durability, Entry, HardState, Log, LogError, Options, Position, SystemDisk};

/// Bytes of a frame that are not data: its header, a hard state and the entry's own fields.
const OVERHEAD: usize = 108;
/// Appends of a way until it is the next one's turn.
const TURN: u64 = 250;
/// How far a file of the comparison is written ahead.
const AHEAD: u64 = 32 << 20;

/// A way to append.
trait Way {
    fn append(&mut self, index: u64) -> Result<(), Box<dyn Error>>;

    /// What is done while nothing waits.
    fn rest(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(())
    }
}

/// The log. Whether it is given time to prepare is what may differ.
struct ThroughLog {
    log: Log,
    data: Bytes,
    rests: bool,
}

impl Way for ThroughLog {
    fn append(&mut self, index: u64) -> Result<(), Box<dyn Error>> {
        let entry = Entry { position: Position { term: 1, index }, data: self.data.clone(), ..Entry::default() };
        let hard_state = HardState { term: 1, vote: 1, commit: index - 1 };
        Ok(self.log.append(Some(hard_state), &[entry], Durability::Synced)?)
    }

    fn rest(&mut self) -> Result<(), Box<dyn Error>> {
        while self.rests && self.log.prepare()? {}
        Ok(())
    }
}

/// A file that is written at its end, or where zeros were written before.
struct ToFile {
    file: File,
    end: u64,
    bytes: Vec<u8>,
}

impl Way for ToFile {
    fn append(&mut self, _: u64) -> Result<(), Box<dyn Error>> {
        self.file.write_all_at(&self.bytes, self.end)?;
        self.end += self.bytes.len() as u64;
        Ok(self.file.sync_data()?)
    }
}

fn new_file(path: &Path, ahead: u64, bytes: usize) -> Result<Box<dyn Way>, Box<dyn Error>> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..ahead).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(Box::new(ToFile { file, end: 0, bytes: vec![7; (bytes + OVERHEAD).next_multiple_of(8)] }))
}

/// A log of which every block was used before, which is how one is that runs for long.
fn used_log(disk: SystemDisk, options: Options, data: &Bytes) -> Result<Log, LogError> {
    let mut log = Log::create(Arc::new(disk), Position::default(), options)?;
    let large = Bytes::from(vec![1; options.segment_bytes as usize / 4]);
    for index in 1..20 {
        let entry = Entry { position: Position { term: 1, index }, data: large.clone(), ..Entry::default() };
        log.append(None, &[entry], Durability::Synced)?;
        log.purge(index)?;
    }
    log.reset(Position::default(), HardState::default())?;
    // Until a segment is begun that was used before.
    let entry = Entry { position: Position { term: 1, index: 1 }, data: data.clone(), ..Entry::default() };
    log.append(None, &[entry], Durability::Synced)?;
    log.reset(Position::default(), HardState::default())?;
    Ok(log)
}

#[derive(Default)]
struct Measured {
    times: Vec<Duration>,
    cpu: Duration,
}

/// Time that this process has used, of both kinds.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = stat.split_whitespace().next().ok_or("no time in schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let appends = arguments.next().map(|n| n.parse::<u64>()).transpose()?.unwrap_or(10_000);
    let bytes = arguments.next().map(|n| n.parse::<usize>()).transpose()?.unwrap_or(256);
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let directory = tempfile::tempdir_in(parent)?;
    let path = directory.path();
    let data = Bytes::from(vec![7; bytes]);
    let options = Options::default();
    let started = Instant::now();
    let new = Log::create(Arc::new(SystemDisk::new(path.join("new"))?), Position::default(), options)?;
    println!("creating a log: {:.1?}, {} KiB on disk", started.elapsed(), new.bytes() >> 10);
    let rested = Log::create(Arc::new(SystemDisk::new(path.join("rested"))?), Position::default(), options)?;
    let used = used_log(SystemDisk::new(path.join("used"))?, options, &data)?;
    let through = |log, rests| Box::new(ThroughLog { log, data: data.clone(), rests }) as Box<dyn Way>;
    let mut ways = [
        ("a growing file", new_file(&path.join("growing"), 0, bytes)?),
        ("a file written ahead", new_file(&path.join("ahead"), AHEAD, bytes)?),
        ("a new log, never idle", through(new, false)),
        ("a new log, sometimes idle", through(rested, true)),
        ("a log of used segments", through(used, false)),
    ];
    let mut measured: Vec<Measured> = ways.iter().map(|_| Measured::default()).collect();
    for turn in 0..appends / TURN {
        for ((_, way), measured) in ways.iter_mut().zip(&mut measured) {
            way.rest()?;
            let before = cpu()?;
            for nth in 1..=TURN {
                let started = Instant::now();
                way.append(turn * TURN + nth)?;
                measured.times.push(started.elapsed());
            }
            measured.cpu += cpu()? - before;
        }
    }
    for ((name, _), measured) in ways.iter().zip(&mut measured) {
        measured.times.sort();
        let count = measured.times.len().max(1);
        let part = |of_1000: usize| measured.times.get(count * of_1000 / 1000).copied().unwrap_or_default();
        let (p50, p99, p999) = (part(500), part(990), part(999));
        let cpu = measured.cpu / count as u32;
        println!("{name:<26} p50 {p50:>8.1?}  p99 {p99:>8.1?}  p99.9 {p999:>8.1?}  CPU {cpu:>8.1?}");
    }
    Ok(())
}
