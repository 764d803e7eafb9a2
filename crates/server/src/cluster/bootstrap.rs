//! What a store begins with: who its cluster and its member are, and who the members are before the first
//! entry of the log.

use stentor_mvcc::{LogPosition, Store};
#[cfg(all(feature = "binary", feature = "rocksdb"))]
use stentor_proto::storagepb::Restore;
use stentor_proto::storagepb::{Identity, MemberRecord};
use tracing::warn;

#[cfg(all(feature = "binary", feature = "rocksdb"))]
use super::ids::restored_cluster_id;
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

/// Makes a store that comes from a snapshot that of a member of a new cluster, if it was said of which. Else
/// [`begin`] decides.
///
/// # Errors
/// [`RestoredError`].
#[cfg(all(feature = "binary", feature = "rocksdb"))]
pub(crate) fn begin_restored(store: &Store, restore: &Restore) -> Result<(), RestoredError> {
    if restore.members.is_empty() {
        return Ok(());
    }
    let with_id = |member: &MemberRecord| {
        let peer_urls = member.peer_urls.iter().map(|url| match Url::parse_peer(url) {
            Ok(url) => Ok(url.to_string()),
            Err(why) => Err(RestoredError::Url(format!("{url} {why}"))),
        });
        let peer_urls = peer_urls.collect::<Result<Vec<_>, _>>()?;
        let id = member_id(&peer_urls, &restore.token, None);
        Ok(MemberRecord { id, name: member.name.clone(), peer_urls, ..MemberRecord::default() })
    };
    let members = restore.members.iter().map(with_id).collect::<Result<Vec<_>, RestoredError>>()?;
    let own = members.iter().find(|member| member.name == restore.name);
    let own = own.ok_or_else(|| RestoredError::Name(restore.name.clone()))?.id;
    let ids = members.iter().map(|member| member.id);
    let cluster_id = restored_cluster_id(ids, &restore.sha256, restore.bump_revision);
    begin_at_first(store)?;
    store.set_members(&members)?;
    Ok(store.set_identity(&Identity { cluster_id, member_id: own, ..Identity::default() })?)
}

/// Why a snapshot can't become the store of a member of a new cluster.
#[cfg(all(feature = "binary", feature = "rocksdb"))]
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoredError {
    /// A peer URL is none.
    #[error("it was restored for a member whose peer URL {0}: restore it anew")]
    Url(String),
    /// Its own name is not among those of the members.
    #[error("it was restored for {0:?}, which is none of the members: restore it anew")]
    Name(String),
    /// The store can't be written.
    #[error(transparent)]
    Store(#[from] stentor_mvcc::Error),
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
