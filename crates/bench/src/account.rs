//! What a process has used of the machine, by what Linux accounts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// Linux shows process times to user space in this unit, on every architecture that has servers.
const TICK: Duration = Duration::from_millis(10);

/// A process's CPU time at one moment.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    /// Time on a CPU of each thread that lives, in nanoseconds as the scheduler counts it.
    threads: BTreeMap<u32, u64>,
    /// The whole process's, threads that have ended included, in whole ticks.
    process: Duration,
}

impl Cpu {
    /// Reads it.
    ///
    /// # Errors
    /// When there is no such process, or no Linux.
    pub fn of(pid: u32) -> Result<Cpu> {
        let mut threads = BTreeMap::new();
        let directory = format!("/proc/{pid}/task");
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {directory}"))? {
            let entry = entry?;
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread may end while we read.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            if let Some(used) = text.split_whitespace().next().and_then(|word| word.parse().ok()) {
                threads.insert(thread, used);
            }
        }
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let ticks = process_ticks(&stat).with_context(|| format!("{path} is not as expected: {stat}"))?;
        Ok(Cpu { threads, process: TICK * u32::try_from(ticks).unwrap_or(u32::MAX) })
    }

    /// This process's own.
    ///
    /// # Errors
    /// When there is no Linux.
    pub fn own() -> Result<Cpu> {
        Cpu::of(std::process::id())
    }

    /// What was used since `earlier`: by the scheduler's nanoseconds, unless threads have ended meanwhile
    /// that had used more than the two roundings of the process's own count.
    pub fn since(&self, earlier: &Cpu) -> Duration {
        let used = self.threads.iter().map(|(thread, now)| {
            let before = earlier.threads.get(thread).copied().unwrap_or(0);
            now.saturating_sub(before)
        });
        let living = Duration::from_nanos(used.sum());
        let process = self.process.saturating_sub(earlier.process);
        // The process's count can be too high or too low by a tick for user and for system time.
        if process > living + 2 * TICK { process } else { living.max(process.saturating_sub(2 * TICK)) }
    }
}

/// User and system time in the text of `/proc/PID/stat`.
fn process_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The memory that a process has resident, in bytes.
///
/// # Errors
/// When there is no such process, or no Linux.
pub fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = kilobytes.and_then(|text| text.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    Ok(kilobytes.with_context(|| format!("{path} has no VmRSS"))? * 1024)
}

/// The process that listens on a port of this machine, if it is one of ours to look into.
pub fn listening(port: u16) -> Option<u32> {
    let sockets = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let inode = sockets.iter().flat_map(|table| table.lines()).find_map(|line| listener(line, port))?;
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str()))
    };
    processes.into_iter().find(holds)
}

/// The inode of the socket that a line of `/proc/net/tcp` is about, if it listens on `port`.
fn listener(line: &str, port: u16) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, its_port) = fields.next()?.rsplit_once(':')?;
    let listens = fields.nth(1)? == "0A";
    let inode = fields.nth(5)?.parse().ok()?;
    (listens && u16::from_str_radix(its_port, 16) == Ok(port)).then_some(inode)
}

/// The bytes of disk that a directory takes, as the file system counts its blocks.
///
/// # Errors
/// When it cannot be read.
pub fn on_disk(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        // A server may remove a file while we read.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() { on_disk(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_who_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listening(listener.local_addr().unwrap().port()), Some(std::process::id()));
        let line = " 1: 0100007F:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1 0 100 0";
        assert_eq!(super::listener(line, 2379), Some(4711));
        assert_eq!(super::listener(line, 2380), None);
        assert_eq!(super::listener(&line.replace(" 0A ", " 01 "), 2379), None, "connected");
        assert_eq!(super::listener("  sl  local_address rem_address   st", 2379), None);
    }

    #[test]
    fn disk_is_counted_through_directories() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("in")).unwrap();
        let before = on_disk(directory.path()).unwrap();
        fs::write(directory.path().join("in").join("file"), vec![7; 100_000]).unwrap();
        fs::File::open(directory.path().join("in").join("file")).unwrap().sync_all().unwrap();
        assert!(on_disk(directory.path()).unwrap() >= before + 100_000);
    }

    #[test]
    fn counts_what_this_process_uses_also_in_threads_that_have_ended() {
        let before = Cpu::own().unwrap();
        let spin = || {
            let start = Cpu::own().unwrap();
            while Cpu::own().unwrap().since(&start) < Duration::from_millis(100) {
                std::hint::black_box((0..1000).sum::<u64>());
            }
        };
        std::thread::spawn(spin).join().unwrap();
        let used = Cpu::own().unwrap().since(&before);
        // The thread's own time is gone: each of the two counts by the process may miss two ticks, as may
        // what `since` makes of them.
        assert!(used >= Duration::from_millis(40), "{used:?}");
        assert!(resident(std::process::id()).unwrap() > 100_000);
    }

    #[test]
    fn reads_a_stat_line_with_an_odd_name() {
        let line = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 400 25 0 0 20 0 1 0 99";
        assert_eq!(process_ticks(line), Some(425));
    }
}
