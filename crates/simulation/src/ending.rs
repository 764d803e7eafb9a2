//! What must be so once all faults are mended and nothing more is written.

use std::collections::BTreeSet;
use std::fmt::Debug;

use stentor_mvcc::{LogPosition, View};

use crate::world::State;

/// A member that runs.
struct Running {
    id: u64,
    leader: Option<u64>,
    applied: LogPosition,
    /// Of its cluster.
    members: Vec<u64>,
    leases: usize,
}

/// What a member holds.
#[derive(PartialEq, Eq)]
struct Holding<T> {
    id: u64,
    applied: LogPosition,
    revision: i64,
    /// Hash, compactions, members, leases; an error if that can't be read.
    content: Result<T, String>,
}

/// What is not so yet; nothing once the members are one again.
pub(crate) fn apart(state: &State) -> Vec<String> {
    let nodes = state.hosts.iter().filter_map(|host| host.node.upgrade());
    let running = nodes.map(|node| {
        let view = node.store.view();
        Running {
            id: node.identity().member_id,
            leader: node.leader(),
            applied: view.applied(),
            members: view.members().iter().map(|member| member.id).collect(),
            leases: view.leases().len(),
        }
    });
    parted(&running.collect::<Vec<_>>())
}

fn parted(running: &[Running]) -> Vec<String> {
    let Some(newest) = running.iter().max_by_key(|member| member.applied.index) else {
        return vec!["no member runs".to_owned()];
    };
    let mut apart = Vec::new();
    let mut leaders = BTreeSet::new();
    for id in &newest.members {
        let Some(member) = running.iter().find(|member| member.id == *id) else {
            apart.push(format!("member {id:x} does not run"));
            continue;
        };
        leaders.insert(member.leader);
        if member.applied != newest.applied {
            apart.push(format!("member {id:x} is at {:?} and not at {:?}", member.applied, newest.applied));
        }
    }
    if leaders.len() != 1 || leaders.contains(&None) {
        apart.push(format!("the leader is {leaders:x?}"));
    }
    if newest.leases > 0 {
        apart.push(format!("{} leases that nobody keeps alive have not ended", newest.leases));
    }
    apart
}

/// Terms up to now.
pub(crate) fn terms(state: &State) -> u64 {
    state.hosts.iter().filter_map(|host| host.node.upgrade()).map(|node| node.term()).max().unwrap_or_default()
}

/// Alarms, which nobody has a reason to raise.
pub(crate) fn alarms(state: &State) -> Vec<String> {
    let nodes = state.hosts.iter().filter_map(|host| host.node.upgrade());
    let raised = nodes.flat_map(|node| node.store.view().all_alarms().collect::<Vec<_>>());
    raised.map(|alarm| format!("the alarm {alarm:?} is raised")).collect()
}

/// How members differ that have applied the same entries.
pub(crate) fn differences(state: &State) -> Vec<String> {
    let content = |view: &View| {
        let hash = view.hash_kv(0).map_err(|error| error.to_string())?;
        let members: Vec<_> = view.members().iter().cloned().collect();
        let leases: Vec<_> = view.leases().iter().map(|(id, lease)| (id.get(), format!("{lease:?}"))).collect();
        Ok((view.compacted(), hash.hash, hash.compacted, members, leases))
    };
    let nodes = state.hosts.iter().filter_map(|host| host.node.upgrade());
    let holding = nodes.map(|node| {
        let view = node.store.view();
        let (id, applied, revision) = (node.identity().member_id, view.applied(), view.revision().get());
        Holding { id, applied, revision, content: content(&view) }
    });
    differing(&holding.collect::<Vec<_>>(), state.log.revision)
}

fn differing<T: Debug + PartialEq>(holding: &[Holding<T>], published: i64) -> Vec<String> {
    let Some(newest) = holding.iter().max_by_key(|member| member.applied.index) else { return Vec::new() };
    let mut wrong = Vec::new();
    for member in holding.iter().filter(|member| member.applied == newest.applied) {
        if member.content.is_err() || (member.revision, &member.content) != (newest.revision, &newest.content) {
            wrong.push(format!(
                "member {:x} has {:?} at {} and not {:?} at {}",
                member.id, member.content, member.revision, newest.content, newest.revision
            ));
        }
    }
    if newest.revision != published {
        wrong.push(format!("the members end at {}, and {published} was published", newest.revision));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> LogPosition {
        LogPosition { term: 2, index }
    }

    fn running() -> [Running; 3] {
        [1, 2, 3].map(|id| Running { id, leader: Some(2), applied: at(9), members: vec![1, 2, 3], leases: 0 })
    }

    #[test]
    fn members_that_have_not_come_together_are_found() {
        assert_eq!(parted(&running()), [""; 0]);
        assert!(!parted(&[]).is_empty(), "nobody runs");
        assert!(!parted(&running()[..2]).is_empty(), "one does not run");
        let changed = |change: fn(&mut Running)| {
            let mut running = running();
            change(&mut running[0]);
            parted(&running)
        };
        assert!(!changed(|member| member.applied = at(8)).is_empty(), "behind");
        assert!(!changed(|member| member.applied.term = 1).is_empty(), "at another entry");
        assert!(!changed(|member| member.leader = None).is_empty(), "without a leader");
        assert!(!changed(|member| member.leader = Some(3)).is_empty(), "with another leader");
        let mut leased = running();
        leased.iter_mut().for_each(|member| member.leases = 1);
        assert!(!parted(&leased).is_empty(), "a lease has not ended");
        let mut removed = running();
        removed.iter_mut().for_each(|member| member.members = vec![1, 2]);
        removed[2].leader = None;
        removed[2].applied = at(5);
        assert_eq!(parted(&removed), [""; 0], "whoever was removed need not follow");
    }

    #[test]
    fn members_that_hold_something_else_are_found() {
        let holding = || [1, 2, 3].map(|id| Holding { id, applied: at(9), revision: 5, content: Ok("hash") });
        assert_eq!(differing(&holding(), 5), [""; 0]);
        let changed = |change: fn(&mut Holding<&'static str>)| {
            let mut holding = holding();
            change(&mut holding[1]);
            differing(&holding, 5)
        };
        assert!(!changed(|member| member.content = Ok("another")).is_empty());
        assert!(!changed(|member| member.content = Err("unreadable".to_owned())).is_empty());
        assert!(!changed(|member| member.revision = 4).is_empty());
        assert_eq!(changed(|member| (member.applied, member.content) = (at(8), Ok("earlier"))), [""; 0], "behind");
        assert!(!differing(&holding(), 6).is_empty(), "more was published");
        let mut unreadable = holding();
        unreadable.iter_mut().for_each(|member| member.content = Err("unreadable".to_owned()));
        assert!(!differing(&unreadable, 5).is_empty(), "all alike");
    }
}
