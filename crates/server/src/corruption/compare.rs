//! What follows from what the members have.
//!
//! A position in the log determines what is applied up to there. So a member that has applied at least as much
//! as another one must have at least its revisions, and at least its compaction; and where both are compacted
//! alike, equal hashes. Whatever can't be concluded from that is left out.

use std::collections::BTreeMap;
use std::fmt;

use tonic::Status;

use super::Held;

/// What a member has, as far as it can be told from what others have. Those of one kind are taken to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// This hash.
    Hash(u32),
    /// Less than follows from what it has applied.
    Less,
    /// More than that.
    More,
}

/// Why a member is not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// It has not answered, for this reason.
    NoAnswer(String),
    /// It has not applied as much.
    Behind,
    /// It has compacted more.
    Compacted,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftOut::NoAnswer(why) => write!(f, "no answer: {why}"),
            LeftOut::Behind => f.write_str("it has not applied as much"),
            LeftOut::Compacted => f.write_str("it has compacted more"),
        }
    }
}

/// How the members compare.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Those that could be compared, by what they have.
    pub(super) kinds: BTreeMap<Kind, Vec<u64>>,
    /// The others.
    pub(super) left_out: Vec<(u64, LeftOut)>,
}

/// Who is corrupt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody, as far as could be compared.
    Nobody,
    /// These: they differ from a majority of all members.
    These(Vec<u64>),
    /// Somebody: no majority agrees.
    Somebody,
}

/// What a member has, beside what `own` is.
///
/// # Errors
/// It can't be compared.
pub(super) fn kind_of(own: &Held, other: &Result<Held, Status>) -> Result<Kind, LeftOut> {
    let other = other.as_ref().map_err(|status| LeftOut::NoAnswer(status.message().to_owned()))?;
    if other.applied < own.applied {
        return Err(LeftOut::Behind);
    }
    if other.revision < own.revision || other.compacted < own.compacted {
        return Ok(Kind::Less);
    }
    match other.hash.filter(|_| other.compacted == own.compacted) {
        Some(hash) => Ok(Kind::Hash(hash)),
        None => Err(LeftOut::Compacted),
    }
}

/// Compares what this member has with what the others had; `later` is what it has since they have answered.
pub(super) fn compare(
    (id, own): (u64, &Held),
    later: &Held,
    others: impl IntoIterator<Item = (u64, Result<Held, Status>)>,
) -> Comparison {
    let mut kinds = BTreeMap::<Kind, Vec<u64>>::new();
    let mut left_out = Vec::new();
    kinds.extend(own.hash.map(|hash| (Kind::Hash(hash), vec![id])));
    for (id, other) in others {
        let has_more = |other: &Held| {
            other.applied <= later.applied && (other.revision > later.revision || other.compacted > later.compacted)
        };
        let kind = if other.as_ref().is_ok_and(has_more) { Ok(Kind::More) } else { kind_of(own, &other) };
        match kind {
            Ok(kind) => kinds.entry(kind).or_default().push(id),
            Err(why) => left_out.push((id, why)),
        }
    }
    Comparison { kinds, left_out }
}

impl Comparison {
    /// Who is corrupt.
    pub(super) fn verdict(&self) -> Verdict {
        if self.kinds.len() < 2 {
            return Verdict::Nobody;
        }
        let members = self.kinds.values().map(Vec::len).sum::<usize>() + self.left_out.len();
        let majority = members / 2 + 1;
        match self.kinds.iter().find(|(_, members)| members.len() >= majority) {
            Some((right, _)) => {
                let wrong = self.kinds.iter().filter(|(kind, _)| *kind != right);
                Verdict::These(wrong.flat_map(|(_, members)| members.iter().copied()).collect())
            }
            None => Verdict::Somebody,
        }
    }
}

#[cfg(test)]
mod tests {
    use stentor_proto::Revision;

    use super::*;

    const OWN: Held =
        Held { at: Revision::FIRST, hash: Some(7), compacted: None, revision: Revision::FIRST, applied: 10 };

    fn revision(n: i64) -> Revision {
        Revision::new(n).unwrap()
    }

    fn verdict(others: impl IntoIterator<Item = Result<Held, Status>>) -> (Verdict, usize) {
        let comparison = compare((1, &OWN), &OWN, (2..).zip(others));
        (comparison.verdict(), comparison.left_out.len())
    }

    fn other(hash: u32) -> Result<Held, Status> {
        Ok(Held { hash: Some(hash), ..OWN })
    }

    fn gone() -> Result<Held, Status> {
        Err(Status::unavailable("gone"))
    }

    #[test]
    fn those_outside_a_majority_are_named() {
        assert_eq!(verdict([]), (Verdict::Nobody, 0));
        assert_eq!(verdict([other(7), other(7)]), (Verdict::Nobody, 0));
        assert_eq!(verdict([other(7), other(8)]), (Verdict::These(vec![3]), 0));
        assert_eq!(verdict([other(8), other(8)]), (Verdict::These(vec![1]), 0));
        assert_eq!(verdict([other(7), other(7), other(8), other(9)]), (Verdict::These(vec![4, 5]), 0));
    }

    #[test]
    fn a_majority_is_one_of_all_members() {
        assert_eq!(verdict([other(8)]), (Verdict::Somebody, 0));
        assert_eq!(verdict([other(8), other(9)]), (Verdict::Somebody, 0));
        assert_eq!(verdict([other(8), gone()]), (Verdict::Somebody, 1));
        assert_eq!(verdict([other(7), gone()]), (Verdict::Nobody, 1));
        assert_eq!(verdict([other(7), other(8), gone(), gone()]), (Verdict::Somebody, 2));
        assert_eq!(verdict([other(7), other(7), other(8), gone()]), (Verdict::These(vec![4]), 1));
    }

    #[test]
    fn what_need_not_be_equal_is_left_out() {
        let behind = Held { applied: 9, hash: None, revision: Revision::ZERO, ..OWN };
        assert_eq!(kind_of(&OWN, &Ok(behind)), Err(LeftOut::Behind));
        let ahead = Held { applied: 12, revision: revision(3), ..OWN };
        assert_eq!(kind_of(&OWN, &Ok(ahead)), Ok(Kind::Hash(7)), "it is hashed where the other is");
        let compacted = Held { applied: 12, compacted: Some(revision(1)), hash: Some(8), ..OWN };
        assert_eq!(kind_of(&OWN, &Ok(compacted)), Err(LeftOut::Compacted));
        assert_eq!(kind_of(&OWN, &Ok(Held { hash: None, ..compacted })), Err(LeftOut::Compacted));
        assert!(matches!(kind_of(&OWN, &gone()), Err(LeftOut::NoAnswer(_))));
    }

    #[test]
    fn what_was_applied_must_be_there_and_nothing_else() {
        let own = Held { revision: revision(5), at: revision(5), compacted: Some(revision(3)), ..OWN };
        for less in [Held { revision: revision(4), hash: None, ..own }, Held { compacted: Some(revision(2)), ..own }] {
            assert_eq!(kind_of(&own, &Ok(less)), Ok(Kind::Less));
        }
        let later = Held { applied: 20, revision: revision(9), ..own };
        for more in [
            Held { applied: 20, revision: revision(10), ..own },
            Held { applied: 15, compacted: Some(revision(4)), ..own },
        ] {
            let compared = |later| compare((1, &own), later, [(2, Ok(more)), (3, Ok(own))]).verdict();
            assert_eq!(compared(&later), Verdict::These(vec![2]), "{more:?}");
            // It has applied what this one has not, so it may.
            assert_eq!(compared(&Held { applied: 14, ..later }), Verdict::Nobody, "{more:?}");
        }
        // One that has lost something finds that all others have more.
        let more = Held { revision: revision(6), ..own };
        assert_eq!(compare((1, &own), &own, [(2, Ok(more)), (3, Ok(more))]).verdict(), Verdict::These(vec![1]));
    }
}
