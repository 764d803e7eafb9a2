//! The crate etcd-client, unchanged, against the server.

use anyhow::{Context, Result, ensure};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, EventType, GetOptions, LeaseTimeToLiveOptions, PutOptions, Txn, TxnOp,
    WatchOptions, WatchStream,
};
use stentor_interop::peers::{SERVER, required};
use stentor_interop::process::Server;

async fn start(test: &str) -> Result<Option<(Server, Client)>> {
    let Some(binary) = required(SERVER, test) else { return Ok(None) };
    let server = Server::start(&binary, &[])?;
    let client = Client::connect([server.endpoint()], None).await?;
    Ok(Some((server, client)))
}

#[tokio::test]
async fn keys() -> Result<()> {
    let Some((_server, mut client)) = start("etcd-client: keys").await? else { return Ok(()) };
    client.put("a", "1", None).await?;
    let put = client.put("a", "2", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(put.prev_key().context("no previous pair")?.value(), b"1");
    client.put("ab", "3", None).await?;
    let got = client.get("a", Some(GetOptions::new().with_prefix())).await?;
    let pairs: Vec<_> = got.kvs().iter().map(|kv| (kv.key(), kv.value(), kv.version())).collect();
    assert_eq!(pairs, [(&b"a"[..], &b"2"[..], 2), (b"ab", b"3", 1)]);
    let old = client.get("a", Some(GetOptions::new().with_revision(2))).await?;
    assert_eq!(old.kvs()[0].value(), b"1");
    assert_eq!(client.delete("a", Some(DeleteOptions::new().with_prefix())).await?.deleted(), 2);
    let error = client.get("a", Some(GetOptions::new().with_revision(99))).await.err().context("not refused")?;
    ensure!(error.to_string().contains("required revision is a future revision"), "{error}");
    Ok(())
}

#[tokio::test]
async fn transactions() -> Result<()> {
    let Some((_server, mut client)) = start("etcd-client: transactions").await? else { return Ok(()) };
    client.put("a", "1", None).await?;
    let txn = Txn::new()
        .when([Compare::value("a", CompareOp::Equal, "1")])
        .and_then([TxnOp::put("a", "2", None), TxnOp::get("a", None)])
        .or_else([TxnOp::delete("a", None)]);
    assert!(client.txn(txn.clone()).await?.succeeded());
    assert_eq!(client.get("a", None).await?.kvs()[0].value(), b"2");
    assert!(!client.txn(txn).await?.succeeded());
    assert_eq!(client.get("a", None).await?.count(), 0);
    Ok(())
}

#[tokio::test]
async fn leases() -> Result<()> {
    let Some((_server, mut client)) = start("etcd-client: leases").await? else { return Ok(()) };
    let id = client.lease_grant(60, None).await?.id();
    client.put("held", "x", Some(PutOptions::new().with_lease(id))).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(id).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        assert_eq!(answers.message().await?.context("the stream ended")?.ttl(), 60);
    }
    let left = client.lease_time_to_live(id, Some(LeaseTimeToLiveOptions::new().with_keys())).await?;
    assert_eq!((left.granted_ttl(), left.keys()), (60, &[b"held".to_vec()][..]));
    client.lease_revoke(id).await?;
    assert_eq!(client.get("held", None).await?.count(), 0);
    assert_eq!(client.leases().await?.leases().len(), 0);
    Ok(())
}

/// The revisions of the next events, checked to be puts of this key.
async fn revisions(watch: &mut WatchStream, count: usize) -> Result<Vec<i64>> {
    let mut revisions = Vec::new();
    while revisions.len() < count {
        let response = watch.message().await?.context("the watch ended")?;
        for event in response.events() {
            ensure!(event.event_type() == EventType::Put, "{event:?}");
            let pair = event.kv().context("an event without a pair")?;
            ensure!(pair.key() == b"hello", "{pair:?}");
            revisions.push(pair.mod_revision());
        }
    }
    Ok(revisions)
}

#[tokio::test]
async fn watch_goes_on_where_it_was_after_kill_9() -> Result<()> {
    let Some((mut server, mut client)) = start("etcd-client: watch").await? else { return Ok(()) };
    client.put("hello", "world1", None).await?;
    client.put("hello", "world2", None).await?;
    let mut watch = client.watch("hello", Some(WatchOptions::new().with_start_revision(1))).await?;
    assert_eq!(revisions(&mut watch, 2).await?, [2, 3]);
    client.put("hello", "world3", None).await?;
    assert_eq!(revisions(&mut watch, 1).await?, [4]);
    server.kill();
    ensure!(!matches!(watch.message().await, Ok(Some(_))), "a message from a server that is gone");
    server.restart()?;
    let mut client = Client::connect([server.endpoint()], None).await?;
    client.put("hello", "world4", None).await?;
    let mut watch = client.watch("hello", Some(WatchOptions::new().with_start_revision(5))).await?;
    client.put("hello", "world5", None).await?;
    assert_eq!(revisions(&mut watch, 2).await?, [5, 6]);
    Ok(())
}

#[tokio::test]
async fn maintenance() -> Result<()> {
    let Some((_server, mut client)) = start("etcd-client: maintenance").await? else { return Ok(()) };
    client.put("a", "1", None).await?;
    let status = client.status().await?;
    ensure!(status.version().starts_with("3.") && status.db_size() > 0 && status.leader() != 0, "{status:?}");
    assert_eq!(client.hash_kv(0).await?.hash_revision(), 2);
    client.defragment().await?;
    assert_eq!(client.member_list().await?.members().len(), 1);
    let mut snapshot = client.snapshot().await?;
    let mut bytes = 0;
    while let Some(chunk) = snapshot.message().await? {
        bytes += chunk.blob().len();
    }
    ensure!(bytes > 0, "an empty snapshot");
    Ok(())
}
