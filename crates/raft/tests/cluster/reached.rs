//! What the runs have come by.

use std::collections::BTreeMap;

/// What there is to come by.
const EVERYTHING: [&str; 51] = [
    "election",
    "change of leaders",
    "entry applied",
    "entries of one batch",
    "conflicting tail cut",
    "snapshot sent",
    "snapshot lost",
    "snapshot installed",
    "snapshot not needed",
    "received store found at a restart",
    "received store dropped at a restart",
    "process crash",
    "power loss",
    "crash after an output",
    "crash before a message",
    "crash before entries",
    "crash before an answer to a read",
    "crash before a standing",
    "crash before an installation",
    "failed append lost",
    "failed append kept",
    "failed opening",
    "disk failure",
    "restart replays entries",
    "purge",
    "pause",
    "split",
    "one deaf",
    "one mute",
    "message lost",
    "message repeated",
    "message blocked",
    "proposal acknowledged",
    "proposal of a leader",
    "proposal forwarded",
    "proposal lost",
    "refused: no leader",
    "refused: too much",
    "learner added",
    "voter added",
    "learner promoted",
    "voter removed",
    "learner removed",
    "leader removed",
    "change proposed twice at a time",
    "impossible change",
    "transfer",
    "read asked again",
    "read answered by a leader",
    "read answered by another",
    "sole voter grows",
];

/// How often each was come by.
#[derive(Debug, Default)]
pub(crate) struct Reached(BTreeMap<&'static str, u64>);

impl Reached {
    pub(crate) fn count(&mut self, what: &'static str) {
        self.add_many(what, 1);
    }

    pub(crate) fn add_many(&mut self, what: &'static str, times: u64) {
        assert!(EVERYTHING.contains(&what), "{what} is not listed");
        if times > 0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    pub(crate) fn count_if(&mut self, what: &'static str, is_so: bool) {
        if is_so {
            self.count(what);
        }
    }

    pub(crate) fn add(&mut self, other: &Reached) {
        other.0.iter().for_each(|(what, times)| self.add_many(what, *times));
    }

    pub(crate) fn missed(&self) -> Vec<&'static str> {
        EVERYTHING.into_iter().filter(|what| !self.0.contains_key(what)).collect()
    }
}
