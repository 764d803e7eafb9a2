//! Which watch stream moves where, so that all endpoints are used evenly again after one was away. No I/O,
//! no clock of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::random::Random;

/// Moves at most one stream about every `interval`, after an endpoint has come back or was added.
///
/// The streams of this client are evened out by counting them. That does nothing for many clients with one
/// stream each, which all fled from the same endpoint; so each of them moves to one that came back with the
/// chance that it would have been there from the start.
#[derive(Debug)]
pub(crate) struct Balance {
    interval: Duration,
    /// Arrivals seen of each endpoint.
    seen: BTreeMap<usize, u64>,
    /// Those that came back, and have not been given their chance.
    returned: BTreeSet<usize>,
    due: Option<Instant>,
}

impl Balance {
    /// What is usable at the start has not come back.
    pub(crate) fn new(interval: Duration, usable: impl Iterator<Item = (usize, u64)>) -> Balance {
        Balance { interval, seen: usable.collect(), returned: BTreeSet::new(), due: None }
    }

    /// When there is something to do, if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// These are usable now; with each, how often it became so.
    pub(crate) fn noticed(&mut self, usable: impl Iterator<Item = (usize, u64)>, now: Instant, random: &mut Random) {
        for (index, arrivals) in usable {
            if self.seen.insert(index, arrivals) != Some(arrivals) {
                self.returned.insert(index);
            }
        }
        if !self.returned.is_empty() && self.due.is_none() {
            self.due = Some(now + random.around(self.interval));
        }
    }

    /// What to move, and where to, of streams by name and endpoint. When nothing is left to do, it rests until
    /// the next endpoint comes back.
    pub(crate) fn next_move(
        &mut self,
        usable: &[usize],
        streams: &[(u64, usize)],
        now: Instant,
        random: &mut Random,
    ) -> Option<(u64, usize)> {
        // If nothing is usable, the next that is comes as one that returned.
        self.due = None;
        let on = |index: usize| streams.iter().filter(move |(_, at)| *at == index).count();
        let fullest = usable.iter().copied().max_by_key(|&index| on(index))?;
        let emptiest = usable.iter().copied().min_by_key(|&index| (on(index), !self.returned.contains(&index)))?;
        let excess = on(fullest) - on(emptiest);
        let lucky =
            excess == 1 && self.returned.contains(&emptiest) && random.next().is_multiple_of(usable.len() as u64);
        let goes_on = excess > 2;
        if !goes_on {
            // Once for each return: a chance that is taken again and again is none.
            self.returned.clear();
        }
        self.due = goes_on.then(|| now + random.around(self.interval));
        if excess < 2 && !lucky {
            return None;
        }
        let candidates: Vec<_> = streams.iter().filter(|(_, at)| *at == fullest).collect();
        let chosen = candidates.get(random.next() as usize % candidates.len().max(1))?;
        Some((chosen.0, emptiest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);

    /// Runs until it rests; what was moved, and when.
    fn run(balance: &mut Balance, usable: &[usize], streams: &mut [(u64, usize)], seed: u64) -> Vec<Instant> {
        let mut random = Random::seeded(seed);
        let mut moved = Vec::new();
        let mut now = Instant::now();
        balance.noticed(usable.iter().map(|&index| (index, 2)), now, &mut random);
        while let Some(due) = balance.wake_at() {
            assert!(due >= now + INTERVAL / 2 && due <= now + INTERVAL * 3 / 2, "a pause before each");
            now = due;
            assert!(balance.is_due(now));
            if let Some((name, to)) = balance.next_move(usable, streams, now, &mut random) {
                streams.iter_mut().filter(|(n, _)| *n == name).for_each(|(_, at)| *at = to);
                moved.push(now);
            }
        }
        moved
    }

    #[test]
    fn streams_are_evened_out_one_by_one() {
        let mut balance = Balance::new(INTERVAL, [(0, 1), (1, 1)].into_iter());
        let mut streams: Vec<_> = (0..9).map(|name| (name, name as usize % 2)).collect();
        let moved = run(&mut balance, &[0, 1, 2], &mut streams, 1);
        let on = |index| streams.iter().filter(|(_, at)| *at == index).count();
        assert_eq!((on(0), on(1), on(2)), (3, 3, 3));
        assert_eq!(moved.len(), 3);
    }

    #[test]
    fn of_many_clients_with_one_stream_a_fair_share_moves() {
        let mut moved = 0;
        for seed in 0..3000 {
            let mut balance = Balance::new(INTERVAL, [(0, 1), (1, 1)].into_iter());
            moved += run(&mut balance, &[0, 1, 2], &mut [(0, seed as usize % 2)], seed).len();
        }
        assert!((900..1100).contains(&moved), "{moved} of 3000");
    }

    #[test]
    fn it_rests_while_nothing_comes_back() {
        let mut balance = Balance::new(INTERVAL, [(0, 1), (1, 1)].into_iter());
        balance.noticed([(0, 1)].into_iter(), Instant::now(), &mut Random::seeded(1));
        assert_eq!(balance.wake_at(), None);
        balance.noticed([(1, 2)].into_iter(), Instant::now(), &mut Random::seeded(1));
        assert!(balance.wake_at().is_some());
        assert_eq!(balance.next_move(&[], &[], Instant::now(), &mut Random::seeded(1)), None);
        assert_eq!(balance.wake_at(), None, "nothing to do while nothing is usable");
    }
}
