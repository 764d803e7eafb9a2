//! Messages on their way.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::rngs::SmallRng;
use stentor_raft::Message;

use crate::member::Store;

/// A message, with the store that goes with it, and the life of its sender.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub message: Message,
    pub store: Option<Store>,
    pub sender_life: u64,
}

/// What becomes of messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Of a thousand.
    pub lost: u32,
    /// Of a thousand.
    pub repeated: u32,
    /// Most ticks on the way; a few take longer.
    pub delay: u64,
}

#[derive(Debug)]
pub(crate) struct Network {
    /// By the tick of the arrival, and a number that mixes them.
    on_the_way: BTreeMap<(u64, u64, u64), Parcel>,
    sent: u64,
    pub weather: Weather,
    /// From whom to whom nothing gets through.
    pub blocked: BTreeSet<(u64, u64)>,
}

impl Network {
    pub(crate) fn new(weather: Weather) -> Network {
        Network { on_the_way: BTreeMap::new(), sent: 0, weather, blocked: BTreeSet::new() }
    }

    /// How many there are of it: 0 if it is lost, 2 if it is repeated.
    pub(crate) fn send(&mut self, now: u64, parcel: Parcel, random: &mut SmallRng) -> u32 {
        let chance = random.random_range(0..1000);
        let lost = chance < self.weather.lost;
        // A proposal that is repeated is proposed twice: carriers must not.
        let repeated = 999 - chance < self.weather.repeated && !parcel.message.is_proposal();
        let copies = if lost { 0 } else { 1 + u32::from(repeated) };
        for _ in 0..copies {
            let slow = if random.random_ratio(1, 60) { 25 } else { 0 };
            let due = now + random.random_range(0..=self.weather.delay + slow);
            self.put(due, parcel.clone(), random);
        }
        copies
    }

    /// Lets one arrive at a tick.
    pub(crate) fn put(&mut self, due: u64, parcel: Parcel, random: &mut SmallRng) {
        self.sent += 1;
        self.on_the_way.insert((due, random.random(), self.sent), parcel);
    }

    /// One that arrives by now.
    pub(crate) fn next(&mut self, now: u64) -> Option<Parcel> {
        let first = self.on_the_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub(crate) fn is_blocked(&self, message: &Message) -> bool {
        self.blocked.contains(&(message.from(), message.to()))
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }
}
