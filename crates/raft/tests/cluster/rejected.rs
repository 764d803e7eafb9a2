//! What the checker must not let pass.

use bytes::Bytes;
use stentor_raft::log::{HardState, Position};
use stentor_raft::{Committed, Membership, Payload};

use crate::check::{Broken, Checker, chained, digest_of};

const START: Position = Position { term: 1, index: 1 };

fn entry(term: u64, index: u64, proposal: u64, data: &'static str) -> Committed {
    let context = Bytes::copy_from_slice(&proposal.to_be_bytes());
    Committed { position: Position { term, index }, context, payload: Payload::Entry(data.into()) }
}

/// A member that applies entries as they are told.
struct Applier(u64, u64, u64);

impl Applier {
    fn new(id: u64) -> Applier {
        Applier(id, START.index, 0)
    }

    fn apply(&mut self, check: &mut Checker, entry: &Committed) -> Result<(), Broken> {
        let chain = chained(self.2, entry.position, digest_of(entry));
        check.applied(self.0, entry.position.term, self.1, entry, chain)?;
        (self.1, self.2) = (entry.position.index, chain);
        Ok(())
    }
}

/// Two members that have applied the same two entries.
fn good() -> (Checker, Applier, Applier) {
    let (mut check, mut one, mut other) = (Checker::new(START), Applier::new(1), Applier::new(2));
    for applier in [&mut one, &mut other] {
        applier.apply(&mut check, &entry(2, 2, 7, "a")).unwrap();
        applier.apply(&mut check, &entry(2, 3, 8, "b")).unwrap();
    }
    check.acknowledged(8, 3);
    (check, one, other)
}

fn says(result: Result<(), Broken>, what: &str) {
    let broken = result.expect_err("it was let pass");
    assert!(broken.contains(what), "{broken}");
}

#[test]
fn a_good_history_passes() {
    let (mut check, one, other) = good();
    check.leads(2, 1).unwrap();
    check.leads(2, 1).unwrap();
    check.leads(3, 2).unwrap();
    check.is_complete(3, 2, 1, |_| Some(2)).unwrap();
    check.answered(1, check.floor(), 3).unwrap();
    check.ends(1, Position { term: 2, index: 3 }, one.2).unwrap();
    check.ends(2, Position { term: 2, index: 3 }, other.2).unwrap();
}

#[test]
fn two_leaders_in_a_term() {
    let mut check = Checker::new(START);
    check.leads(2, 1).unwrap();
    says(check.leads(2, 3), "lead in term 2");
}

#[test]
fn a_leader_without_a_committed_entry() {
    let (check, ..) = good();
    says(check.is_complete(3, 2, 1, |index| (index < 3).then_some(2)), "without the committed entry 3");
    says(check.is_complete(3, 2, 1, |_| Some(1)), "without the committed entry");
}

#[test]
fn a_lost_write() {
    let (mut check, mut one, _) = good();
    one.apply(&mut check, &entry(2, 4, 9, "c")).unwrap();
    check.acknowledged(9, 4);
    says(check.ends(2, Position { term: 2, index: 3 }, one.2), "without proposal 9");
    // Or another entry takes its place.
    let (mut check, _, mut other) = good();
    check.acknowledged(9, 4);
    other.apply(&mut check, &entry(3, 4, 10, "d")).unwrap();
    says(check.ends(2, Position { term: 3, index: 4 }, other.2), "without proposal 9");
    says(check.truncated(1, 2, 3), "has cut its log");
}

#[test]
fn a_stale_read() {
    let (mut check, mut one, _) = good();
    let before = check.floor();
    one.apply(&mut check, &entry(2, 4, 9, "c")).unwrap();
    check.answered(2, before, 3).unwrap();
    says(check.answered(2, check.floor(), 3), "answers a read as of 3");
}

#[test]
fn diverging_entries() {
    let (mut check, mut one, mut other) = good();
    one.apply(&mut check, &entry(2, 4, 9, "c")).unwrap();
    says(other.apply(&mut check, &entry(2, 4, 9, "d")), "applies something else");
    let at = Position { term: 2, index: 4 };
    check.logged(at, 5, Some(2)).unwrap();
    check.logged(at, 5, None).unwrap();
    says(check.logged(at, 6, Some(2)), "two logs differ");
    says(check.logged(at, 5, Some(1)), "two logs differ");
    says(check.installed(3, at, 1), "nobody has had");
}

#[test]
fn a_repeated_entry() {
    let (mut check, mut one, _) = good();
    says(one.apply(&mut check, &entry(2, 4, 8, "b")), "is at 3 and at 4");
    says(one.apply(&mut check, &entry(2, 3, 8, "b")), "applies 3 after 3");
    says(one.apply(&mut check, &entry(2, 5, 9, "c")), "applies 5 after 3");
}

#[test]
fn a_refused_proposal_that_comes_after_all() {
    let (mut check, mut one, _) = good();
    says(check.refused(8), "though it is at 3");
    check.refused(9).unwrap();
    says(one.apply(&mut check, &entry(2, 4, 9, "c")), "was refused");
}

#[test]
fn different_memberships() {
    let (mut check, ..) = good();
    check.takes_part(1, 3, &Membership::of_voters([1, 2])).unwrap();
    says(check.takes_part(2, 3, &Membership::of_voters([1])), "and others");
}

#[test]
fn a_forgotten_term_or_vote() {
    let (check, ..) = good();
    let kept = HardState { term: 4, vote: 2, commit: 3 };
    check.restarted(1, kept, HardState { term: 5, vote: 0, commit: 3 }).unwrap();
    check.votes(1, 4, 2, kept).unwrap();
    check.votes(1, 3, 1, kept).unwrap();
    says(check.votes(1, 4, 1, kept), "votes for 1 in term 4");
    says(check.votes(1, 5, 2, kept), "votes for 2 in term 5");
    says(check.restarted(1, kept, HardState { term: 3, vote: 2, commit: 3 }), "has forgotten");
    says(check.restarted(1, kept, HardState { term: 4, vote: 0, commit: 3 }), "has forgotten");
}
