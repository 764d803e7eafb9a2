//! Joining a cluster that is there: its members are asked who they are, and this one has to be among them.

use std::time::Duration;

use stentor_proto::peerpb::peer_client::PeerClient;
use stentor_proto::peerpb::{MembersRequest, MembersResponse};
use stentor_proto::storagepb::MemberRecord;
use tokio::time::timeout;
use tracing::warn;

use crate::config::{Config, Url};
use crate::peers::Dialer;

/// One of them is waited for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whom a new member has joined.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Of the cluster.
    pub cluster_id: u64,
    /// As it was added.
    pub member_id: u64,
    /// All of them.
    pub members: Vec<MemberRecord>,
}

/// Why a cluster could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// None of the others has answered.
    #[error(
        "none of the members of --initial-cluster has answered, so the cluster can't be joined: start one, or check \
         their peer URLs"
    )]
    NoAnswer,
    /// The cluster has no such member.
    #[error(
        "the cluster has no member with the peer URLs {0}: add it first (`member add`), with the same URLs as \
         --initial-advertise-peer-urls"
    )]
    NotAdded(String),
    /// The cluster is made of others.
    #[error("--initial-cluster does not name the cluster's members, which are {0}")]
    Others(String),
}

/// Asks the cluster of `--initial-cluster` who its members are.
///
/// # Errors
/// [`JoinError`].
pub async fn join(config: &Config, dialer: &Dialer) -> Result<Joined, JoinError> {
    let others = config.initial_cluster.iter().filter(|(name, _)| **name != config.name);
    for url in others.flat_map(|(_, urls)| urls) {
        match timeout(PATIENCE, ask(url, dialer)).await {
            Ok(Ok(answer)) => return check(config, answer),
            Ok(Err(error)) => warn!(%url, error = error.message(), "a member can't be asked who the members are"),
            Err(_) => warn!(%url, "a member does not say who the members are"),
        }
    }
    Err(JoinError::NoAnswer)
}

async fn ask(url: &Url, dialer: &Dialer) -> Result<MembersResponse, tonic::Status> {
    let channel = dialer.channel(url.as_str())?;
    let answer = PeerClient::new(channel).members(MembersRequest {}).await?;
    Ok(answer.into_inner())
}

fn check(config: &Config, answer: MembersResponse) -> Result<Joined, JoinError> {
    let mut own: Vec<_> = config.initial_advertise_peer_urls.iter().map(Url::as_str).collect();
    own.sort_unstable();
    let is_own = |member: &&MemberRecord| {
        let mut urls: Vec<_> = member.peer_urls.iter().map(String::as_str).collect();
        urls.sort_unstable();
        urls == own
    };
    let member = answer.members.iter().find(is_own).ok_or_else(|| JoinError::NotAdded(own.join(",")))?;
    // As etcd: who is named must be who is there.
    let mut named: Vec<_> = config.initial_cluster.values().flatten().map(Url::as_str).collect();
    let mut there: Vec<_> = answer.members.iter().flat_map(|member| &member.peer_urls).map(String::as_str).collect();
    named.sort_unstable();
    there.sort_unstable();
    if named != there {
        return Err(JoinError::Others(there.join(",")));
    }
    Ok(Joined { cluster_id: answer.cluster_id, member_id: member.id, members: answer.members.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Command};

    fn member(id: u64, url: &str) -> MemberRecord {
        MemberRecord { id, peer_urls: vec![url.to_owned()], ..MemberRecord::default() }
    }

    #[test]
    fn only_the_cluster_that_was_meant_is_joined() {
        let flags = ["--name=b", "--initial-cluster=a=http://a:1,b=http://b:1", "--initial-cluster-state=existing"];
        let Ok(Command::Run { config, .. }) = config::load(flags.map(Into::into), []) else { panic!() };
        let answer = |members: &[MemberRecord]| MembersResponse {
            cluster_id: 9,
            members: members.to_vec(),
            ..MembersResponse::default()
        };
        let (a, b, c) = (member(1, "http://a:1"), member(2, "http://b:1"), member(3, "http://c:1"));
        let joined = check(&config, answer(&[a.clone(), b.clone()])).unwrap();
        assert_eq!((joined.cluster_id, joined.member_id, joined.members.len()), (9, 2, 2));
        assert!(matches!(check(&config, answer(std::slice::from_ref(&a))), Err(JoinError::NotAdded(_))));
        assert!(matches!(check(&config, answer(&[a, b.clone(), c])), Err(JoinError::Others(_))));
        assert!(matches!(check(&config, answer(&[b])), Err(JoinError::Others(_))));
    }
}
