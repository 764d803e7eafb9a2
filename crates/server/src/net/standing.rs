//! What a member's place in its cluster makes of a call: clients may ask for a leader, and a learner serves
//! little.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderMap;
use stentor_proto::EtcdError;

use crate::node::{LeaderWatch, Node};

/// By which a client asks for a member that has a leader.
const HAS_LEADER: &str = "hasleader";

/// What a learner serves, as etcd's. Of ranges only the serializable ones, which their service sees to.
const OF_LEARNER: &[&str] =
    &["/etcdserverpb.KV/Range", "/etcdserverpb.Maintenance/Status", "/etcdserverpb.Maintenance/Snapshot"];

/// What it serves beside, when it is told to.
const ALSO_OF_LEARNER: &[&str] = &["/etcdserverpb.Watch/Watch", "/etcdserverpb.KV/RangeStream"];

/// A member's place in its cluster, as calls feel it.
#[derive(Clone)]
pub(crate) struct Standing {
    node: Arc<Node>,
    leader: LeaderWatch,
    learner_serves: bool,
}

impl Standing {
    /// Of `node`; as a learner it serves watches and serializable reads only if `learner_serves`.
    pub(crate) fn new(node: Arc<Node>, learner_serves: bool) -> Standing {
        Standing { leader: node.leader_watch(), node, learner_serves }
    }

    /// # Errors
    /// `NoLeader`, `NotSupportedForLearner`.
    pub(crate) fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), EtcdError> {
        if asks_for_leader(headers) && !self.leader.has_leader() {
            return Err(EtcdError::NoLeader);
        }
        let is_served = !path.starts_with("/etcdserverpb.")
            || OF_LEARNER.contains(&path)
            || (self.learner_serves && ALSO_OF_LEARNER.contains(&path));
        if !is_served && self.node.is_learner() {
            return Err(EtcdError::NotSupportedForLearner);
        }
        Ok(())
    }

    /// Done once the client of a stream is to go elsewhere for a leader.
    pub(crate) fn lost(&self, headers: &HeaderMap) -> Option<BoxFuture<'static, ()>> {
        asks_for_leader(headers).then(|| self.leader.clone().lost().boxed())
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("leader", &self.leader).finish_non_exhaustive()
    }
}

fn asks_for_leader(headers: &HeaderMap) -> bool {
    headers.get(HAS_LEADER).is_some_and(|value| value.as_bytes() == b"true")
}
