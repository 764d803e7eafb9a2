//! The differences that are known and kept, each with its reason. docs/differences.md is made from this
//! table.

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::HashKvResponse;
use stentor_proto::mvccpb::Event;
use stentor_proto::mvccpb::event::EventType;

use super::answer::Answer;
use super::request::Request;
use super::settle::for_ranges;
use crate::peers::Version;
use crate::stream::revision_of;

/// The known difference for which a note from before a create can come after it.
pub(crate) fn late_notes(server: Version) -> Option<&'static Known> {
    KNOWN.iter().find(|known| matches!(known.seen, Seen::LateNotes) && known.excuses(server))
}

/// A difference that is no failure.
pub(crate) struct Known {
    /// Its name in reports.
    pub(crate) id: &'static str,
    /// Between whom.
    pub(crate) between: Between,
    /// What differs.
    pub(crate) what: &'static str,
    /// Why that is right.
    pub(crate) reason: &'static str,
    /// How it is recognised.
    pub(crate) seen: Seen,
}

/// Who differs from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    /// An etcd older than this from everything newer.
    EtcdBefore(u16, u16, u16),
    /// Any etcd from Stentor.
    EtcdAndStentor,
}

/// How a difference is recognised.
#[derive(Clone, Copy)]
pub(crate) enum Seen {
    /// Makes equal what it covers in two answers to a request: the reference's, then the other's.
    Answer(fn(&Request, &mut Answer, &mut Answer)),
    /// Whether it explains what a server left out of an event.
    Part(fn(&Replay<'_>, &Event) -> bool),
    /// Whether it explains that a server may leave the event out.
    Missing(fn(&Replay<'_>) -> bool),
    /// Whether requested progress notes of a server are worth nothing.
    Notes,
    /// Whether a requested progress note, written before a watcher was created, can come after.
    LateNotes,
    /// The run does not reach it, or passes over it by construction.
    Outside,
}

/// An event that a watcher should receive.
pub(crate) struct Replay<'a> {
    /// What is due.
    pub(crate) expected: &'a Event,
    /// Whether its key changes again in the same revision.
    pub(crate) changed_again: bool,
    /// The compacted revision when the watcher was created.
    pub(crate) compacted_at_create: i64,
    /// The compacted revision now.
    pub(crate) compacted: i64,
}

impl Known {
    /// Whether it can be between these two.
    pub(crate) fn applies(&self, reference: Version, subject: Version) -> bool {
        match self.between {
            Between::EtcdBefore(major, minor, patch) => {
                let number = (major, minor, patch);
                reference.is_etcd_before(number) && !subject.is_etcd_before(number)
            }
            Between::EtcdAndStentor => !reference.stentor && subject.stentor,
        }
    }

    /// Whether it can be a fault of this server.
    pub(crate) fn excuses(&self, server: Version) -> bool {
        match self.between {
            Between::EtcdBefore(major, minor, patch) => server.is_etcd_before((major, minor, patch)),
            Between::EtcdAndStentor => !server.stentor,
        }
    }
}

/// Since 3.6 etcd answers HashKV from what its last compactions remembered, where it can: at a compacted
/// revision that names the compacted revision before, and after a compaction at 0 a request for the
/// current revision gets the hash of revision 0. It remembers revisions that are compacted since, too.
fn hash_remembered(request: &Request, left: &mut Answer, right: &mut Answer) {
    let Request::HashKv(asked) = request else { return };
    if let (Answer::Failed { text, .. }, Answer::HashKv(hash)) | (Answer::HashKv(hash), Answer::Failed { text, .. }) =
        (&*left, &*right)
        && text == EtcdError::Compacted.text()
        && hash.hash_revision == *asked
        && hash.compact_revision <= *asked
    {
        left.clone_from(right);
    }
    let (Answer::HashKv(left), Answer::HashKv(right)) = (left, right) else { return };
    if *asked == 0 && (left.hash_revision == 0 || right.hash_revision == 0) {
        (left.hash_revision, left.compact_revision) = (right.hash_revision, right.compact_revision);
    }
    let at_compacted = |answer: &HashKvResponse| answer.compact_revision == answer.hash_revision;
    if left.hash_revision == right.hash_revision && (at_compacted(left) || at_compacted(right)) {
        left.compact_revision = right.compact_revision;
    }
}

/// The known difference that explains what is left out of an event of this server.
pub(crate) fn part_missing(server: Version, replay: &Replay<'_>, got: &Event) -> Option<&'static Known> {
    let mut excuses = KNOWN.iter().filter(|known| known.excuses(server));
    excuses.find(|known| matches!(known.seen, Seen::Part(explains) if explains(replay, got)))
}

/// The known difference for which this server may leave an event out.
pub(crate) fn may_miss(server: Version, replay: &Replay<'_>) -> Option<&'static Known> {
    let mut excuses = KNOWN.iter().filter(|known| known.excuses(server));
    excuses.find(|known| matches!(known.seen, Seen::Missing(explains) if explains(replay)))
}

/// The known difference for which this server's progress notes are not to be trusted.
pub(crate) fn notes_worthless(server: Version) -> Option<&'static Known> {
    KNOWN.iter().find(|known| matches!(known.seen, Seen::Notes) && known.excuses(server))
}

/// Every known difference.
pub(crate) const KNOWN: &[Known] = &[
    Known {
        id: "range-stream",
        between: Between::EtcdBefore(3, 7, 0),
        what: "RangeStream answers Unimplemented.",
        reason: "The call is new in etcd 3.7; clients fall back on Range.",
        seen: Seen::Answer(|request, older, newer| {
            if matches!(request, Request::RangeStream(_)) && matches!(older, Answer::Failed { code: 12, .. }) {
                older.clone_from(newer);
            }
        }),
    },
    Known {
        id: "keys-only-lease",
        between: Between::EtcdBefore(3, 7, 0),
        what: "A Range with keys_only fills in the pairs' lease.",
        reason: "etcd 3.7 reads keys alone from its index, where there is no lease, unless it sorts by value; \
                 Stentor follows the newest.",
        seen: Seen::Answer(|request, older, newer| {
            for_ranges(request, older, newer, &mut |range, older, newer| {
                if range.keys_only {
                    for (older, newer) in older.kvs.iter_mut().zip(&newer.kvs) {
                        if newer.lease == 0 {
                            older.lease = 0;
                        }
                    }
                }
            });
        }),
    },
    Known {
        id: "hash-revision",
        between: Between::EtcdBefore(3, 6, 0),
        what: "HashKV leaves hash_revision 0.",
        reason: "The field is new in etcd 3.6.",
        seen: Seen::Answer(|_, older, newer| {
            if let (Answer::HashKv(older), Answer::HashKv(newer)) = (older, newer)
                && older.hash_revision == 0
            {
                older.hash_revision = newer.hash_revision;
            }
        }),
    },
    Known {
        id: "hash-remembered",
        between: Between::EtcdBefore(3, 6, 0),
        what: "HashKV at the compacted revision is refused as compacted; etcd 3.6 and later answer it, and earlier \
               compacted revisions, naming the compacted revision before.",
        reason: "Since 3.6 etcd answers with the hash that the compaction remembered.",
        seen: Seen::Answer(hash_remembered),
    },
    Known {
        id: "hash-recomputed",
        between: Between::EtcdAndStentor,
        what: "HashKV at the compacted revision names the compacted revision before as its compact_revision in etcd, \
               the current one in Stentor; etcd also answers at revisions compacted lately, Stentor refuses them; and once an etcd was compacted at revision 0, HashKV for revision 0, which \
               means the current one, answers for revision 0.",
        reason: "etcd answers with what compaction remembered, which is not what was asked for.",
        seen: Seen::Answer(hash_remembered),
    },
    Known {
        id: "range-stream-target",
        between: Between::EtcdAndStentor,
        what: "RangeStream with a sort target but no order: etcd sorts each of its chunks by itself and goes on behind the \
               last key of the sorted chunk, so that it can repeat or miss keys and miscounts them; Stentor streams in \
               key order.",
        reason: "Pieces that are sorted each by itself are sorted by nothing.",
        seen: Seen::Answer(|request, etcd, stentor| {
            let (Request::RangeStream(range), Answer::RangeStream(etcd), Answer::RangeStream(stentor)) =
                (request, etcd, stentor)
            else {
                return;
            };
            if range.sort_target != 0 && range.sort_order == 0 {
                etcd.kvs.sort_by(|a, b| a.key.cmp(&b.key));
                // A limit cuts what is sorted, and each chunk of ten keys begins where the sort left the last.
                if stentor.kvs.len() > 10 || range.limit > 0 {
                    etcd.kvs.clone_from(&stentor.kvs);
                    etcd.count = stentor.count;
                }
            }
        }),
    },
    Known {
        id: "hash-header",
        between: Between::EtcdAndStentor,
        what: "The header of a HashKV answer holds the revision that was hashed in Stentor, the current one in etcd.",
        reason: "Tools that know no hash_revision, which is new in etcd 3.6, compare members by the header.",
        seen: Seen::Answer(|_, etcd, stentor| {
            if let (Answer::HashKv(etcd), Answer::HashKv(stentor)) = (etcd, stentor)
                && stentor.header.map(|header| header.revision) == Some(stentor.hash_revision)
            {
                etcd.header = stentor.header;
            }
        }),
    },
    Known {
        id: "hash-negative",
        between: Between::EtcdAndStentor,
        what: "HashKV at a negative revision hashes the current one; etcd names the negative one as hash_revision, \
               Stentor the one that it hashed.",
        reason: "A hash can be compared only with the revision that it is of.",
        seen: Seen::Answer(|request, etcd, stentor| {
            if let (Request::HashKv(..0), Answer::HashKv(etcd), Answer::HashKv(stentor)) = (request, etcd, stentor)
                && etcd.hash_revision < 0
            {
                etcd.hash_revision = stentor.hash_revision;
            }
        }),
    },
    Known {
        id: "put-lost-by-compaction",
        between: Between::EtcdAndStentor,
        what: "When one transaction deletes a key and puts it again, and history is then compacted at just that \
               revision, etcd deletes the put as well and goes down on the next read of the key. The test does not \
               compact at such a revision; Stentor keeps the put.",
        reason: "An acknowledged write is never lost.",
        seen: Seen::Outside,
    },
    Known {
        id: "put-ignoring-deleted",
        between: Between::EtcdAndStentor,
        what: "A transaction that deletes a key from-key and then puts it with ignore_value or ignore_lease passes \
               etcd's checks and stops the server for good. The test does not send it.",
        reason: "A request never stops a server.",
        seen: Seen::Outside,
    },
    Known {
        id: "sort-target",
        between: Between::EtcdBefore(3, 7, 0),
        what: "A Range with count_only and an unknown sort target stops an etcd 3.5.1. The test does not send it there.",
        reason: "Newer lines refuse it with InvalidSortOption.",
        seen: Seen::Outside,
    },
    Known {
        id: "negative-start",
        between: Between::EtcdBefore(3, 6, 0),
        what: "A watch from a negative revision is accepted. The test does not send it there.",
        reason: "etcd issue 20693: it made others skip events. Newer lines refuse it as compacted.",
        seen: Seen::Outside,
    },
    Known {
        id: "watch-id-reuse",
        between: Between::EtcdAndStentor,
        what: "An id that a client chose and cancelled can be given out by etcd's own counter when that reaches it.",
        reason: "Clients cancel a watcher again after its compaction cancel; that would hit the new owner.",
        seen: Seen::Outside,
    },
    Known {
        id: "error-codes",
        between: Between::EtcdAndStentor,
        what: "RequestTooManyRequests and MemberNotEnoughStarted have gRPC code Unknown in etcd, ResourceExhausted and \
               FailedPrecondition in Stentor.",
        reason: "The text is what clients match; the code tells generic tools what kind of failure it is.",
        seen: Seen::Answer(|_, etcd, stentor| {
            let (Answer::Failed { code, text }, Answer::Failed { code: newer, text: same }) = (etcd, stentor) else {
                return;
            };
            let (many, few) = (EtcdError::RequestTooManyRequests, EtcdError::MemberNotEnoughStarted);
            if text == same && [many.text(), few.text()].contains(&text.as_str()) {
                *code = *newer;
            }
        }),
    },
    Known {
        id: "sort-order",
        between: Between::EtcdBefore(3, 7, 0),
        what: "An unknown sort order sorts somehow.",
        reason: "etcd 3.7 refuses it with InvalidSortOption, as every line does an unknown sort target.",
        seen: Seen::Answer(|request, older, newer| {
            let unknown = matches!(request, Request::Range(range) if !(0..=2).contains(&range.sort_order));
            let invalid = EtcdError::InvalidSortOption.text();
            if unknown && matches!(newer, Answer::Failed { text, .. } if text == invalid) {
                older.clone_from(newer);
            }
        }),
    },
    Known {
        id: "txn-lease-first",
        between: Between::EtcdBefore(3, 6, 0),
        what: "A transaction's put that ignores the value or lease of a missing key and names a missing lease fails for \
               the key.",
        reason: "Newer lines look for the lease first, as a put outside a transaction always did.",
        seen: Seen::Answer(|request, older, newer| {
            let texts = (EtcdError::KeyNotFound.text(), EtcdError::LeaseNotFound.text());
            if let (Request::Txn(_), Answer::Failed { text: old, .. }, Answer::Failed { text: new, .. }) =
                (request, &*older, &*newer)
                && (&old[..], &new[..]) == texts
            {
                older.clone_from(newer);
            }
        }),
    },
    Known {
        id: "progress-order",
        between: Between::EtcdBefore(3, 5, 8),
        what: "A requested progress note can overtake events, or come while a watcher catches up.",
        reason: "etcd issue 15220, repaired in 3.5.8 and 3.4.25: a note at revision R promises every event up to R.",
        seen: Seen::Notes,
    },
    Known {
        id: "late-note",
        between: Between::EtcdAndStentor,
        what: "A requested progress note that etcd wrote before a create can come after the created response, below the \
               new watcher's start.",
        reason: "Stentor answers in order: no note below a watcher's start comes after its created response.",
        seen: Seen::LateNotes,
    },
    Known {
        id: "prev-kv-compacted",
        between: Between::EtcdAndStentor,
        what: "etcd leaves prev_kv out of a replayed event when compaction has removed the earlier pair; Stentor \
               keeps it, or tells the watcher that it is compacted.",
        reason: "A watcher that asked for prev_kv can't tell the hole from a creation, and Kubernetes breaks on it.",
        seen: Seen::Part(|replay, got| {
            let before = revision_of(replay.expected) - 1;
            before < replay.compacted && got.prev_kv.is_none() && got.kv == replay.expected.kv
        }),
    },
    Known {
        id: "changed-twice-compacted",
        between: Between::EtcdAndStentor,
        what: "When one transaction changes a key twice and history is compacted at just that revision, a watch from \
               there gets only the second change from etcd, both from Stentor.",
        reason: "A replay from the compacted revision is whole; which of the two etcd sends depends on when it is asked.",
        seen: Seen::Missing(|replay| {
            replay.changed_again && revision_of(replay.expected) == replay.compacted_at_create
        }),
    },
    Known {
        id: "tombstone-compacted",
        between: Between::EtcdBefore(3, 6, 0),
        what: "A watch from the compacted revision misses the deletes of that revision; one that still catches up when \
               history is compacted again can miss those up to the new compacted revision, or get them late.",
        reason: "etcd issues 18089 and 19179, repaired since: a replay from the compacted revision is whole.",
        seen: Seen::Missing(|replay| {
            let compacted = replay.compacted_at_create..=replay.compacted;
            replay.expected.r#type == EventType::Delete as i32 && compacted.contains(&revision_of(replay.expected))
        }),
    },
];
