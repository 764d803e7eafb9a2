//! One watcher, which resumes where it was when its stream breaks.

use std::time::Duration;

use stentor_client::raw::{Client, Error, WatchStream};
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use tokio::sync::mpsc;

use super::exec::Exec;
use crate::failure::{Exit, Failure, Result};
use crate::print::show;
use crate::session::Session;

/// A watch to run, and what to do at each event.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    pub(crate) request: WatchCreateRequest,
    pub(crate) exec: Option<Exec>,
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Watcher {
    /// Shows events until the server cancels the watch. What `progress` sends are requests for progress
    /// notes.
    pub(crate) async fn run(mut self, session: &Session, mut progress: mpsc::Receiver<()>) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.follow(session, &mut progress, &mut pause).await? {
                End::Canceled => return Ok(()),
                End::Broken(error) => error,
            };
            // Once an outage is enough; every response ends one.
            if pause == FIRST_PAUSE {
                eprintln!("watch interrupted: {error}; trying again");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Opens a stream and shows what comes until it ends.
    async fn follow(
        &mut self,
        session: &Session,
        progress: &mut mpsc::Receiver<()>,
        pause: &mut Duration,
    ) -> Result<End> {
        let (_client, mut stream) = match self.open(session).await {
            Ok(open) => open,
            Err(error) if resumable(&error) => return Ok(End::Broken(error)),
            Err(error) => return Err(error.into()),
        };
        let mut asking = true;
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                asked = progress.recv(), if asking => {
                    asking = asked.is_some();
                    // A stream that has ended says so at its next read.
                    if asking { stream.request_progress().await.ok(); }
                    continue;
                }
            };
            let response = match next {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(End::Broken(Error::Protocol("the server ended the stream"))),
                Err(error) if resumable(&error) => return Ok(End::Broken(error)),
                Err(error) => return Err(error.into()),
            };
            *pause = FIRST_PAUSE;
            if let Some(end) = self.take(&response, session).await? {
                return Ok(end);
            }
        }
    }

    async fn open(&self, session: &Session) -> stentor_client::raw::Result<(Client, WatchStream)> {
        let client = session.connect_once(&session.endpoints).await?;
        let stream = client.watch().open(self.request.clone()).await?;
        Ok((client, stream))
    }

    /// Shows a response and moves on behind it.
    async fn take(&mut self, response: &WatchResponse, session: &Session) -> Result<Option<End>> {
        let revision = response.header.as_ref().map_or(0, |h| h.revision);
        if response.canceled || response.compact_revision > 0 {
            eprintln!("watch was canceled ({})", reason(response));
            show(session.printer.watch(response))?;
            return Ok(Some(End::Canceled));
        }
        if response.created {
            // Where "from now on" was, should the stream break before anything comes.
            if self.request.start_revision == 0 {
                self.request.start_revision = revision + 1;
            }
            return Ok(None);
        }
        if response.events.is_empty() {
            show(format!("progress notify: {revision}\n"))?;
        }
        show(session.printer.watch(response))?;
        if let Some(exec) = &self.exec {
            exec.run(response).await?;
        }
        let seen = match response.events.last() {
            Some(event) => event.kv.as_ref().map_or(0, |kv| kv.mod_revision),
            None => revision,
        };
        self.request.start_revision = self.request.start_revision.max(seen + 1);
        Ok(None)
    }
}

enum End {
    Canceled,
    Broken(Error),
}

/// Whether another try can help. The end of a stream without an error counts too.
fn resumable(error: &Error) -> bool {
    error.is_retryable() || matches!(error, Error::Protocol(_))
}

fn reason(response: &WatchResponse) -> String {
    if response.compact_revision > 0 {
        EtcdError::Compacted.text().to_owned()
    } else if response.cancel_reason.is_empty() {
        EtcdError::FutureRev.text().to_owned()
    } else {
        response.cancel_reason.clone()
    }
}

/// What a watch that the server ended comes to.
pub(crate) fn canceled() -> Failure {
    Failure::new(Exit::Interrupted, "watch is canceled by the server")
}
