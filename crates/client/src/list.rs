use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use stentor_proto::KeyRange as Interval;
use stentor_proto::etcdserverpb::RangeRequest;
use stentor_proto::etcdserverpb::kv_client::KvClient;

use crate::call::{Effect, stub};
use crate::client::Client;
use crate::endpoint::Class;
use crate::error::{ErrorKind, Result};
use crate::key_value::revision;
use crate::{KeyRange, KeyValue, Revision};

/// A list to be read; see [`Client::list`]. Awaiting it reads all of it, of any size; [`pages`](Self::pages)
/// hands it over piece by piece. All of it is of one revision.
///
/// # Errors
/// [`PermissionDenied`](ErrorKind::PermissionDenied), [`Unavailable`](ErrorKind::Unavailable) and others of
/// a read. [`Compacted`](ErrorKind::Compacted) if the revision asked for is gone; also, rarely, if
/// compaction overtakes a list again and again while it is being read.
///
/// # Cancel safety
/// Nothing is left of it if the future is dropped.
#[derive(Clone)]
#[must_use = "a list is read when it is awaited"]
pub struct ListBuilder {
    client: Client,
    range: KeyRange,
    at: Revision,
    page_entries: usize,
    keys_only: bool,
}

/// Pairs in the order of their keys, and the revision at which they were all there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pairs: Vec<KeyValue>,
    revision: Revision,
}

/// A list, page by page; see [`ListBuilder::pages`].
#[must_use = "pages are read when they are asked for"]
pub struct Pages {
    list: ListBuilder,
    /// What is still to be read, in ascending order.
    rest: VecDeque<Interval>,
    /// What all pages are of; zero until the first has said.
    revision: Revision,
    page_entries: usize,
}

/// Pairs asked for at once. What counts is their size, and that is known only when one is too large.
const PAGE_ENTRIES: usize = 1000;

/// How often a list begins anew because compaction has overtaken it.
const RESTARTS: usize = 5;

impl Client {
    /// All pairs of a range, at one revision, however many there are.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use stentor_client::KeyRange;
    /// let services = client.list(KeyRange::prefix("/svc/")).await?;
    /// for pair in &services {
    ///     println!("{:?} = {:?}", pair.key_str(), pair.value_str());
    /// }
    /// println!("as of revision {}", services.revision());
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(&self, range: impl Into<KeyRange>) -> ListBuilder {
        let range = range.into();
        ListBuilder { client: self.clone(), range, at: Revision::ZERO, page_entries: PAGE_ENTRIES, keys_only: false }
    }
}

impl ListBuilder {
    /// As it was at a revision.
    pub fn at(mut self, revision: Revision) -> Self {
        self.at = revision;
        self
    }

    /// How many pairs are asked for at once; 1,000 by default. Fewer are when a page turns out to be larger
    /// than a message may be.
    pub fn page_entries(mut self, entries: usize) -> Self {
        self.page_entries = entries.max(1);
        self
    }

    /// Leaves the values out.
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Reads it piece by piece, so that it need not be in memory as a whole. A list that compaction
    /// overtakes ends with [`Compacted`](ErrorKind::Compacted).
    pub fn pages(self) -> Pages {
        let rest = self.range.parts().into_iter().filter(|part| !part.is_empty()).collect();
        Pages { rest, revision: self.at, page_entries: self.page_entries, list: self }
    }

    async fn read(self) -> Result<Listing> {
        for _ in 0..RESTARTS {
            match self.clone().read_once().await {
                Err(error) if self.at == Revision::ZERO && matches!(error.kind(), ErrorKind::Compacted { .. }) => {}
                other => return other,
            }
        }
        self.read_once().await
    }

    async fn read_once(self) -> Result<Listing> {
        let mut pages = self.pages();
        let mut pairs = Vec::new();
        while let Some(page) = pages.next().await {
            pairs.extend(page?);
        }
        Ok(Listing { pairs, revision: pages.revision })
    }
}

impl Pages {
    /// The next pairs; `None` after the last. At least one page comes, if only an empty one.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next one reads the same page.
    pub async fn next(&mut self) -> Option<Result<Vec<KeyValue>>> {
        loop {
            let part = self.rest.front()?.clone();
            match self.page(&part).await {
                // Some servers cannot send, and some proxies not pass on, what is larger than their limit.
                Err(error) if *error.kind() == ErrorKind::TooLarge && self.page_entries > 1 => self.page_entries /= 2,
                Err(error) => {
                    self.rest.clear();
                    return Some(Err(error));
                }
                Ok(page) => return Some(Ok(page)),
            }
        }
    }

    /// The revision that all pages are of. [`Revision::ZERO`] before the first, unless one was asked for.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    async fn page(&mut self, part: &Interval) -> Result<Vec<KeyValue>> {
        let client = self.list.client.clone();
        let namespace = client.namespace();
        let (key, range_end) = namespace.to_wire(part)?;
        let request = RangeRequest {
            key,
            range_end,
            limit: i64::try_from(self.page_entries).unwrap_or(i64::MAX),
            revision: self.revision.get(),
            keys_only: self.list.keys_only,
            ..RangeRequest::default()
        };
        let send = |channel, request| async move { stub!(KvClient<_>, channel).range(request).await };
        let (answer, _) = client.core().call(Class::Bulk, Effect::Repeatable, request, send).await?;
        let at = revision(answer.header.as_ref().map_or(0, |header| header.revision));
        client.core().floor.saw(at);
        if self.revision == Revision::ZERO {
            self.revision = at;
        }
        self.rest.pop_front();
        let pairs = namespace.pairs(answer.kvs);
        if let (true, Some(last)) = (answer.more, pairs.last()) {
            self.rest.push_front(after(last.key(), part));
        }
        Ok(pairs)
    }
}

/// What of `part` is above `key`.
fn after(key: &Bytes, part: &Interval) -> Interval {
    // There is no key between this and the next one.
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    let (_, range_end) = part.to_wire();
    Interval::from_wire(next.freeze(), range_end)
}

impl Listing {
    /// The pairs, in the order of their keys.
    pub fn pairs(&self) -> &[KeyValue] {
        &self.pairs
    }

    /// The pairs, in the order of their keys.
    pub fn into_pairs(self) -> Vec<KeyValue> {
        self.pairs
    }

    /// When this was all there is. What happened then is told by a watch
    /// [after](crate::WatchBuilder::after) it.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

impl IntoIterator for Listing {
    type Item = KeyValue;
    type IntoIter = std::vec::IntoIter<KeyValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs.into_iter()
    }
}

impl<'a> IntoIterator for &'a Listing {
    type Item = &'a KeyValue;
    type IntoIter = std::slice::Iter<'a, KeyValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs.iter()
    }
}

impl IntoFuture for ListBuilder {
    type Output = Result<Listing>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Listing>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.read())
    }
}

impl fmt::Debug for ListBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListBuilder").field("range", &self.range).field("at", &self.at).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("rest", &self.rest).field("revision", &self.revision).finish_non_exhaustive()
    }
}
