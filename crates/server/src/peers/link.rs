//! The task that carries messages to one member.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stentor_proto::peerpb::peer_client::PeerClient;
use stentor_proto::peerpb::{MessagesRequest, RaftMessage};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{info, warn};

use super::Shared;
use super::service::REMOVED;
use crate::replication::Event;

/// Messages that wait for a link; more are dropped.
const QUEUE: usize = 4_096;

/// Requests on their way to the connection.
const AHEAD: usize = 4;

/// Bytes of messages after which a request is closed.
const REQUEST_BYTES: usize = 1 << 20;

/// How long the other side may take to accept the stream.
const PATIENCE: Duration = Duration::from_secs(2);

/// A link to one member; its task ends when this is dropped.
pub(super) struct Link {
    urls: Vec<String>,
    queue: mpsc::Sender<RaftMessage>,
    is_active: Arc<AtomicBool>,
    /// For calls beside the stream.
    channel: Result<Channel, Status>,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    pub(super) fn open(shared: Arc<Shared>, to: u64, urls: Vec<String>) -> Link {
        let (queue, messages) = mpsc::channel(QUEUE);
        let is_active = Arc::new(AtomicBool::new(false));
        let url = urls.first().map_or("", String::as_str);
        let channel = shared.parts.environment.dialer.channel(url);
        let carrier = Carrier { shared, to, urls: urls.clone(), messages, is_active: is_active.clone() };
        Link { urls, queue, is_active, channel, _task: AbortOnDropHandle::new(tokio::spawn(carrier.run())) }
    }

    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    pub(super) fn send(&self, message: RaftMessage) {
        // One that finds no room is lost, as it may be on the way.
        let _ = self.queue.try_send(message);
    }

    pub(super) fn channel(&self) -> Result<Channel, Status> {
        self.channel.clone()
    }

    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }
}

struct Carrier {
    shared: Arc<Shared>,
    to: u64,
    urls: Vec<String>,
    messages: mpsc::Receiver<RaftMessage>,
    is_active: Arc<AtomicBool>,
}

impl Carrier {
    async fn run(mut self) {
        let member = format!("{:x}", self.to);
        let mut failures = 0_usize;
        loop {
            let url = self.urls.get(failures % self.urls.len().max(1)).cloned().unwrap_or_default();
            let error = self.carry(&url).await;
            if self.is_active.swap(false, Ordering::Relaxed) {
                warn!(member, url, error = error.message(), "the link to a member is broken");
                failures = 0;
            } else if failures == 0 {
                info!(member, url, error = error.message(), "a member can't be reached");
            }
            failures += 1;
            if error.code() == Code::FailedPrecondition && error.message() == REMOVED {
                self.shared.parts.removed.send_if_modified(|removed| !std::mem::replace(removed, true));
            }
            // Without a driver this ends soon too.
            let _ = self.shared.parts.events.send(Event::Unreachable(self.to)).await;
            sleep(self.shared.pause()).await;
            // By now they are said anew.
            while self.messages.try_recv().is_ok() {}
        }
    }

    /// Carries messages until the link breaks.
    async fn carry(&mut self, url: &str) -> Status {
        match self.try_carry(url).await {
            Ok(()) => Status::unavailable("the other side has ended it"),
            Err(status) => status,
        }
    }

    async fn try_carry(&mut self, url: &str) -> Result<(), Status> {
        let channel = self.shared.parts.environment.dialer.channel(url)?;
        let (requests, outgoing) = mpsc::channel(AHEAD);
        let sender = Some(self.shared.sender(self.to));
        let gone = |_| Status::unavailable("the connection is gone");
        requests.try_send(MessagesRequest { sender, messages: Vec::new() }).map_err(|_| gone(()))?;
        let mut client = PeerClient::new(channel);
        let opened = timeout(PATIENCE, client.messages(ReceiverStream::new(outgoing))).await;
        let opened = opened.map_err(|_| Status::deadline_exceeded("no answer in time"))?;
        let mut ended = opened?.into_inner();
        self.is_active.store(true, Ordering::Relaxed);
        info!(member = format!("{:x}", self.to), url, "linked to a member");
        loop {
            tokio::select! {
                biased;
                end = ended.message() => {
                    if end?.is_none() {
                        return Ok(());
                    }
                }
                place = requests.reserve() => {
                    let place = place.map_err(|_| gone(()))?;
                    tokio::select! {
                        biased;
                        end = ended.message() => {
                            if end?.is_none() {
                                return Ok(());
                            }
                        }
                        first = self.messages.recv() => {
                            let Some(first) = first else { return Ok(()) };
                            place.send(self.gather(first));
                        }
                    }
                }
            }
        }
    }

    /// What has queued up goes as one.
    fn gather(&mut self, first: RaftMessage) -> MessagesRequest {
        let mut bytes = 0;
        let mut messages = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            bytes += prost::Message::encoded_len(&message);
            messages.push(message);
            next = if bytes < REQUEST_BYTES { self.messages.try_recv().ok() } else { None };
        }
        MessagesRequest { sender: None, messages }
    }
}
