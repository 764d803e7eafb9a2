use std::future::Future;

use tonic::{Request, Response, Status, Streaming};

use crate::raw::connection::Connection;
use crate::raw::{Error, Result};

/// etcd's answers have no size limit, so neither has what is accepted.
pub(crate) const NO_LIMIT: usize = usize::MAX;

/// Makes the generated stub of a service over a connection.
macro_rules! stub {
    ($stub:ty, $connection:expr) => {
        <$stub>::new($connection.channel.clone())
            .max_decoding_message_size($crate::raw::call::NO_LIMIT)
            .max_encoding_message_size($crate::raw::call::NO_LIMIT)
    };
}
pub(crate) use stub;

impl Connection {
    /// `message` with the metadata that every request carries.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// Runs one unary call: the deadline covers it from end to end, and the server is told of it.
    pub(crate) async fn unary<Q, A, F, Fut>(&self, message: Q, call: F) -> Result<A>
    where
        F: FnOnce(Request<Q>) -> Fut,
        Fut: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let mut request = self.request(message);
        let answer = match self.call_timeout {
            None => call(request).await,
            Some(timeout) => {
                request.set_timeout(timeout);
                tokio::time::timeout(timeout, call(request)).await.map_err(|_| Error::DeadlineExceeded)?
            }
        };
        answer.map(Response::into_inner).map_err(|status| self.error(&status))
    }

    /// The next message of a stream; `None` at its regular end.
    pub(crate) async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>> {
        stream.message().await.map_err(|status| self.error(&status))
    }
}
