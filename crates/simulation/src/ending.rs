//! What must be so once all faults are mended and nothing more is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stentor_mvcc::View;
use stentor_server::node::Node;

use crate::world::State;

/// What is not so yet; nothing once the members are one again.
pub(crate) fn apart(state: &State) -> Vec<String> {
    let running: BTreeMap<u64, Arc<Node>> = state
        .hosts
        .iter()
        .filter_map(|host| host.node.upgrade())
        .map(|node| (node.identity().member_id, node))
        .collect();
    let views: Vec<(u64, View)> = running.iter().map(|(id, node)| (*id, node.store.view())).collect();
    let Some((_, newest)) = views.iter().max_by_key(|(_, view)| view.applied().index) else {
        return vec!["no member runs".to_owned()];
    };
    let members: Vec<_> = newest.members().iter().map(|member| member.id).collect();
    let mut apart = Vec::new();
    for id in &members {
        match views.iter().find(|(other, _)| other == id) {
            None => apart.push(format!("member {id:x} does not run")),
            Some((_, view)) if view.applied() != newest.applied() => {
                apart.push(format!("member {id:x} is at {:?} and not at {:?}", view.applied(), newest.applied()));
            }
            Some(_) => {}
        }
    }
    let leaders: BTreeSet<_> = members.iter().filter_map(|id| running.get(id)).map(|node| node.leader()).collect();
    if leaders.len() != 1 || leaders.contains(&None) {
        apart.push(format!("the leader is {leaders:x?}"));
    }
    let leases = newest.leases().len();
    if leases > 0 {
        apart.push(format!("{leases} leases that nobody keeps alive have not ended"));
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
    let nodes: Vec<_> = state.hosts.iter().filter_map(|host| host.node.upgrade()).collect();
    let views: Vec<_> = nodes.iter().map(|node| (node.identity().member_id, node.store.view())).collect();
    let Some((_, newest)) = views.iter().max_by_key(|(_, view)| view.applied().index) else { return Vec::new() };
    let told = |view: &View| -> Result<_, String> {
        let hash = view.hash_kv(0).map_err(|error| error.to_string())?;
        let members: Vec<_> = view.members().iter().cloned().collect();
        let leases: Vec<_> = view.leases().iter().map(|(id, lease)| (id.get(), format!("{lease:?}"))).collect();
        Ok((view.revision(), view.compacted(), hash.hash, hash.compacted, members, leases))
    };
    let right = told(newest);
    let mut wrong = Vec::new();
    for (id, view) in views.iter().filter(|(_, view)| view.applied() == newest.applied()) {
        let told = told(view);
        if told != right || told.is_err() {
            wrong.push(format!("member {id:x} has {told:?} and not {right:?}"));
        }
    }
    if newest.revision().get() != state.log.revision {
        wrong.push(format!("the members end at {}, and {} was published", newest.revision(), state.log.revision));
    }
    wrong
}
