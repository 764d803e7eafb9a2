//! Who the members of a cluster are.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use stentor_proto::etcdserverpb::cluster_client::ClusterClient;
use stentor_proto::etcdserverpb::{
    Member as Wire, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
};

use crate::call::{Effect, stub};
use crate::client::Client;
use crate::endpoint::Class;
use crate::error::{Error, Result};
use crate::fault::Fault;

/// The number of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u64);

/// A member as its cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// Its number.
    pub id: MemberId,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// It has no vote yet.
    pub is_learner: bool,
}

/// A member that was added, and all there are now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberAdded {
    /// The new one.
    pub member: MemberInfo,
    /// All of them.
    pub members: Vec<MemberInfo>,
}

/// A question for the members; see [`Client::member_list`]. Awaiting it sends it.
///
/// # Errors
/// Those of a read.
///
/// # Cancel safety
/// Nothing is left of it if the future is dropped.
#[derive(Clone, Debug)]
#[must_use = "a question is sent when it is awaited"]
pub struct MemberList {
    client: Client,
    linearizable: bool,
}

/// A member to be added; see [`Client::member_add`]. Awaiting it adds it.
///
/// # Errors
/// [`Ambiguous`](crate::ErrorKind::Ambiguous) if it was sent and no answer came;
/// [`Other`](crate::ErrorKind::Other) with the server's text if the cluster cannot take one now.
///
/// # Cancel safety
/// If the future is dropped, the member may have been added or not.
#[derive(Clone, Debug)]
#[must_use = "a member is added when it is awaited"]
pub struct MemberAdd {
    client: Client,
    request: MemberAddRequest,
}

impl Client {
    /// The members of the cluster.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// for member in client.member_list().await? {
    ///     println!("{} {} {:?}", member.id, member.name, member.client_urls);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn member_list(&self) -> MemberList {
        MemberList { client: self.clone(), linearizable: true }
    }

    /// Adds a member that others reach at these URLs. It has to be started after that.
    pub fn member_add<S: Into<String>>(&self, peer_urls: impl IntoIterator<Item = S>) -> MemberAdd {
        let peer_ur_ls = peer_urls.into_iter().map(Into::into).collect();
        MemberAdd { client: self.clone(), request: MemberAddRequest { peer_ur_ls, is_learner: false } }
    }

    /// Takes a member out of the cluster; those that stay.
    ///
    /// # Errors
    /// As [`MemberAdd`].
    ///
    /// # Cancel safety
    /// If the future is dropped, it may have happened or not.
    pub async fn member_remove(&self, id: MemberId) -> Result<Vec<MemberInfo>> {
        let send = |channel, request| async move { stub!(ClusterClient<_>, channel).member_remove(request).await };
        let request = MemberRemoveRequest { id: id.get() };
        let (answer, _) = self.core().call(Class::Call, Effect::Once, request, send).await?;
        Ok(infos(answer.members))
    }

    /// Changes where the other members reach a member; all members.
    ///
    /// # Errors
    /// As [`MemberAdd`].
    ///
    /// # Cancel safety
    /// If the future is dropped, it may have happened or not.
    pub async fn member_update<S: Into<String>>(
        &self,
        id: MemberId,
        peer_urls: impl IntoIterator<Item = S>,
    ) -> Result<Vec<MemberInfo>> {
        let send = |channel, request| async move { stub!(ClusterClient<_>, channel).member_update(request).await };
        let peer_ur_ls = peer_urls.into_iter().map(Into::into).collect();
        let request = MemberUpdateRequest { id: id.get(), peer_ur_ls };
        let (answer, _) = self.core().call(Class::Call, Effect::Once, request, send).await?;
        Ok(infos(answer.members))
    }

    /// Gives a learner a vote, once it has caught up; all members.
    ///
    /// # Errors
    /// As [`MemberAdd`].
    ///
    /// # Cancel safety
    /// If the future is dropped, it may have happened or not.
    pub async fn member_promote(&self, id: MemberId) -> Result<Vec<MemberInfo>> {
        let send = |channel, request| async move { stub!(ClusterClient<_>, channel).member_promote(request).await };
        let request = MemberPromoteRequest { id: id.get() };
        let (answer, _) = self.core().call(Class::Call, Effect::Once, request, send).await?;
        Ok(infos(answer.members))
    }
}

impl MemberList {
    /// As the member asked knows them, which may be behind the others, and may have no leader.
    pub fn serializable(mut self) -> Self {
        self.linearizable = false;
        self
    }

    async fn send(self) -> Result<Vec<MemberInfo>> {
        let send = |channel, request| async move { stub!(ClusterClient<_>, channel).member_list(request).await };
        let request = MemberListRequest { linearizable: self.linearizable };
        let (answer, _) = self.client.core().call(Class::Call, Effect::Repeatable, request, send).await?;
        Ok(infos(answer.members))
    }
}

impl MemberAdd {
    /// As a learner: without a vote until it is [promoted](Client::member_promote), so that the cluster
    /// does not depend on it while it catches up.
    pub fn learner(mut self) -> Self {
        self.request.is_learner = true;
        self
    }

    async fn send(self) -> Result<MemberAdded> {
        let send = |channel, request| async move { stub!(ClusterClient<_>, channel).member_add(request).await };
        let (answer, connection) = self.client.core().call(Class::Call, Effect::Once, self.request, send).await?;
        let Some(member) = answer.member else {
            let fault = Fault::Protocol("a member was added, and the answer does not say which");
            return Err(Error::from_fault(&fault, true).at(&connection.endpoint));
        };
        Ok(MemberAdded { member: MemberInfo::from(member), members: infos(answer.members) })
    }
}

fn infos(members: Vec<Wire>) -> Vec<MemberInfo> {
    members.into_iter().map(MemberInfo::from).collect()
}

impl From<Wire> for MemberInfo {
    fn from(member: Wire) -> MemberInfo {
        MemberInfo {
            id: MemberId(member.id),
            name: member.name,
            peer_urls: member.peer_ur_ls,
            client_urls: member.client_ur_ls,
            is_learner: member.is_learner,
        }
    }
}

impl MemberId {
    /// The member with this number.
    pub fn new(id: u64) -> MemberId {
        MemberId(id)
    }

    /// The number as it goes over the wire.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As etcdctl shows members.
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl IntoFuture for MemberList {
    type Output = Result<Vec<MemberInfo>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl IntoFuture for MemberAdd {
    type Output = Result<MemberAdded>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
