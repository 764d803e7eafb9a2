//! What the runs have come across: a simulation that never gets somewhere proves nothing about it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use stentor_checks::history::{Answer, Ask};
use stentor_client::{Counter, ErrorKind, Metrics};

use crate::watcher::{End, Item, Record};

macro_rules! reached {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// Counts, summed over runs.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Reached { $($(#[doc = $doc])* pub(crate) $name: u64),* }

        impl Reached {
            pub(crate) fn add(&mut self, other: &Reached) {
                $(self.$name += other.$name;)*
            }

            pub(crate) fn count_of(&mut self, name: &str) -> Option<&mut u64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }

            pub(crate) fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

reached! {
    partitions,
    holds,
    losses,
    slow_links,
    kills,
    /// Members told to end.
    ends,
    /// Of leaders, which another member took the office from before.
    hand_overs,
    disk_failures,
    /// Of the members, into two parts.
    splits,
    asymmetric_splits,
    /// Terms in which there was a leader.
    terms,
    writes,
    reads,
    serializable_reads,
    /// Transactions that read instead of writing.
    refused_txns,
    calls_failed,
    leases,
    renewals,
    revocations,
    /// Revisions by leases that had run out.
    expiries,
    compactions,
    additions,
    promotions,
    removals,
    /// Of the URLs at which members find one.
    moves,
    /// Of two members at one revision.
    hashes_compared,
    /// Members that have noticed that they were removed.
    removed_members,
    transfers,
    stores_received,
    /// Stores that a member has received and could not take over before it died.
    adoptions_failed,
    /// Those that it took over when it started again.
    adopted_at_start,
    restores,
    /// Of all members' hashes.
    comparisons,
    /// Of those that could be compared.
    comparisons_in_part,
    watches,
    events,
    /// Streams that broke.
    breaks,
    resumes,
    /// On a member that was behind what the watch had seen.
    resumes_behind,
    torn_revisions,
    overflows,
    notes,
    silent_streams,
    stale_events,
    untrusted_notes,
    /// Streams given up on a link that had been dead for as long as pings take.
    half_open,
    compacted,
    history_resets,
    unavailable,
    given_up,
    living,
}

/// What may stay at zero: no Stentor repeats events, and its notes are in order. A revision is torn about once in
/// 400 runs, which is too rare to rely on.
const NOT_MEANT: [&str; 3] = ["stale_events", "untrusted_notes", "torn_revisions"];

/// What all clients of a run have counted. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted(Arc<Mutex<HashMap<Counter, u64>>>);

impl Counted {
    fn get(&self, counter: Counter) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&counter).copied().unwrap_or(0)
    }
}

impl Metrics for Counted {
    fn add(&self, counter: Counter, by: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(counter).or_default() += by;
    }
}

impl Reached {
    pub(crate) fn count_answer(&mut self, ask: &Ask, answer: &Answer) {
        *match (ask, answer) {
            (Ask::Read { serializable: true, .. }, _) => &mut self.serializable_reads,
            (Ask::Read { .. }, _) => &mut self.reads,
            (_, Answer::Txn(Err(_))) => &mut self.refused_txns,
            _ => &mut self.writes,
        } += 1;
    }

    pub(crate) fn count(&mut self, record: &Record) {
        self.watches += 1;
        self.events += record.events() as u64;
        for item in &record.items {
            match item {
                Item::HalfOpen => self.half_open += 1,
                Item::ResumedBehind => self.resumes_behind += 1,
                Item::Events(_) | Item::Progress(_) => {}
            }
        }
        *match &record.end {
            None => &mut self.living,
            Some((End::Error(ErrorKind::Compacted { .. }, _), _)) => &mut self.compacted,
            Some((End::Error(ErrorKind::HistoryReset { .. }, _), _)) => &mut self.history_resets,
            Some((End::Error(..), _)) => &mut self.unavailable,
            Some(_) => &mut self.given_up,
        } += 1;
    }

    pub(crate) fn count_clients(&mut self, counted: &Counted) {
        self.breaks += counted.get(Counter::Breaks);
        self.resumes += counted.get(Counter::Resumes);
        self.torn_revisions += counted.get(Counter::TornRevisions);
        self.overflows += counted.get(Counter::Overflows);
        self.notes += counted.get(Counter::Notes);
        self.silent_streams += counted.get(Counter::SilentStreams);
        self.stale_events += counted.get(Counter::StaleEvents);
        self.untrusted_notes += counted.get(Counter::UntrustedNotes);
    }

    /// What should have been met, and was not.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let zero = self.rows().into_iter().filter(|(name, count)| *count == 0 && !NOT_MEANT.contains(name));
        zero.map(|(name, _)| name).collect()
    }
}
