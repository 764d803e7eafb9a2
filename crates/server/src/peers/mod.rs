//! The other members: a link to each, by which messages go out, and the service by which they come in.
//!
//! - `dial.rs`: how another member is connected to.
//! - `link.rs`: the task that carries messages to one member.
//! - `outgoing.rs`, `incoming.rs`: a whole store, for a member that the log alone can't bring up.
//! - `service.rs`: what other members ask of this one.
//! - `calls.rs`: what this one asks of them.

mod calls;
mod dial;
mod incoming;
mod link;
mod outgoing;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stentor_mvcc::{Members, Store};
use stentor_proto::peerpb::Sender;
use stentor_proto::storagepb::Identity;
use stentor_raft::Message;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

pub use self::dial::{DialFuture, Dialer, PeerIo, Target};
pub(crate) use self::service::{PeerService, message_limit};
use crate::environment::Environment;
use crate::replication::Event;
use link::Link;

/// Two links that break are this far apart at least.
const MIN_PAUSE: Duration = Duration::from_millis(20);

/// What the links are made of.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) store: Arc<Store>,
    /// The driver's.
    pub(crate) events: mpsc::Sender<Event>,
    /// Told when another member says that this one was removed.
    pub(crate) removed: watch::Sender<bool>,
    pub(crate) heartbeat: Duration,
    pub(crate) environment: Environment,
}

/// What all links share.
struct Shared {
    parts: Parts,
}

impl Shared {
    /// Who speaks, to `to`.
    fn sender(&self, to: u64) -> Sender {
        let identity = &self.parts.identity;
        Sender { cluster_id: identity.cluster_id, member_id: identity.member_id, to }
    }

    fn pause(&self) -> Duration {
        self.parts.heartbeat.max(MIN_PAUSE)
    }
}

/// The links to the other members.
pub(crate) struct Peers {
    shared: Arc<Shared>,
    links: Mutex<BTreeMap<u64, Link>>,
    /// Stores on their way, by receiver.
    snapshots: Mutex<BTreeMap<u64, AbortOnDropHandle<()>>>,
}

impl Peers {
    /// Without any link yet.
    pub(crate) fn new(parts: Parts) -> Peers {
        Peers { shared: Arc::new(Shared { parts }), links: Mutex::default(), snapshots: Mutex::default() }
    }

    /// Keeps a link to each of these members but this one, and to nobody else.
    pub(crate) fn follow(&self, members: &Members) {
        let own = self.shared.parts.identity.member_id;
        let mut links = self.links.lock();
        links.retain(|id, link| members.get(*id).is_some_and(|member| member.peer_urls == link.urls()));
        for member in members.iter().filter(|member| member.id != own) {
            links
                .entry(member.id)
                .or_insert_with(|| Link::open(self.shared.clone(), member.id, member.peer_urls.clone()));
        }
        self.snapshots.lock().retain(|id, _| members.get(*id).is_some());
    }

    /// Ends all links.
    pub(crate) fn close(&self) {
        self.links.lock().clear();
        self.snapshots.lock().clear();
    }

    /// Carries messages, each as far as there is room and a link: what is lost is said again.
    pub(crate) fn send(&self, messages: Vec<Message>) {
        let links = self.links.lock();
        for message in messages {
            let to = message.to();
            if message.is_snapshot() {
                self.send_snapshot(to, links.get(&to).map(Link::urls), message);
                continue;
            }
            let Some(link) = links.get(&to) else {
                debug!(to = format!("{to:x}"), "there is no link to a member");
                continue;
            };
            match message.to_wire() {
                Ok(wire) => link.send(wire),
                Err(error) => warn!(%error, "a message can't be sent"),
            }
        }
    }

    fn send_snapshot(&self, to: u64, urls: Option<&[String]>, message: Message) {
        let (shared, urls) = (self.shared.clone(), urls.map(<[String]>::to_vec).unwrap_or_default());
        let sending = tokio::spawn(outgoing::send(shared, to, urls, message));
        self.snapshots.lock().insert(to, AbortOnDropHandle::new(sending));
    }

    /// Whether a member takes messages now.
    pub(crate) fn is_active(&self, id: u64) -> bool {
        id == self.shared.parts.identity.member_id || self.links.lock().get(&id).is_some_and(Link::is_active)
    }
}
