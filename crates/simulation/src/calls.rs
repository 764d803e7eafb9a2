//! Calls to members, one at a time and without a second try: what an error leaves open stays open.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use turmoil::net::TcpStream;

use crate::member;

/// Who hears nothing for so long goes on without.
const PATIENCE: Duration = Duration::from_secs(8);

/// Channels to all members.
#[derive(Clone)]
pub(crate) struct Calls(BTreeMap<usize, Channel>);

impl Calls {
    pub(crate) fn new(members: usize) -> turmoil::Result<Calls> {
        let channel = |number: usize| {
            let endpoint = Endpoint::from_shared(format!("http://{}", member::endpoint(number)))?
                .connect_timeout(Duration::from_secs(1))
                .http2_keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(2));
            let connect = tower::service_fn(move |_| async move {
                TcpStream::connect(member::endpoint(number)).await.map(TokioIo::new)
            });
            turmoil::Result::Ok((number, endpoint.connect_with_connector_lazy(connect)))
        };
        Ok(Calls((0..members).map(channel).collect::<turmoil::Result<_>>()?))
    }

    /// How many there are.
    pub(crate) fn members(&self) -> usize {
        self.0.len()
    }

    /// To one of them.
    ///
    /// # Errors
    /// There is no such member.
    pub(crate) fn to(&self, member: usize) -> Result<Channel, Status> {
        self.0.get(&member).cloned().ok_or_else(|| Status::not_found("no such member"))
    }
}

/// Waits for an answer.
///
/// # Errors
/// The call's, and too long a silence.
pub(crate) async fn answer<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    in_time(call).await.map(Response::into_inner)
}

/// Waits for what comes of a call.
///
/// # Errors
/// The call's, and too long a silence.
pub(crate) async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
}
