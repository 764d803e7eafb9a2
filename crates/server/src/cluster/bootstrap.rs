//! What a store begins with: who its cluster and its member are, and who the members are before the first
//! entry of the log.

use stentor_mvcc::{LogPosition, Store};
use stentor_proto::storagepb::{Identity, MemberRecord};

use tracing::warn;

use super::ids::{cluster_id, member_id};
use super::join::Joined;
use crate::config::{Config, Url};
use crate::environment::Environment;

/// What a fresh log goes on after: as if a first term had seen one entry, which is how an etcd begins that
/// then elects itself into the second term.
const BEFORE_FIRST: LogPosition = LogPosition { term: 1, index: 1 };

/// Makes sure that the store says whom it belongs to. `has_log` is to become true once there is one.
///
/// # Errors
/// Those of the store.
pub(crate) fn begin(
    store: &Store,
    config: &Config,
    joined: Option<&Joined>,
    environment: &Environment,
) -> Result<Identity, stentor_mvcc::Error> {
    if let Some(identity) = store.identity()? {
        if store.view().members().is_empty() {
            // Written by a version without members: it was a cluster of its own.
            begin_at_first(store)?;
            store.set_members(&[own(config, identity.member_id)])?;
        }
        if config.force_new_cluster {
            force(store, config, identity.member_id)?;
        }
        return Ok(identity);
    }
    if let Some(joined) = joined {
        // Before the first entry of any log: all that was decided so far comes as a snapshot.
        store.set_members(&joined.members)?;
        let identity = Identity { cluster_id: joined.cluster_id, member_id: joined.member_id, ..Identity::default() };
        store.set_identity(&identity)?;
        return Ok(identity);
    }
    begin_at_first(store)?;
    let (identity, members) = match config.initial_cluster.len() {
        0 | 1 => alone(config, environment),
        _ => together(config),
    };
    store.set_members(&members)?;
    store.set_identity(&identity)?;
    Ok(identity)
}

/// The others are members no more, and this one votes.
fn force(store: &Store, config: &Config, id: u64) -> Result<(), stentor_mvcc::Error> {
    // One that has joined and got nothing yet has nothing to begin a cluster with but that.
    begin_at_first(store)?;
    let known = store.view().members().get(id).cloned();
    let own = MemberRecord { is_learner: false, ..known.unwrap_or_else(|| own(config, id)) };
    warn!(member = format!("{id:x}"), "a cluster of this member alone is forced: remove --force-new-cluster now");
    store.set_members(&[own])
}

fn begin_at_first(store: &Store) -> Result<(), stentor_mvcc::Error> {
    if store.view().applied() == LogPosition::default() {
        store.apply(&[], BEFORE_FIRST)?;
    }
    Ok(())
}

/// A cluster of one has ids of its own, so that a client can tell it from one that was there before.
fn alone(config: &Config, environment: &Environment) -> (Identity, Vec<MemberRecord>) {
    let some_id = || (environment.random)().max(1);
    let identity = Identity {
        cluster_id: config.cluster_id.unwrap_or_else(some_id),
        member_id: config.member_id.unwrap_or_else(some_id),
        ..Identity::default()
    };
    let own = own(config, identity.member_id);
    (identity, vec![own])
}

/// Several members begin with ids on which they agree without a word.
fn together(config: &Config) -> (Identity, Vec<MemberRecord>) {
    let member = |(name, urls): (&String, &Vec<Url>)| {
        let peer_urls = texts(urls);
        let id = member_id(&peer_urls, &config.initial_cluster_token, None);
        // Each tells its client URLs once it has started: all must begin with the same records.
        MemberRecord { id, name: name.clone(), peer_urls, ..MemberRecord::default() }
    };
    let members: Vec<_> = config.initial_cluster.iter().map(member).collect();
    let own = members.iter().find(|member| member.name == config.name).map_or(0, |member| member.id);
    let cluster_id = config.cluster_id.unwrap_or_else(|| cluster_id(members.iter().map(|member| member.id)));
    (Identity { cluster_id, member_id: own, ..Identity::default() }, members)
}

fn own(config: &Config, id: u64) -> MemberRecord {
    MemberRecord {
        id,
        name: config.name.clone(),
        peer_urls: texts(&config.initial_advertise_peer_urls),
        client_urls: texts(&config.advertise_client_urls),
        is_learner: false,
    }
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}
