//! Calls about one member, and about the state of the whole cluster.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use stentor_proto::etcdserverpb::alarm_request::AlarmAction;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, DefragmentRequest, HashKvRequest, MoveLeaderRequest, SnapshotRequest,
    SnapshotResponse, StatusRequest, StatusResponse,
};
use tonic::Streaming;

use crate::Revision;
use crate::call::{Core, Effect, Patience, stub};
use crate::checksum::Checksum;
use crate::client::Client;
use crate::cluster::MemberId;
use crate::endpoint::{Class, Endpoint};
use crate::error::{Error, ErrorKind, Result};
use crate::fault::Fault;
use crate::key_value::revision;

/// One member of a cluster, for calls that are about it; see [`Client::at`]. Clones share its connections.
///
/// What it cannot do is asked of nobody else: a call is tried again on this member alone, within the call
/// timeout.
#[derive(Clone)]
pub struct Member {
    core: Arc<Core>,
    endpoint: Endpoint,
}

/// How a member is; see [`Member::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// The cluster it belongs to.
    pub cluster: u64,
    /// Its own number.
    pub member: MemberId,
    /// The server's version: of etcd, or the one of etcd that the server speaks like.
    pub version: String,
    /// The version of its storage, if it tells.
    pub storage_version: Option<String>,
    /// What its store is at.
    pub revision: Revision,
    /// The bytes its store takes.
    pub db_size: u64,
    /// Those of them that are in use: [`defragment`](Member::defragment) gives the others back.
    pub db_size_in_use: u64,
    /// The bytes its store may take, if it tells.
    pub db_size_quota: Option<u64>,
    /// The leader, if there is one.
    pub leader: Option<MemberId>,
    /// The term of the replicated log.
    pub raft_term: u64,
    /// Its last committed entry.
    pub raft_index: u64,
    /// Its last applied entry.
    pub raft_applied_index: u64,
    /// It is a learner, which has no vote and serves little.
    pub is_learner: bool,
    /// What is wrong: alarms, no leader.
    pub errors: Vec<String>,
    /// The version to which the cluster is being downgraded.
    pub downgrading_to: Option<String>,
}

/// A hash of the keys at a revision; see [`Member::hash_kv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HashKv {
    /// Of all keys and their history since the compaction.
    pub hash: u32,
    /// The revision it is of.
    pub revision: Revision,
    /// What the history is compacted to; hashes of different compactions cannot be compared.
    pub compacted: Option<Revision>,
}

/// Something that an operator has to see to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Alarm {
    /// Who raised it.
    pub member: MemberId,
    /// What it is.
    pub kind: AlarmKind,
}

/// What an [`Alarm`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlarmKind {
    /// The store is out of space.
    NoSpace,
    /// The data of the members differs.
    Corrupt,
    /// Something that this version of the library does not know.
    Unknown(i32),
}

/// The bytes of a store; see [`Member::snapshot`].
#[must_use = "streams do nothing unless polled"]
pub struct StoreSnapshot {
    chunks: Streaming<SnapshotResponse>,
    endpoint: Endpoint,
    remaining: Option<u64>,
    sum: Checksum,
    ended: bool,
}

impl Client {
    /// One member, by its address, which need not be one of this client's endpoints. Connects when
    /// something is asked of it, on connections of its own.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// let status = client.at("10.0.0.1:2379")?.status().await?;
    /// println!("{} at revision {}, leader {:?}", status.version, status.revision, status.leader);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidEndpoint`](crate::ErrorKind::InvalidEndpoint) for an address that cannot be read.
    pub fn at(&self, endpoint: &str) -> Result<Member> {
        let endpoint = Endpoint::parse(endpoint)?;
        Ok(Member { core: Arc::new(self.core().narrowed(&endpoint)), endpoint })
    }

    /// The alarms of all members.
    ///
    /// # Errors
    /// Those of a read.
    ///
    /// # Cancel safety
    /// Nothing is left of it if the future is dropped.
    pub async fn alarms(&self) -> Result<Vec<Alarm>> {
        self.alarm(AlarmRequest { action: AlarmAction::Get as i32, ..AlarmRequest::default() }).await
    }

    /// Disarms an alarm: writes that it forbade are taken again. If its cause is still there, it is raised
    /// again. Gives the alarms that were disarmed.
    ///
    /// # Errors
    /// Those of a read: it is sent again if no answer came.
    ///
    /// # Cancel safety
    /// If the future is dropped, the alarm may be disarmed or not.
    pub async fn disarm(&self, alarm: Alarm) -> Result<Vec<Alarm>> {
        let (action, member_id) = (AlarmAction::Deactivate as i32, alarm.member.get());
        self.alarm(AlarmRequest { action, member_id, alarm: alarm.kind.to_wire() }).await
    }

    async fn alarm(&self, request: AlarmRequest) -> Result<Vec<Alarm>> {
        let send = |channel, request| async move { stub!(MaintenanceClient<_>, channel).alarm(request).await };
        let (answer, _) = self.core().call(Class::Call, Effect::Repeatable, request, send).await?;
        Ok(answer.alarms.into_iter().map(Alarm::read).collect())
    }
}

impl Member {
    /// Its address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its version, size, leader and place in the log.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if it did not answer in time.
    ///
    /// # Cancel safety
    /// Nothing is left of it if the future is dropped.
    pub async fn status(&self) -> Result<MemberStatus> {
        let send = |channel, request| async move { stub!(MaintenanceClient<_>, channel).status(request).await };
        let (answer, _) = self.core.call(Class::Call, Effect::Repeatable, StatusRequest {}, send).await?;
        Ok(MemberStatus::read(answer))
    }

    /// A hash of its keys at a revision, [`Revision::ZERO`] for now. Members with equal history and
    /// compaction have equal hashes. It reads the whole store, and takes as long as that takes.
    ///
    /// # Errors
    /// [`FutureRevision`](crate::ErrorKind::FutureRevision), [`Compacted`](crate::ErrorKind::Compacted), and
    /// those of a read.
    ///
    /// # Cancel safety
    /// Nothing is left of it if the future is dropped.
    pub async fn hash_kv(&self, at: Revision) -> Result<HashKv> {
        let send = |channel, request| async move { stub!(MaintenanceClient<_>, channel).hash_kv(request).await };
        let request = HashKvRequest { revision: at.get() };
        let answered =
            self.core.answered_within(Patience::without_end(), Class::Bulk, Effect::Repeatable, request, send).await?;
        let answer = answered.answer;
        Ok(HashKv {
            hash: answer.hash,
            revision: revision(answer.hash_revision),
            compacted: Revision::new(answer.compact_revision).filter(|&at| at > Revision::ZERO),
        })
    }

    /// Gives the space of dropped history back to its file system. Takes as long as it takes; meanwhile an
    /// etcd serves nothing else.
    ///
    /// # Errors
    /// [`Ambiguous`](crate::ErrorKind::Ambiguous) if the connection broke before it answered: it may have
    /// happened, or still happen.
    ///
    /// # Cancel safety
    /// If the future is dropped, it may have happened or not.
    pub async fn defragment(&self) -> Result<()> {
        let send = |channel, request| async move { stub!(MaintenanceClient<_>, channel).defragment(request).await };
        let request = DefragmentRequest {};
        self.core.answered_within(Patience::without_end(), Class::Bulk, Effect::Once, request, send).await.map(|_| ())
    }

    /// Makes another member the leader. This member has to be the leader.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if it is not the leader,
    /// [`Ambiguous`](crate::ErrorKind::Ambiguous) if no answer came.
    ///
    /// # Cancel safety
    /// If the future is dropped, it may have happened or not.
    pub async fn move_leader(&self, to: MemberId) -> Result<()> {
        let send = |channel, request| async move { stub!(MaintenanceClient<_>, channel).move_leader(request).await };
        let request = MoveLeaderRequest { target_id: to.get() };
        self.core.call(Class::Call, Effect::Once, request, send).await.map(|_| ())
    }

    /// The bytes of its store, as the tools that restore one take them: the last 32 are the SHA-256 of
    /// those before. That is compared at the end, so only what ended without an error is to be kept.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write as _;
    ///
    /// let mut file = std::fs::File::create("backup.db")?;
    /// let mut snapshot = client.at("10.0.0.1:2379")?.snapshot().await?;
    /// while let Some(chunk) = snapshot.next().await {
    ///     file.write_all(&chunk?)?;
    /// }
    /// file.sync_all()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of a read. One that breaks later ends with an error as its last item; it does not go on by
    /// itself, since the store has. [`Protocol`](crate::ErrorKind::Protocol) as the last item if the bytes are not
    /// those of the SHA-256.
    ///
    /// # Cancel safety
    /// Nothing is left of it if the future is dropped.
    pub async fn snapshot(&self) -> Result<StoreSnapshot> {
        let send = |channel, request| async move { stub!(MaintenanceClient<_>, channel).snapshot(request).await };
        let request = SnapshotRequest {};
        let answered =
            self.core.answered_within(Patience::without_end(), Class::Bulk, Effect::Repeatable, request, send).await?;
        let endpoint = answered.connection.endpoint;
        Ok(StoreSnapshot { chunks: answered.answer, endpoint, remaining: None, sum: Checksum::default(), ended: false })
    }
}

impl StoreSnapshot {
    /// The next bytes; `None` after the last.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// How many bytes of the store are still to come, as the server said with the last chunk.
    pub fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// What the end of the stream means.
    fn end(&self) -> Option<Result<Bytes>> {
        if self.remaining == Some(0) {
            let damaged = || Error::with(ErrorKind::Protocol, "the snapshot does not have the SHA-256 at its end");
            return (!self.sum.is_right()).then(|| Err(damaged().at(&self.endpoint)));
        }
        let reason = "the snapshot ended before it was whole".to_owned();
        let endpoint = self.endpoint.to_string();
        Some(Err(Error::from_fault(&Fault::Connection { endpoint, reason }, false).at(&self.endpoint)))
    }
}

impl Stream for StoreSnapshot {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = match ready!(Pin::new(&mut self.chunks).poll_next(cx)) {
            Some(Ok(chunk)) => {
                self.remaining = Some(chunk.remaining_bytes);
                self.sum.add(&chunk.blob);
                Some(Ok(chunk.blob))
            }
            Some(Err(status)) => {
                let fault = Fault::from_status(&status, self.endpoint.as_str());
                Some(Err(Error::from_fault(&fault, false).at(&self.endpoint)))
            }
            None => self.end(),
        };
        self.ended = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

impl FusedStream for StoreSnapshot {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl MemberStatus {
    fn read(answer: StatusResponse) -> MemberStatus {
        let header = answer.header.unwrap_or_default();
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        MemberStatus {
            cluster: header.cluster_id,
            member: MemberId::new(header.member_id),
            version: answer.version,
            storage_version: Some(answer.storage_version).filter(|version| !version.is_empty()),
            revision: revision(header.revision),
            db_size: size(answer.db_size),
            db_size_in_use: size(answer.db_size_in_use),
            db_size_quota: Some(size(answer.db_size_quota)).filter(|&quota| quota > 0),
            leader: (answer.leader != 0).then_some(MemberId::new(answer.leader)),
            raft_term: answer.raft_term,
            raft_index: answer.raft_index,
            raft_applied_index: answer.raft_applied_index,
            is_learner: answer.is_learner,
            errors: answer.errors,
            downgrading_to: answer.downgrade_info.filter(|info| info.enabled).map(|info| info.target_version),
        }
    }
}

impl Alarm {
    fn read(alarm: AlarmMember) -> Alarm {
        let kind = match AlarmType::try_from(alarm.alarm) {
            Ok(AlarmType::Nospace) => AlarmKind::NoSpace,
            Ok(AlarmType::Corrupt) => AlarmKind::Corrupt,
            Ok(AlarmType::None) | Err(_) => AlarmKind::Unknown(alarm.alarm),
        };
        Alarm { member: MemberId::new(alarm.member_id), kind }
    }
}

impl AlarmKind {
    fn to_wire(self) -> i32 {
        match self {
            AlarmKind::NoSpace => AlarmType::Nospace as i32,
            AlarmKind::Corrupt => AlarmType::Corrupt as i32,
            AlarmKind::Unknown(number) => number,
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl fmt::Debug for StoreSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSnapshot")
            .field("endpoint", &self.endpoint)
            .field("remaining", &self.remaining)
            .finish_non_exhaustive()
    }
}
