//! Linearizable reads: which of them wait for which round, and which entry each waits for.
//!
//! A read joins only a round that starts after it arrived. One round is under way at a time; what arrives
//! meanwhile waits for the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stentor_proto::EtcdError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Reads that may wait for the driver to take them; more wait outside.
const QUEUE: usize = 4_096;

/// Told when a read may be served.
pub(super) type Waiter = oneshot::Sender<()>;

/// What linearizable reads wait for.
#[derive(Clone)]
pub(crate) struct Barrier {
    alone: Arc<AtomicBool>,
    queue: mpsc::Sender<Waiter>,
    time_limit: Duration,
}

impl Barrier {
    /// Returns once this member has applied every write that any member had acknowledged when this was
    /// called. Cancel safe.
    ///
    /// # Errors
    /// `Timeout` without a leader for too long; `Stopped`.
    pub(crate) async fn pass(&self) -> Result<(), EtcdError> {
        if self.alone.load(Ordering::SeqCst) {
            // What is acknowledged here is published here, and nobody else can acknowledge anything.
            return Ok(());
        }
        let passed = async {
            let (waiter, passed) = oneshot::channel();
            self.queue.send(waiter).await.map_err(|_| EtcdError::Stopped)?;
            passed.await.map_err(|_| EtcdError::Stopped)
        };
        timeout(self.time_limit, passed).await.map_err(|_| EtcdError::Timeout)?
    }
}

/// The driver's end.
pub(super) struct Reads {
    /// This member alone decides: it is the leader, no other can become one without its vote, and all that it
    /// had acknowledged before is applied.
    pub(super) alone: Arc<AtomicBool>,
    pub(super) queue: mpsc::Receiver<Waiter>,
    pub(super) rounds: Rounds,
}

pub(super) fn channel(time_limit: Duration) -> (Reads, Barrier) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let alone = Arc::new(AtomicBool::new(false));
    let barrier = Barrier { alone: alone.clone(), queue: sender, time_limit };
    (Reads { alone, queue, rounds: Rounds::new() }, barrier)
}

/// The rounds, generic so that a test can name its reads.
#[derive(Debug)]
pub(super) struct Rounds<R = Waiter> {
    /// For the next round.
    waiting: Vec<R>,
    /// The one under way.
    asked: Option<Round<R>>,
    last: u64,
    /// By the entry that must be applied first.
    known: BTreeMap<u64, Vec<R>>,
}

#[derive(Debug)]
struct Round<R> {
    number: u64,
    reads: Vec<R>,
    ticks: u32,
}

impl<R> Rounds<R> {
    pub(super) fn new() -> Rounds<R> {
        Rounds { waiting: Vec::new(), asked: None, last: 0, known: BTreeMap::new() }
    }

    /// A read has arrived.
    pub(super) fn add(&mut self, read: R) {
        self.waiting.push(read);
    }

    /// The number of a round to ask for now, if one is due.
    pub(super) fn next(&mut self) -> Option<u64> {
        if self.asked.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.last += 1;
        self.asked = Some(Round { number: self.last, reads: std::mem::take(&mut self.waiting), ticks: 0 });
        Some(self.last)
    }

    /// A round has its answer. One of a round given up counts for nothing.
    pub(super) fn answered(&mut self, number: u64, index: u64) {
        if let Some(round) = self.asked.take_if(|round| round.number == number) {
            self.known.entry(index).or_default().extend(round.reads);
        }
    }

    /// Time has passed: a round without an answer after so many ticks was lost, and its reads wait for the
    /// next.
    pub(super) fn tick(&mut self, patience: u32) {
        if let Some(round) = &mut self.asked {
            round.ticks += 1;
            if round.ticks >= patience {
                self.give_up();
            }
        }
    }

    /// The round under way is lost: its reads wait for the next.
    pub(super) fn give_up(&mut self) {
        if let Some(round) = self.asked.take() {
            self.waiting.extend(round.reads);
        }
    }

    /// The first entry that a read waits for.
    pub(super) fn wanted(&self) -> Option<u64> {
        self.known.keys().next().copied()
    }

    /// The reads that may be served when entries up to this one are applied.
    pub(super) fn served(&mut self, applied: u64) -> Vec<R> {
        let later = self.known.split_off(&applied.saturating_add(1));
        std::mem::replace(&mut self.known, later).into_values().flatten().collect()
    }

    /// Forgets the reads that nobody waits for any more.
    pub(super) fn retain(&mut self, mut is_wanted: impl FnMut(&R) -> bool) {
        self.waiting.retain(&mut is_wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_joins_only_a_round_that_starts_after_it() {
        let mut rounds = Rounds::new();
        assert_eq!(rounds.next(), None);
        rounds.add("a");
        assert_eq!(rounds.next(), Some(1));
        rounds.add("b");
        assert_eq!(rounds.next(), None, "one at a time");
        rounds.answered(1, 7);
        assert_eq!((rounds.next(), rounds.wanted()), (Some(2), Some(7)));
        assert!(rounds.served(6).is_empty());
        rounds.answered(2, 7);
        rounds.answered(2, 3);
        assert_eq!(rounds.served(7), ["a", "b"]);
        assert_eq!(rounds.wanted(), None);
    }

    #[test]
    fn a_lost_round_is_asked_anew_and_its_late_answer_is_nothing() {
        let mut rounds = Rounds::new();
        rounds.add("a");
        assert_eq!(rounds.next(), Some(1));
        rounds.tick(2);
        assert_eq!(rounds.next(), None);
        rounds.tick(2);
        assert_eq!(rounds.next(), Some(2));
        rounds.answered(1, 5);
        assert!(rounds.served(9).is_empty());
        rounds.answered(2, 8);
        assert_eq!(rounds.served(9), ["a"]);
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let mut rounds = Rounds::new();
        rounds.add(1);
        rounds.add(2);
        rounds.retain(|read| *read == 2);
        assert_eq!(rounds.next(), Some(1));
        rounds.answered(1, 0);
        assert_eq!(rounds.served(0), [2]);
    }
}
