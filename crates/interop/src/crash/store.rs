//! All that a server holds, read through its API after a restart.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use stentor_proto::etcdserverpb::{RangeRequest, WatchCreateRequest};
use stentor_proto::mvccpb::{Event, KeyValue};
use tonic::Status;

use crate::client::Client;
use crate::stream::{PATIENCE, Stream};

/// What a server holds.
pub(crate) struct Store {
    pub(crate) revision: i64,
    /// 0 when it was never compacted.
    pub(crate) compacted: i64,
    /// The pairs at the compacted revision, by key.
    pub(crate) base: BTreeMap<Bytes, KeyValue>,
    /// Every event above the compacted revision.
    pub(crate) history: Vec<Event>,
    /// The pairs now, by key.
    pub(crate) pairs: BTreeMap<Bytes, KeyValue>,
}

impl Store {
    /// Reads everything.
    pub(crate) async fn read(client: &mut Client) -> Result<Store> {
        let (revision, pairs) = read_at(client, 0).await?;
        let (compacted, history) = tokio::time::timeout(PATIENCE * 3, replay(client, revision)).await??;
        let base = if compacted == 0 { BTreeMap::new() } else { read_at(client, compacted).await?.1 };
        Ok(Store { revision, compacted, base, history, pairs })
    }
}

/// The store's revision.
pub(crate) async fn revision(client: &mut Client) -> Result<i64, Status> {
    let range = RangeRequest { key: Bytes::from_static(b"none"), ..RangeRequest::default() };
    let header = client.kv.range(range).await?.into_inner().header;
    Ok(header.ok_or_else(|| Status::data_loss("an answer without a header"))?.revision)
}

async fn read_at(client: &mut Client, revision: i64) -> Result<(i64, BTreeMap<Bytes, KeyValue>)> {
    let everything = Bytes::from_static(b"\0");
    let range = RangeRequest { key: everything.clone(), range_end: everything, revision, ..RangeRequest::default() };
    let answer = client.kv.range(range).await?.into_inner();
    let revision = answer.header.context("no header")?.revision;
    Ok((revision, answer.kvs.into_iter().map(|pair| (pair.key.clone(), pair)).collect()))
}

/// The compacted revision, and the events above it up to the current one.
async fn replay(client: &Client, revision: i64) -> Result<(i64, Vec<Event>)> {
    let mut stream = Stream::open(client);
    let everything = Bytes::from_static(b"\0");
    let mut create = WatchCreateRequest {
        key: everything.clone(),
        range_end: everything,
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    stream.create(create.clone()).await?;
    let mut id = stream.answer().await?.watch_id;
    // Written as often as not just before the kill: so it is not known here, only told.
    let compacted = stream.await_revision_or_cancel(id, revision).await?;
    if let Some(canceled) = &compacted {
        create.start_revision = canceled.compact_revision + 1;
        if create.start_revision > revision {
            return Ok((canceled.compact_revision, Vec::new()));
        }
        stream.create(create).await?;
        id = stream.answer().await?.watch_id;
        if let Some(canceled) = stream.await_revision_or_cancel(id, revision).await? {
            bail!("a watch from above the compacted revision was cancelled: {canceled:?}");
        }
    }
    if let Some(violation) = stream.violations().first() {
        bail!("the replay: {violation}");
    }
    Ok((compacted.map_or(0, |canceled| canceled.compact_revision), stream.events(id).to_vec()))
}
