//! One stream that is asked and answers in turn.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};

use crate::connection::{self, Connection};
use crate::scan::{Frames, Malformed};

/// A stream whose requests are answered one by one.
pub struct Stream {
    sender: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    frames: Frames,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.sender.send_reset(h2::Reason::CANCEL);
    }
}

impl Stream {
    /// Opens one for a method: `package.Service/Method`.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn open(connection: &Connection, method: &str) -> Result<Stream> {
        let (response, sender) = connection.method(method)?.open().await?;
        Ok(Stream { sender, response: Some(response), body: None, frames: Frames::default() })
    }

    /// Sends a request and reads until `read` says that a message answers it.
    ///
    /// # Errors
    /// When the stream ends, or a message is [`Malformed`].
    pub async fn exchange(
        &mut self,
        request: Bytes,
        mut read: impl FnMut(&[u8]) -> Result<bool, Malformed>,
    ) -> Result<()> {
        self.sender.send_data(request, false)?;
        // A server may wait for the first request before it says that there is a body.
        if let Some(response) = self.response.take() {
            self.body = Some(connection::accept(response).await?);
        }
        let body = self.body.as_mut().context("the stream has failed")?;
        let mut answered = false;
        while !answered {
            let Some(bytes) = body.data().await else {
                connection::check(body.trailers().await?.as_ref().context("a stream ended without a status")?)?;
                bail!("a stream ended");
            };
            let bytes = bytes?;
            body.flow_control().release_capacity(bytes.len())?;
            self.frames.push(&bytes, |message| {
                answered |= read(message)?;
                Ok(())
            })?;
        }
        Ok(())
    }
}
