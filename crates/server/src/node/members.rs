//! Changing who the members are.

use std::sync::Arc;
use std::time::Duration;

use stentor_mvcc::Answer;
use stentor_proto::EtcdError;
use stentor_proto::storagepb::member_change::Change;
use stentor_proto::storagepb::{MemberChange, MemberRecord, log_entry::Op};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Node;
use crate::cluster::{self, may_add, may_promote, may_remove};
use crate::config::Config;
use crate::replication::ProposeError;

/// Between two tries to say what this member is called.
const RETRY: Duration = Duration::from_millis(500);

/// Election timeouts for which a removed member waits until the others know.
const PATIENCE: u32 = 10;

/// What a change of the members is checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Refuse what endangers the majority.
    pub(crate) strict: bool,
    pub(crate) max_learners: u32,
}

/// Says once what this member is called and where its clients find it, if the others do not know.
pub(super) async fn publish(node: Arc<Node>, config: Config, stop: CancellationToken) {
    let said = async {
        loop {
            node.has_leader().await;
            let own = node.identity.member_id;
            let record = MemberRecord {
                id: own,
                name: config.name.clone(),
                client_urls: config.advertise_client_urls.iter().map(ToString::to_string).collect(),
                ..MemberRecord::default()
            };
            let known = |known: &MemberRecord| known.name == record.name && known.client_urls == record.client_urls;
            let publishes = match node.barrier().await {
                Ok(()) => node.store.view().members().get(own).map(|member| !known(member)),
                Err(_) => None,
            };
            match publishes {
                Some(false) => return,
                Some(true) => match node.change_members(Change::Publish(record), 0).await {
                    Ok(_) => return,
                    Err(error) => warn!(%error, "the others can't be told this member's name and client URLs yet"),
                },
                // It is not there yet, or not any more.
                None => {}
            }
            sleep(RETRY).await;
        }
    };
    stop.run_until_cancelled(said).await;
}

impl Node {
    /// Adds a member, and returns it with all there are then.
    ///
    /// # Errors
    /// Those of [`stentor_mvcc::Members::check`] and [`may_add`]; [`ProposeError`].
    pub(crate) async fn add_member(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
        token: &str,
        rules: Rules,
    ) -> Result<(MemberRecord, Vec<MemberRecord>), ProposeError> {
        let _one_at_a_time = self.reconfiguring.lock().await;
        let now = (self.environment.wall_unix_ms)() / 1000;
        let id = cluster::member_id(&peer_urls, token, Some(now));
        let member = MemberRecord { id, peer_urls, is_learner, ..MemberRecord::default() };
        let change = MemberChange { change: Some(Change::Add(member.clone())), max_learners: rules.max_learners };
        let view = self.read(false).await?;
        view.members().check(&change)?;
        if rules.strict && !is_learner {
            may_add(view.members(), |id| self.replication.peers.is_active(id))?;
        }
        let members = self.change_members(Change::Add(member.clone()), rules.max_learners).await?;
        info!(member = format!("{id:x}"), is_learner, "a member was added");
        Ok((member, members))
    }

    /// Removes a member, and returns those that are left.
    ///
    /// # Errors
    /// As [`Node::add_member`], by [`may_remove`].
    pub(crate) async fn remove_member(&self, id: u64, rules: Rules) -> Result<Vec<MemberRecord>, ProposeError> {
        let _one_at_a_time = self.reconfiguring.lock().await;
        let view = self.read(false).await?;
        view.members().check(&MemberChange { change: Some(Change::Remove(id)), max_learners: 0 })?;
        if rules.strict {
            may_remove(view.members(), id, |id| self.replication.peers.is_active(id))?;
        }
        let members = self.change_members(Change::Remove(id), 0).await?;
        info!(member = format!("{id:x}"), "a member was removed");
        Ok(members)
    }

    /// Makes a learner a voter, and returns all members.
    ///
    /// # Errors
    /// As [`Node::add_member`], by [`may_promote`]; `LearnerNotReady` also if the leader does not say how far it
    /// is.
    pub(crate) async fn promote_member(&self, id: u64, rules: Rules) -> Result<Vec<MemberRecord>, ProposeError> {
        let _one_at_a_time = self.reconfiguring.lock().await;
        let view = self.read(false).await?;
        let (committed, followers) = match self.leader() {
            Some(leader) if leader == self.identity.member_id => self.followers().await?,
            Some(leader) => self.replication.peers.progress(leader).await.map_err(|_| EtcdError::LearnerNotReady)?,
            None => return Err(EtcdError::NoLeader.into()),
        };
        may_promote(view.members(), id, committed, &followers, rules.strict)?;
        let members = self.change_members(Change::Promote(id), 0).await?;
        info!(member = format!("{id:x}"), "a learner votes now");
        Ok(members)
    }

    /// Gives a member other peer URLs, and returns all members.
    ///
    /// # Errors
    /// Those of [`stentor_mvcc::Members::check`]; [`ProposeError`].
    pub(crate) async fn update_member(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<Vec<MemberRecord>, ProposeError> {
        let _one_at_a_time = self.reconfiguring.lock().await;
        let member = MemberRecord { id, peer_urls, ..MemberRecord::default() };
        self.change_members(Change::UpdatePeerUrls(member), 0).await
    }

    async fn change_members(&self, change: Change, max_learners: u32) -> Result<Vec<MemberRecord>, ProposeError> {
        match self.propose(Op::Member(MemberChange { change: Some(change), max_learners })).await? {
            Answer::Members(members) => Ok(members),
            _ => Ok(Vec::new()),
        }
    }

    /// Whether this member only learns.
    pub(crate) fn is_learner(&self) -> bool {
        self.store.view().members().get(self.identity.member_id).is_some_and(|member| member.is_learner)
    }

    /// Returns once this member was removed from its cluster and enough of the others know: until then they may
    /// need it to learn that themselves. Cancel safe.
    pub async fn removed(&self) {
        let mut removed = self.replication.removed.clone();
        if removed.wait_for(|removed| *removed).await.is_err() {
            // The applier has ended, which is told by other ways.
            std::future::pending::<()>().await;
        }
        warn!("this member was removed from its cluster: to come back it must be added anew, with an empty directory");
        let known = async {
            while !self.is_removal_known().await {
                sleep(self.settings.election_timeout / 10).await;
            }
        };
        // They may be gone altogether.
        let _ = timeout(self.settings.election_timeout * PATIENCE, known).await;
    }

    async fn is_removal_known(&self) -> bool {
        let own = self.identity.member_id;
        let others: Vec<u64> = self.store.view().members().voters().filter(|id| *id != own).collect();
        let asked =
            others.iter().map(|id| timeout(self.settings.election_timeout, self.replication.peers.members(*id)));
        let answers = futures::future::join_all(asked).await;
        let known = answers.into_iter().flatten().flatten().filter(|answer| answer.removed.contains(&own)).count();
        known > others.len() / 2
    }
}
