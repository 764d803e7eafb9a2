//! Open loops: calls begin when they are due, whatever became of those before.
//!
//! Latency counts from when a call was due. A server, or a generator, that stalls for a second then shows
//! in every call of that second, and not only in the one that happened to be under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock;

/// When calls are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: u64,
    interval: f64,
}

/// When a load ends.
#[derive(Clone, Debug)]
pub enum Until {
    /// After so many calls.
    Count(u64),
    /// After this time.
    Elapsed(Duration),
    /// When this is set.
    Told(Arc<AtomicBool>),
}

/// A clock that can be waited for.
pub trait Time {
    /// Nanoseconds.
    fn now(&self) -> u64;
    /// Lets so many nanoseconds pass.
    fn sleep(&self, nanos: u64);
}

/// This process's own ([`clock`]). Its sleeps are of the system, whose timers are finer than tokio's.
pub struct Real;

impl Time for Real {
    fn now(&self) -> u64 {
        clock::now()
    }

    fn sleep(&self, nanos: u64) {
        std::thread::sleep(Duration::from_nanos(nanos));
    }
}

impl Schedule {
    /// So many calls a second, the first at `start`.
    pub fn new(start: u64, per_second: f64) -> Schedule {
        Schedule { start, interval: 1e9 / per_second.max(0.001) }
    }

    /// When a call is due. Counted from the start, so that roundings don't add up.
    pub fn due(&self, number: u64) -> u64 {
        self.start.saturating_add((number as f64 * self.interval) as u64)
    }

    /// Whether a call is beyond the end.
    fn is_over(&self, until: &Until, number: u64) -> bool {
        match until {
            Until::Count(count) => number >= *count,
            Until::Elapsed(time) => self.due(number) - self.start >= u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            Until::Told(stop) => stop.load(Ordering::Relaxed),
        }
    }

    /// Calls `send` with each call's number and when it was due: at that time, or as soon as possible after
    /// it; none is left out. Ends early when `send` returns false.
    pub fn keep(&self, until: &Until, time: &impl Time, mut send: impl FnMut(u64, u64) -> bool) {
        let mut number = 0;
        while !self.is_over(until, number) {
            let due = self.due(number);
            let now = time.now();
            if due > now {
                time.sleep(due - now);
            }
            if !send(number, due) {
                return;
            }
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Time that passes only when somebody sleeps, or a test says so.
    #[derive(Default)]
    struct Simulated(Cell<u64>);

    impl Time for Simulated {
        fn now(&self) -> u64 {
            self.0.get()
        }

        fn sleep(&self, nanos: u64) {
            self.0.set(self.0.get() + nanos);
        }
    }

    const MS: u64 = 1_000_000;

    /// Number, due, and when it was sent, of calls at 1,000/s of which number 10 holds the sender up.
    fn sent(until: &Until, stall: u64) -> Vec<(u64, u64, u64)> {
        let time = Simulated::default();
        let mut sent = Vec::new();
        Schedule::new(0, 1_000.0).keep(until, &time, |number, due| {
            sent.push((number, due, time.now()));
            if number == 10 {
                time.sleep(stall);
            }
            true
        });
        sent
    }

    #[test]
    fn calls_are_sent_when_they_are_due() {
        let sent = sent(&Until::Count(100), 0);
        assert_eq!(sent.len(), 100);
        assert!(sent.iter().enumerate().all(|(n, call)| *call == (n as u64, n as u64 * MS, n as u64 * MS)));
    }

    #[test]
    fn a_stall_leaves_none_out_and_moves_none() {
        let sent = sent(&Until::Elapsed(Duration::from_millis(100)), 50 * MS);
        assert_eq!(sent.len(), 100, "as many as without the stall");
        assert!(sent.iter().all(|(number, due, _)| *due == number * MS), "due as without it");
        let late: Vec<u64> = sent.iter().map(|(_, due, at)| at - due).collect();
        assert_eq!((late[10], late[11], late[12], late[59], late[60]), (0, 49 * MS, 48 * MS, MS, 0));
    }

    #[test]
    fn a_schedule_does_not_drift_and_ends_when_told() {
        let schedule = Schedule::new(7, 3.0);
        assert_eq!(schedule.due(3_000_000), 7 + 1_000_000_000_000_000);
        let stop = Arc::new(AtomicBool::new(false));
        let mut count = 0;
        schedule.keep(&Until::Told(Arc::clone(&stop)), &Simulated::default(), |number, _| {
            count += 1;
            stop.store(number == 4, Ordering::Relaxed);
            true
        });
        assert_eq!(count, 5);
        let mut refused = 0;
        schedule.keep(&Until::Count(9), &Simulated::default(), |_, _| {
            refused += 1;
            false
        });
        assert_eq!(refused, 1, "nobody takes them any more");
    }
}
