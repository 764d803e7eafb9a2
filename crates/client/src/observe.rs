//! What a client tells of itself while it runs, to a program's hook and to its metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::watch::ServerVersion;

/// Something that happened to a client. See [`ClientBuilder::on_event`](crate::ClientBuilder::on_event).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// An endpoint is in trouble and is not used until it is well again.
    EndpointDown {
        /// Which one.
        endpoint: Endpoint,
        /// What a call on it ran into.
        reason: String,
    },
    /// An endpoint is well again.
    EndpointUp {
        /// Which one.
        endpoint: Endpoint,
    },
    /// A watch stream ended, and its watchers wait for another.
    WatchInterrupted {
        /// Where it went; `None` if it could not be opened.
        endpoint: Option<Endpoint>,
        /// Watchers on it.
        watchers: usize,
        /// Why.
        reason: Error,
    },
    /// All watchers of a stream are served again.
    WatchResumed {
        /// Where the stream goes now.
        endpoint: Endpoint,
        /// Watchers on it.
        watchers: usize,
        /// Time since the interruption.
        gap: Duration,
    },
    /// A member runs a version of etcd whose watches are known to have faults that no client can make up for. Told,
    /// and logged, once by a client, for the first such member that one of its watch streams goes to.
    FlawedServer {
        /// Which one.
        endpoint: Endpoint,
        /// Its version.
        version: String,
        /// What is wrong with it.
        flaw: &'static str,
    },
    /// A connection was opened in the place of one that had ended.
    Reconnected {
        /// Where to.
        endpoint: Endpoint,
    },
}

/// What a client counts. Each only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Counter {
    /// Unary calls, each counted once however often it was sent.
    Calls,
    /// Times that a unary call was sent again.
    Retries,
    /// Connections opened in the place of one that had ended.
    Reconnects,
    /// Watchers created again after an interruption.
    Resumes,
    /// Events received a second time, after a change of the member, and dropped.
    StaleEvents,
    /// Times that the buffer of a watch was full.
    Overflows,
    /// Watch streams that broke with watchers on them.
    Breaks,
    /// Revisions received in part when the stream broke.
    TornRevisions,
    /// Progress notes that moved a watcher on.
    Notes,
    /// Progress notes of servers that can't be trusted with them.
    UntrustedNotes,
    /// Watch streams given up because they were silent.
    SilentStreams,
}

impl Counter {
    /// All of them.
    pub const ALL: [Counter; 11] = [
        Counter::Calls,
        Counter::Retries,
        Counter::Reconnects,
        Counter::Resumes,
        Counter::StaleEvents,
        Counter::Overflows,
        Counter::Breaks,
        Counter::TornRevisions,
        Counter::Notes,
        Counter::UntrustedNotes,
        Counter::SilentStreams,
    ];

    /// A name for an exporter.
    ///
    /// ```
    /// assert_eq!(stentor_client::Counter::StaleEvents.name(), "stentor_client_stale_events_total");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Counter::Calls => "stentor_client_calls_total",
            Counter::Retries => "stentor_client_retries_total",
            Counter::Reconnects => "stentor_client_reconnects_total",
            Counter::Resumes => "stentor_client_resumes_total",
            Counter::StaleEvents => "stentor_client_stale_events_total",
            Counter::Overflows => "stentor_client_overflows_total",
            Counter::Breaks => "stentor_client_breaks_total",
            Counter::TornRevisions => "stentor_client_torn_revisions_total",
            Counter::Notes => "stentor_client_notes_total",
            Counter::UntrustedNotes => "stentor_client_untrusted_notes_total",
            Counter::SilentStreams => "stentor_client_silent_streams_total",
        }
    }
}

/// Where a client counts: see [`ClientBuilder::metrics`](crate::ClientBuilder::metrics). The program's side
/// of it is whatever it exports metrics with.
pub trait Metrics: Send + Sync + 'static {
    /// Adds to a counter. Called from the client's tasks: it must neither block nor panic.
    fn add(&self, counter: Counter, by: u64);
}

type Hook = dyn Fn(&ClientEvent) + Send + Sync;

/// Who is told. Clones tell the same.
#[derive(Clone, Default)]
pub(crate) struct Observer {
    pub(crate) hook: Option<Arc<Hook>>,
    pub(crate) metrics: Option<Arc<dyn Metrics>>,
    has_warned: Arc<AtomicBool>,
}

impl Observer {
    /// Says what is wrong with the version of a member, if something is, and for the first such member alone.
    pub(crate) fn warn_of(&self, version: ServerVersion, endpoint: &Endpoint) {
        let Some(flaw) = version.flaw() else { return };
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(%endpoint, %version, "the server's version has faults in its watches: {flaw}");
            let (endpoint, version) = (endpoint.clone(), version.to_string());
            self.tell(|| ClientEvent::FlawedServer { endpoint, version, flaw });
        }
    }

    /// The event is made only if somebody wants it.
    pub(crate) fn tell(&self, event: impl FnOnce() -> ClientEvent) {
        if let Some(hook) = &self.hook {
            hook(&event());
        }
    }

    pub(crate) fn count(&self, counter: Counter, by: u64) {
        if let Some(metrics) = self.metrics.as_ref().filter(|_| by > 0) {
            metrics.add(counter, by);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("hook", &self.hook.is_some())
            .field("metrics", &self.metrics.is_some())
            .finish()
    }
}
