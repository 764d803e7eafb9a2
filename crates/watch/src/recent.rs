//! The newest commits, kept in memory within a bound of bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use stentor_mvcc::{ChangeId, Commit, Record};
use stentor_proto::Revision;

use crate::chunk::Chunk;

/// So many commits are taken out at a time: whoever holds the lock that long holds up the writer.
const MAX_TAKEN: usize = 64;

/// Consecutive commits, the newest last, each as a chunk.
pub(crate) struct Recent {
    commits: VecDeque<Arc<Chunk>>,
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

/// How a commit stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    Upon,
    /// The store was replaced: what came between this revision and the commit is only in history.
    After(Revision),
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
    /// what came before useless.
    pub(crate) fn push(&mut self, commit: &Commit) -> Follows {
        let first = commit.records.first().map_or(commit.revision.next(), |r| r.id.revision);
        let before = self.newest;
        let follows = if first == before.next() { Follows::Upon } else { Follows::After(before) };
        if follows != Follows::Upon {
            self.forget_up_to(first.previous());
        }
        self.newest = commit.revision;
        if !commit.records.is_empty() {
            let chunk = Chunk::new(first, commit.revision, commit.records.clone());
            self.bytes += chunk.bytes();
            self.commits.push_back(Arc::new(chunk));
        }
        while self.bytes > self.max_bytes {
            let Some(gone) = self.commits.pop_front() else { break };
            self.bytes -= gone.bytes();
            self.oldest = gone.to.next();
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

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether every change from `from` on is here, and there is one.
    pub(crate) fn reaches(&self, from: Revision) -> bool {
        self.oldest <= from && from <= self.newest
    }

    /// The newest revision told of.
    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }

    /// Some commits from `from` on, if all are here.
    pub(crate) fn commits(&self, from: Revision) -> Option<Vec<Arc<Chunk>>> {
        if !self.reaches(from) {
            return None;
        }
        let first = self.commits.partition_point(|commit| commit.to < from);
        Some(self.commits.iter().skip(first).take(MAX_TAKEN).cloned().collect())
    }

    /// The commit with `revision` in it, if it is the newest or large: there is no use in joining it with
    /// those that follow.
    pub(crate) fn alone(&self, revision: Revision, large: usize) -> Option<Arc<Chunk>> {
        let newest = self.commits.back()?;
        if newest.covers(revision) {
            return Some(newest.clone());
        }
        let at = self.commits.partition_point(|commit| commit.to < revision);
        self.commits.get(at).filter(|chunk| chunk.covers(revision) && chunk.bytes() >= large).cloned()
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
        let at = self.commits.partition_point(|commit| commit.to < id.revision);
        let commit = self.commits.get(at)?;
        commit.get(commit.position_of(id)).filter(|record| record.id == id)
    }
}
