//! When a lease is renewed, and what is known of it. No I/O, no clock of its own.

use std::time::Duration;

use tokio::time::Instant;

use crate::lease::{LeaseLoss, LeaseState};
use crate::random::Random;

/// What is known of a lease; its state follows from this and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Until when the server keeps it for sure: counted from when the renewal was sent, which is not after
    /// the server began to count.
    valid_until: Instant,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Kept,
    /// It is being revoked, and may be gone at any moment.
    Ending,
    Lost(LeaseLoss),
}

/// The renewals of one lease.
#[derive(Debug)]
pub(super) struct Renewal {
    ttl: Duration,
    standing: Standing,
    /// When the next renewal is to be sent.
    due: Instant,
    under_way: bool,
    /// It has been told that the lease is no longer known to be alive.
    doubt_told: bool,
    random: Random,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tick {
    /// Send a renewal.
    pub(super) send: bool,
    /// Tell that the state has changed.
    pub(super) tell: bool,
}

impl Standing {
    pub(super) fn state(&self, now: Instant) -> LeaseState {
        match self.phase {
            Phase::Lost(loss) => LeaseState::Lost(loss),
            Phase::Kept if now < self.valid_until => LeaseState::Alive { valid_until: self.valid_until.into_std() },
            Phase::Kept | Phase::Ending => LeaseState::Doubtful,
        }
    }

    /// For how long it is alive for sure.
    pub(super) fn remaining(&self, now: Instant) -> Duration {
        match self.phase {
            Phase::Kept => self.valid_until.saturating_duration_since(now),
            Phase::Ending | Phase::Lost(_) => Duration::ZERO,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.phase, Phase::Lost(_))
    }
}

impl Renewal {
    /// Of a lease whose grant was sent then.
    pub(super) fn new(ttl: Duration, sent: Instant, random: Random) -> Renewal {
        let standing = Standing { valid_until: sent + ttl, phase: Phase::Kept };
        let mut renewal = Renewal { ttl, standing, due: sent, under_way: false, doubt_told: false, random };
        renewal.due = sent + renewal.interval();
        renewal
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// When there is something to do next, unless something happens before. `None`: never.
    pub(super) fn wake(&self) -> Option<Instant> {
        if self.standing.phase != Phase::Kept {
            return None;
        }
        let due = (!self.under_way).then_some(self.due);
        let doubt = (!self.doubt_told).then_some(self.standing.valid_until);
        due.into_iter().chain(doubt).min()
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) -> Tick {
        if self.standing.phase != Phase::Kept {
            return Tick::default();
        }
        let send = !self.under_way && self.due <= now;
        self.under_way |= send;
        let tell = !self.doubt_told && self.standing.valid_until <= now;
        self.doubt_told |= tell;
        Tick { send, tell }
    }

    /// The server has renewed it, for as long as this; a TTL of nothing says that it is gone.
    pub(super) fn answered(&mut self, sent: Instant, ttl: Duration) {
        self.under_way = false;
        if self.standing.phase != Phase::Kept {
            return;
        }
        if ttl.is_zero() {
            self.standing.phase = Phase::Lost(LeaseLoss::Gone);
            return;
        }
        self.ttl = ttl;
        self.standing.valid_until = self.standing.valid_until.max(sent + ttl);
        self.doubt_told = false;
        self.due = sent + self.interval();
    }

    /// A renewal has failed, and what the lease is at is not known: the next comes after the pause.
    pub(super) fn failed(&mut self, now: Instant, pause: Duration) {
        self.under_way = false;
        self.due = now + pause.min(self.ttl / 3);
    }

    /// It is about to be revoked: no renewal follows.
    pub(super) fn ending(&mut self) {
        if self.standing.phase == Phase::Kept {
            self.standing.phase = Phase::Ending;
        }
    }

    /// It is gone. What was known first stays.
    pub(super) fn lost(&mut self, loss: LeaseLoss) {
        if !self.standing.is_lost() {
            self.standing.phase = Phase::Lost(loss);
        }
    }

    /// A third of the TTL, or up to a tenth less, so that leases granted at once are not renewed at once.
    fn interval(&mut self) -> Duration {
        let third = self.ttl / 3;
        third - self.random.below(third / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn granted(sent: Instant) -> Renewal {
        Renewal::new(TTL, sent, Random::seeded(5))
    }

    fn alive(renewal: &Renewal, now: Instant) -> bool {
        matches!(renewal.standing().state(now), LeaseState::Alive { .. })
    }

    #[test]
    fn a_renewal_is_due_after_a_third_of_the_ttl_or_a_little_before() {
        let start = Instant::now();
        let mut renewal = granted(start);
        let due = renewal.wake().unwrap();
        assert!(due > start + seconds(9) && due <= start + seconds(10), "{:?}", due - start);
        assert_eq!(renewal.tick(due - seconds(1)), Tick::default());
        assert_eq!(renewal.tick(due), Tick { send: true, tell: false });
        assert_eq!(renewal.tick(due), Tick::default(), "one is under way");
        assert_eq!(renewal.wake(), Some(start + TTL), "then it would turn doubtful");
        renewal.answered(due, TTL);
        let next = renewal.wake().unwrap();
        assert!(next > due + seconds(9) && next <= due + seconds(10));
        // Two leases of the same second go different ways.
        let other = Renewal::new(TTL, start, Random::seeded(6));
        assert_ne!(other.wake().unwrap(), due);
    }

    #[test]
    fn validity_counts_from_when_the_renewal_was_sent() {
        let start = Instant::now();
        let mut renewal = granted(start);
        assert_eq!(
            renewal.standing().state(start + seconds(29)),
            LeaseState::Alive { valid_until: (start + TTL).into_std() }
        );
        assert!(!alive(&renewal, start + TTL), "the last moment is not promised");
        renewal.tick(start + seconds(10));
        // The answer was 15 s under way: they are not added.
        renewal.answered(start + seconds(10), TTL);
        assert!(alive(&renewal, start + seconds(39)) && !alive(&renewal, start + seconds(40)));
        assert_eq!(renewal.standing().remaining(start + seconds(25)), seconds(15));
        // The answer to an older renewal takes nothing away.
        renewal.answered(start + seconds(5), TTL);
        assert!(alive(&renewal, start + seconds(39)));
    }

    #[test]
    fn without_an_answer_it_turns_doubtful_and_is_told_once() {
        let start = Instant::now();
        let mut renewal = granted(start);
        let mut now = renewal.wake().unwrap();
        assert!(renewal.tick(now).send);
        renewal.failed(now, seconds(100));
        assert_eq!(renewal.wake(), Some(now + seconds(10)), "no pause is longer than the interval");
        renewal.failed(now, Duration::ZERO);
        assert!(renewal.tick(now).send && alive(&renewal, now));
        now = start + TTL;
        assert_eq!(renewal.tick(now), Tick { send: false, tell: true });
        assert_eq!(renewal.standing().state(now), LeaseState::Doubtful);
        assert_eq!(renewal.standing().remaining(now), Duration::ZERO);
        assert_eq!(renewal.tick(now + seconds(1)), Tick::default());
        assert_eq!(renewal.wake(), None, "all hangs on the renewal under way");
        // It was alive all the time.
        renewal.answered(now, TTL);
        assert!(alive(&renewal, now + seconds(29)));
        assert_eq!(renewal.tick(now + TTL), Tick { send: true, tell: true });
    }

    #[test]
    fn a_renewal_that_comes_back_too_late_is_doubtful_from_the_start() {
        let start = Instant::now();
        let mut renewal = granted(start);
        renewal.tick(start + seconds(10));
        renewal.answered(start + seconds(10), TTL);
        // A program that was stopped for long sees it at once, whether the task has run or not.
        assert_eq!(renewal.standing().state(start + seconds(3600)), LeaseState::Doubtful);
    }

    #[test]
    fn a_lease_that_is_gone_stays_gone() {
        let start = Instant::now();
        let mut renewal = granted(start);
        renewal.tick(start + seconds(10));
        renewal.answered(start + seconds(10), Duration::ZERO);
        assert_eq!(renewal.standing().state(start + seconds(10)), LeaseState::Lost(LeaseLoss::Gone));
        renewal.answered(start + seconds(11), TTL);
        renewal.lost(LeaseLoss::Revoked);
        assert_eq!(renewal.standing().state(start + seconds(11)), LeaseState::Lost(LeaseLoss::Gone));
        assert_eq!((renewal.wake(), renewal.tick(start + TTL)), (None, Tick::default()));
    }

    #[test]
    fn one_that_is_being_revoked_is_not_called_alive() {
        let start = Instant::now();
        let mut renewal = granted(start);
        renewal.tick(start + seconds(10));
        renewal.ending();
        assert_eq!(renewal.standing().state(start + seconds(10)), LeaseState::Doubtful);
        renewal.answered(start + seconds(10), TTL);
        assert_eq!(renewal.standing().state(start + seconds(10)), LeaseState::Doubtful);
        assert_eq!(renewal.wake(), None);
        renewal.lost(LeaseLoss::Revoked);
        assert_eq!(renewal.standing().state(start), LeaseState::Lost(LeaseLoss::Revoked));
    }
}
