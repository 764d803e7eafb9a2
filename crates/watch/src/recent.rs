//! The newest commits, kept in memory within a bound of bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use stentor_mvcc::{ChangeId, Commit, Record};
use stentor_proto::Revision;

use crate::chunk::{self, Chunk};

/// Consecutive commits, the newest last.
pub(crate) struct Recent {
    commits: VecDeque<Arc<[Record]>>,
    /// Every change from this revision on is here.
    oldest: Revision,
    /// The newest revision told of.
    newest: Revision,
    bytes: usize,
    max_bytes: usize,
}

/// A previous change, as far as memory can tell.
pub(crate) enum Previous {
    /// This one, or none.
    Known(Option<Record>),
    /// History has to be asked.
    Unknown,
}

impl Recent {
    pub(crate) fn new(max_bytes: usize) -> Recent {
        Recent { commits: VecDeque::new(), oldest: Revision::FIRST, newest: Revision::ZERO, bytes: 0, max_bytes }
    }

    /// Begins after `revision`, unless commits have been told of meanwhile.
    pub(crate) fn begin_after(&mut self, revision: Revision) {
        if self.newest < revision {
            self.forget_up_to(revision);
        }
    }

    /// Adds a commit. One that does not follow upon the last (the store was replaced by a snapshot) makes
    /// what came before useless. Says whether it did follow.
    pub(crate) fn push(&mut self, commit: &Commit) -> bool {
        let first = commit.records.first().map_or(commit.revision.next(), |r| r.id.revision);
        let follows = first == self.newest.next();
        if !follows {
            self.forget_up_to(first.previous());
        }
        self.newest = commit.revision;
        if !commit.records.is_empty() {
            self.bytes += weight(&commit.records);
            self.commits.push_back(commit.records.clone());
        }
        while self.bytes > self.max_bytes {
            let Some(gone) = self.commits.pop_front() else { break };
            self.bytes -= weight(&gone);
            self.oldest = gone.last().map_or(self.oldest, |r| r.id.revision.next());
        }
        follows
    }

    fn forget_up_to(&mut self, revision: Revision) {
        self.commits.clear();
        self.bytes = 0;
        self.oldest = revision.next();
        self.newest = revision;
    }

    /// The first revision that is still here.
    pub(crate) fn oldest(&self) -> Revision {
        self.oldest
    }

    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes from `from` on, as many as make a chunk; `None` if they are not all here.
    pub(crate) fn chunk(&self, from: Revision, max_bytes: usize) -> Option<Chunk> {
        if from < self.oldest || from > self.newest {
            return None;
        }
        let mut builder = chunk::Builder::new(from, max_bytes);
        let first = self.commits.partition_point(|commit| commit.last().is_none_or(|r| r.id.revision < from));
        let records = self.commits.iter().skip(first).flat_map(|commit| commit.iter());
        for record in records.skip_while(|r| r.id.revision < from) {
            if !builder.push(record.clone()) {
                break;
            }
        }
        Some(builder.finish(self.newest))
    }

    /// What `record`'s key was at the end of the revision before.
    pub(crate) fn previous(&self, record: &Record) -> Previous {
        let mut of = record;
        loop {
            let Some(id) = of.previous else { return Previous::Known(None) };
            let Some(found) = self.find(id) else { return Previous::Unknown };
            if id.revision < record.id.revision {
                return Previous::Known((!found.is_delete()).then(|| found.clone()));
            }
            // An earlier change of the same revision: what it superseded counts.
            of = found;
        }
    }

    fn find(&self, id: ChangeId) -> Option<&Record> {
        let at = self.commits.partition_point(|commit| commit.last().is_none_or(|r| r.id < id));
        let commit = self.commits.get(at)?;
        let at = commit.binary_search_by_key(&id, |r| r.id).ok()?;
        commit.get(at)
    }
}

fn weight(records: &[Record]) -> usize {
    records.iter().map(chunk::weight).sum()
}
