//! What is known of each endpoint, and which is taken next. No I/O, no clock of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::{Backoff, Pauses};
use crate::fault::Fault;
use crate::random::Random;

/// Why an endpoint is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No connection, or no answer in time.
    Unreachable(String),
    /// One side does not trust the other's certificate.
    Untrusted(String),
    /// It answers, and says that it cannot serve: no leader, a learner, shutting down.
    Unfit(String),
}

impl Trouble {
    /// What it means that no connection could be opened, or that a new one does not answer.
    pub(crate) fn of_opening(fault: &Fault) -> Trouble {
        match fault {
            Fault::Tls { .. } => Trouble::Untrusted(fault.to_string()),
            _ => Trouble::Unreachable(fault.to_string()),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Trouble::Unreachable(text) | Trouble::Untrusted(text) | Trouble::Unfit(text) => text,
        }
    }
}

#[derive(Debug)]
enum Condition {
    /// Nothing has gone wrong, or nothing was tried yet.
    Usable,
    /// Only its prober asks it.
    Troubled { trouble: Trouble, since: Instant },
}

#[derive(Debug)]
struct Member {
    condition: Condition,
    pauses: Pauses,
    /// Its prober is at work.
    probed: bool,
    /// When it was last found well; a spell that lasted makes the pauses short again.
    well_since: Option<Instant>,
    /// What went wrong last, and when, also if it is well now.
    last_trouble: Option<(Trouble, Instant)>,
    /// Times that it became usable: by being named, and by every recovery.
    arrivals: u64,
}

/// How long an endpoint has to be well for its next trouble to count as the first.
const HEALTHY_SPELL: Duration = Duration::from_secs(5);

/// The condition of all endpoints, each known by a number that is never given to another.
#[derive(Debug)]
pub(crate) struct Health {
    members: BTreeMap<usize, Member>,
    backoff: Backoff,
    random: Random,
    /// Where the round begins next.
    turn: usize,
}

/// What a failure changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The endpoint was usable until now.
    pub(crate) went_down: bool,
    /// It has no prober yet: it has one at most.
    pub(crate) needs_prober: bool,
}

impl Health {
    /// Of endpoints that are numbered from 0.
    pub(crate) fn new(endpoints: usize, backoff: Backoff, mut random: Random) -> Health {
        // Clients that start together do not all begin with the first.
        let turn = if endpoints == 0 { 0 } else { (random.next() % endpoints as u64) as usize };
        let mut health = Health { members: BTreeMap::new(), backoff, random, turn };
        (0..endpoints).for_each(|index| health.add(index));
        health
    }

    pub(crate) fn add(&mut self, index: usize) {
        let member = Member {
            condition: Condition::Usable,
            pauses: self.backoff.start(),
            probed: false,
            well_since: None,
            last_trouble: None,
            arrivals: 1,
        };
        self.members.insert(index, member);
    }

    pub(crate) fn remove(&mut self, index: usize) {
        self.members.remove(&index);
    }

    /// The next usable endpoint in turn, another than `avoid` if there is one. `None` while all are in
    /// trouble.
    pub(crate) fn pick(&mut self, avoid: Option<usize>) -> Option<usize> {
        let in_turn = self.members.range(self.turn..).chain(self.members.range(..self.turn));
        let usable = in_turn.filter(|(_, member)| member.is_usable()).map(|(index, _)| *index);
        let chosen = usable.clone().find(|&i| Some(i) != avoid).or_else(|| usable.clone().next());
        if let Some(chosen) = chosen {
            self.turn = chosen + 1;
        }
        chosen
    }

    pub(crate) fn is_usable(&self, index: usize) -> bool {
        self.members.get(&index).is_some_and(Member::is_usable)
    }

    /// Those that are usable, and how often each became so.
    pub(crate) fn usable(&self) -> impl Iterator<Item = (usize, u64)> {
        self.members.iter().filter(|(_, member)| member.is_usable()).map(|(index, member)| (*index, member.arrivals))
    }

    /// A call failed.
    pub(crate) fn failed(&mut self, index: usize, trouble: Trouble, now: Instant) -> Failed {
        let Some(member) = self.members.get_mut(&index) else {
            return Failed { went_down: false, needs_prober: false };
        };
        let (since, first) = match member.condition {
            Condition::Usable => (now, true),
            Condition::Troubled { since, .. } => (since, false),
        };
        if first && member.well_since.take().is_some_and(|since| now.duration_since(since) >= HEALTHY_SPELL) {
            member.pauses.reset();
        }
        member.last_trouble = Some((trouble.clone(), now));
        member.condition = Condition::Troubled { trouble, since };
        Failed { went_down: first, needs_prober: !std::mem::replace(&mut member.probed, true) }
    }

    /// Its prober asks whether there is anything left to do; if not, it ends.
    pub(crate) fn ends_probing(&mut self, index: usize) -> bool {
        let Some(member) = self.members.get_mut(&index) else { return true };
        member.probed = !member.is_usable();
        !member.probed
    }

    /// A call was answered. True if the endpoint was in trouble until now.
    pub(crate) fn succeeded(&mut self, index: usize, now: Instant) -> bool {
        let Some(member) = self.members.get_mut(&index) else { return false };
        member.well_since.get_or_insert(now);
        let was_troubled = !member.is_usable();
        member.condition = Condition::Usable;
        member.arrivals += u64::from(was_troubled);
        was_troubled
    }

    /// How long its prober waits before it asks.
    pub(crate) fn pause(&mut self, index: usize) -> Duration {
        match self.members.get_mut(&index) {
            Some(member) => member.pauses.after_failure(&mut self.random),
            None => Duration::ZERO,
        }
    }

    /// What is wrong with an endpoint, and since when.
    pub(crate) fn trouble(&self, index: usize) -> Option<(&Trouble, Instant)> {
        match &self.members.get(&index)?.condition {
            Condition::Usable => None,
            Condition::Troubled { trouble, since } => Some((trouble, *since)),
        }
    }

    /// Of all endpoints in trouble.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.members.keys().filter_map(|&index| Some(self.trouble(index)?.0))
    }

    /// What went wrong last, and when.
    pub(crate) fn last_trouble(&self, index: usize) -> Option<&(Trouble, Instant)> {
        self.members.get(&index)?.last_trouble.as_ref()
    }
}

impl Member {
    fn is_usable(&self) -> bool {
        matches!(self.condition, Condition::Usable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(endpoints: usize) -> Health {
        Health::new(endpoints, Backoff::default(), Random::seeded(3))
    }

    fn down() -> Trouble {
        Trouble::Unreachable("refused".into())
    }

    #[test]
    fn endpoints_take_turns_and_one_in_trouble_is_left_out() {
        let mut health = health(3);
        let now = Instant::now();
        let mut seen: Vec<_> = (0..6).filter_map(|_| health.pick(None)).collect();
        assert_eq!(seen[..3], seen[3..]);
        seen.truncate(3);
        seen.sort();
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(health.failed(1, down(), now), Failed { went_down: true, needs_prober: true });
        let again = Failed { went_down: false, needs_prober: false };
        assert_eq!(health.failed(1, down(), now), again, "one prober is enough");
        assert!((0..10).all(|_| health.pick(None) != Some(1)));
        assert!(!health.ends_probing(1));
        assert!(health.succeeded(1, now) && !health.succeeded(1, now));
        let failed = health.failed(1, down(), now);
        assert!(failed.went_down && !failed.needs_prober, "the prober has not seen that it was well");
        health.succeeded(1, now);
        assert!(health.ends_probing(1));
        assert!((0..3).any(|_| health.pick(None) == Some(1)));
    }

    #[test]
    fn the_endpoint_to_avoid_is_taken_only_if_it_is_the_last() {
        let mut health = health(2);
        assert!((0..10).all(|_| health.pick(Some(0)) == Some(1)));
        health.failed(1, down(), Instant::now());
        assert_eq!(health.pick(Some(0)), Some(0));
        health.failed(0, down(), Instant::now());
        assert_eq!(health.pick(None), None);
        assert_eq!(self::health(0).pick(None), None);
    }

    #[test]
    fn endpoints_come_and_go_and_keep_their_numbers() {
        let mut health = health(2);
        health.add(2);
        health.remove(0);
        let mut seen: Vec<_> = (0..2).filter_map(|_| health.pick(None)).collect();
        seen.sort();
        assert_eq!(seen, [1, 2]);
        assert!(!health.is_usable(0) && health.ends_probing(0));
        health.failed(2, down(), Instant::now());
        health.succeeded(2, Instant::now());
        assert_eq!(health.usable().collect::<Vec<_>>(), [(1, 1), (2, 2)]);
        assert_eq!(health.last_trouble(2).map(|(trouble, _)| trouble), Some(&down()));
    }

    #[test]
    fn pauses_stay_long_for_an_endpoint_that_flaps() {
        let mut health = health(1);
        let mut now = Instant::now();
        for _ in 0..12 {
            health.failed(0, down(), now);
            health.pause(0);
            health.succeeded(0, now);
            now += Duration::from_millis(100);
        }
        // Failing again at once, it goes on where it was: far from the first, which is none.
        health.failed(0, down(), now);
        let longest = (0..20).map(|_| health.pause(0)).max().unwrap();
        assert!(longest > Duration::from_millis(500), "{longest:?}");
        health.succeeded(0, now);
        now += HEALTHY_SPELL;
        health.failed(0, down(), now);
        assert_eq!(health.pause(0), Duration::ZERO);
        assert_eq!(health.trouble(0), Some((&down(), now)));
    }
}
