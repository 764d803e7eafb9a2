//! Where figures were measured: without that they say nothing.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Writes that are timed to learn what a sync costs.
const SYNCS: usize = 101;

/// A machine, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The day, UTC.
    pub date: String,
    /// What its processors call themselves.
    pub cpu: String,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// How many this program may use.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// The kernel's name and release.
    pub kernel: String,
    /// The kind of file system that the servers' data is on.
    pub file_system: String,
    /// What 512 bytes more in a file and `fdatasync` take there, in microseconds: the median.
    pub sync_micros: f64,
}

impl Machine {
    /// This one; servers have their data in `directory`.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn here(directory: &Path) -> Result<Machine> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let kilobytes = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0_u64);
        let canonical = directory.canonicalize().unwrap_or_else(|_| directory.to_path_buf());
        Ok(Machine {
            date: date(now.as_secs() / 86_400),
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            architecture: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            memory: kilobytes * 1024,
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            file_system: file_system(&read("/proc/self/mounts"), &canonical),
            sync_micros: sync(directory)?,
        })
    }

    /// Whether a sync costs nothing there: then neither server's figures mean anything.
    pub fn is_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs")
    }

    /// In a sentence.
    pub fn describe(&self) -> String {
        let Machine { date, cpu, architecture, cpus, kernel, file_system, sync_micros, .. } = self;
        let cpu = if cpu.is_empty() { architecture.clone() } else { format!("{cpu}, {architecture}") };
        let memory = self.memory as f64 / f64::from(1 << 30);
        format!(
            "{date}: {cpus} CPUs ({cpu}), {memory:.0} GiB of memory, {kernel}, data on {file_system}, where 512 bytes \
             and a sync take {sync_micros:.0} us"
        )
    }
}

/// The first value of a name in lines of `name: value`.
fn field(text: &str, name: &str) -> String {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

/// The kind of the file system that a path is on, by the table of mounts.
fn file_system(mounts: &str, path: &Path) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let over = mounts.filter(|(point, _)| path.starts_with(point));
    over.max_by_key(|(point, _)| point.len()).map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// The date of a day since 1970 (the calendar repeats every 400 years of 146,097 days).
fn date(days: u64) -> String {
    // Counted from 1 March of the year 0, so that leap days end years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn sync(directory: &Path) -> Result<f64> {
    let path = directory.join("sync");
    let mut file = File::create(&path).with_context(|| format!("cannot write in {}", directory.display()))?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[7; 512])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    drop(file);
    fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default().as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        let dates = [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (20_783, "2026-11-26"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ];
        for (day, wanted) in dates {
            assert_eq!(date(day), wanted);
        }
    }

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "dev / ext4 rw 0 0\ntmp /tmp tmpfs rw 0 0\nother /tmpx xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/a")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/tmpy/a")), "ext4");
        assert_eq!(file_system("", Path::new("/")), "unknown");
    }

    #[test]
    fn this_machine_has_a_description() {
        let directory = tempfile::tempdir().unwrap();
        let machine = Machine::here(directory.path()).unwrap();
        assert!(machine.cpus > 0 && machine.memory > 0 && machine.sync_micros > 0.0, "{machine:?}");
        assert_eq!(field("a\t: 1\nb: 2 kB", "b"), "2 kB");
        assert!(fs::read_dir(directory.path()).unwrap().next().is_none(), "nothing is left behind");
    }
}
