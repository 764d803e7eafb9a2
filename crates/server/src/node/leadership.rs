//! What follows from who leads: leases are ended by the leader alone, clients that ask for a leader are told
//! when there is none, and the office is handed over.

use std::sync::Arc;
use std::time::Duration;

use stentor_proto::EtcdError;
use stentor_raft::{Follower, Role};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Node;
use crate::replication::Event;

/// Election timeouts without a leader after which streams end that ask for one.
const LEADERLESS_AFTER: u32 = 3;

/// Follows who leads until stopped.
pub(super) async fn follow(node: Arc<Node>, stop: CancellationToken) {
    // What this needs of the node outlives no stop.
    let mut standing = node.replication.standing.clone();
    let mut leader = None;
    let mut since = Instant::now();
    loop {
        let now = *standing.borrow_and_update();
        node.follow_metrics(leader, now.leader, now.role);
        if now.leader.is_some() {
            node.leaderless.send_replace(false);
        } else if leader.is_some() {
            since = Instant::now();
        }
        leader = now.leader;
        if now.role != Role::Leader {
            node.lessor.leave_office();
        }
        let takes_office = now.role == Role::Leader && node.lessor.term() != Some(now.term);
        let long_ago = since + node.settings.election_timeout * LEADERLESS_AFTER;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // The driver is gone.
            changed = standing.changed() => if changed.is_err() { return },
            // All that former leaders have done to leases must be in the store first.
            passed = node.barrier(), if takes_office => match passed {
                Ok(()) => node.lessor.take_office(now.term, || node.store.view(), node.settings.election_timeout),
                Err(_) => sleep(node.settings.election_timeout / 10).await,
            },
            () = sleep_until(long_ago), if leader.is_none() && !*node.leaderless.borrow() => {
                node.leaderless.send_replace(true);
            }
        }
    }
}

/// Whether there is a leader, for who asks for one.
#[derive(Clone, Debug)]
pub(crate) struct LeaderWatch {
    standing: watch::Receiver<stentor_raft::Standing>,
    leaderless: watch::Receiver<bool>,
}

impl LeaderWatch {
    /// Whether there is one now.
    pub(crate) fn has_leader(&self) -> bool {
        self.standing.borrow().leader.is_some()
    }

    /// Returns once there was none for long. Cancel safe.
    pub(crate) async fn lost(mut self) {
        if self.leaderless.wait_for(|lost| *lost).await.is_err() {
            // The member is gone, which is told by other ways.
            std::future::pending::<()>().await;
        }
    }
}

impl Node {
    /// For who asks for a leader.
    pub(crate) fn leader_watch(&self) -> LeaderWatch {
        LeaderWatch { standing: self.replication.standing.clone(), leaderless: self.leaderless.subscribe() }
    }

    fn follow_metrics(&self, before: Option<u64>, leader: Option<u64>, role: Role) {
        let metrics = &self.metrics.server;
        metrics.has_leader.set(leader.is_some().into());
        metrics.is_leader.set((role == Role::Leader).into());
        if leader.is_some() && leader != before {
            metrics.leader_changes_seen.inc();
        }
    }

    /// Returns once there is a leader. Cancel safe.
    pub async fn has_leader(&self) {
        let mut standing = self.replication.standing.clone();
        if standing.wait_for(|standing| standing.leader.is_some()).await.is_err() {
            // The driver has ended, which is told by other ways.
            std::future::pending::<()>().await;
        }
    }

    /// The entry that the log goes on after; what is before was forgotten.
    pub fn log_start(&self) -> u64 {
        self.replication.progress.log_start()
    }

    /// The driver's door for what other members say.
    pub(crate) fn events(&self) -> &mpsc::Sender<Event> {
        &self.replication.events
    }

    /// The last entry committed and how far the others are; nobody, unless this is the leader.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) async fn followers(&self) -> Result<(u64, Vec<Follower>), EtcdError> {
        let (answer, answered) = oneshot::channel();
        self.events().send(Event::Followers(answer)).await.map_err(|_| EtcdError::Stopped)?;
        answered.await.map_err(|_| EtcdError::Stopped)
    }

    /// Hands the office over to another voter; returns once that is the leader.
    ///
    /// # Errors
    /// `NotLeader`; `BadLeaderTransferee` for one that does not vote; `Timeout` if it does not take over.
    pub(crate) async fn move_leader(&self, to: u64) -> Result<(), EtcdError> {
        if !self.is_leader() {
            return Err(EtcdError::NotLeader);
        }
        if !self.store.view().members().voters().any(|voter| voter == to) {
            return Err(EtcdError::BadLeaderTransferee);
        }
        if to == self.identity.member_id {
            return Ok(());
        }
        self.events().send(Event::Transfer(to)).await.map_err(|_| EtcdError::Stopped)?;
        let mut standing = self.replication.standing.clone();
        let taken = standing.wait_for(|standing| standing.leader == Some(to));
        match timeout(self.settings.election_timeout, taken).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(EtcdError::Stopped),
            Err(_) => Err(EtcdError::TimeoutDueToLeaderFail),
        }
    }

    /// Before a stop a leader hands over to the voter that has most, so that nobody has to notice its end first.
    pub async fn hand_over(&self, within: Duration) {
        if !self.is_leader() {
            return;
        }
        let Ok((_, followers)) = self.followers().await else { return };
        let view = self.store.view();
        let votes = |id| view.members().voters().any(|voter| voter == id);
        let next = followers.iter().filter(|f| f.recent && votes(f.id)).max_by_key(|f| f.matched);
        let Some(next) = next.map(|next| next.id) else { return };
        let taken = timeout(within, self.move_leader(next)).await.is_ok_and(|taken| taken.is_ok());
        info!(to = format!("{next:x}"), taken, "the office was handed over");
    }
}
