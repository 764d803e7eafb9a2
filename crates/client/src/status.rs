//! What a client can tell of its state at any time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Client;
use crate::endpoint::Endpoint;

/// The state of a client at one moment: see [`Client::status`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Every endpoint.
    pub endpoints: Vec<EndpointStatus>,
    /// Watch streams that are open.
    pub watch_streams: usize,
    /// Watches that the program holds.
    pub watchers: usize,
}

/// The state of one endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Which one.
    pub endpoint: Endpoint,
    /// Why it is not used now, and for how long; `None` if it is usable, as far as is known.
    pub trouble: Option<(String, Duration)>,
    /// What went wrong on it last, and how long ago, also if it has become well again.
    pub last_error: Option<(String, Duration)>,
    /// Watch streams that go to it.
    pub watch_streams: usize,
}

impl Client {
    /// How each endpoint is, and what is being watched. Asks nobody.
    ///
    /// ```no_run
    /// # fn example(client: stentor_client::Client) {
    /// for endpoint in client.status().endpoints {
    ///     match endpoint.trouble {
    ///         None => println!("{}: {} streams", endpoint.endpoint, endpoint.watch_streams),
    ///         Some((reason, since)) => println!("{}: {reason}, for {since:?}", endpoint.endpoint),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn status(&self) -> Status {
        let (now, pool) = (Instant::now(), &self.core().pool);
        let traffic = self.core().traffic.now();
        let known = pool.endpoints();
        let health = pool.health();
        let status = |(index, endpoint)| EndpointStatus {
            endpoint,
            trouble: health.trouble(index).map(|(t, since)| (t.text().to_owned(), now.duration_since(since))),
            last_error: health.last_trouble(index).map(|(t, at)| (t.text().to_owned(), now.duration_since(*at))),
            watch_streams: traffic.streams.get(&index).copied().unwrap_or(0),
        };
        Status {
            endpoints: known.into_iter().map(status).collect(),
            watch_streams: traffic.streams.values().sum(),
            watchers: traffic.watchers,
        }
    }
}

/// What the hub tells of itself.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Mutex<Counts>);

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By the number of the endpoint.
    pub(crate) streams: BTreeMap<usize, usize>,
    pub(crate) watchers: usize,
}

impl Traffic {
    /// Nothing panics while it holds the lock.
    pub(crate) fn now(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
