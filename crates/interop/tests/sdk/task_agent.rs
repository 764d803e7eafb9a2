//! The example of a task agent misses no task.

use anyhow::{Result, ensure};
use stentor_interop::proxy::Mode;
use stentor_proto::etcdserverpb::CompactionRequest;
use tokio::sync::mpsc;

use crate::rig::{SERVERS, start, until, within};
use example::Order;

#[path = "../../../client/examples/task_agent.rs"]
mod example;

async fn misses_nothing(variable: &str) -> Result<()> {
    let Some(mut rig) = start(variable, "the task agent").await? else { return Ok(()) };
    rig.put("/task/10.0.0.1/old", "early").await?;
    rig.put("/task/10.0.0.10/other", "not ours").await?;
    let (heard, mut orders) = mpsc::unbounded_channel();
    let client = rig.client.clone();
    let agent = tokio::spawn(async move {
        example::follow(&client, "10.0.0.1", |order| {
            let _ = heard.send(order);
        })
        .await
    });
    let mut next = async || within("an order", orders.recv()).await;
    let begin = |key: &str, task: &str| Some(Order::Start(format!("/task/10.0.0.1{key}"), task.to_owned()));
    let end = |key: &str| Some(Order::Stop(format!("/task/10.0.0.1{key}")));
    assert_eq!(next().await?, begin("/old", "early"));

    // A restart, with tasks before and after it.
    rig.put("/task/10.0.0.1", "itself").await?;
    rig.kill_and_restart().await?;
    rig.put("/task/10.0.0.1/new", "1").await?;
    rig.delete("/task/10.0.0.1/old").await?;
    assert_eq!(next().await?, begin("", "itself"));
    assert_eq!(next().await?, begin("/new", "1"));
    assert_eq!(next().await?, end("/old"));

    // Cut off while tasks change.
    rig.proxies.iter().for_each(|proxy| proxy.set(Mode::Refusing));
    rig.put("/task/10.0.0.1/new", "2").await?;
    rig.put("/task/10.0.0.10/other", "still not ours").await?;
    rig.put("/task/10.0.0.1/new", "3").await?;
    rig.proxies.iter().for_each(|proxy| proxy.set(Mode::Open));
    assert_eq!(next().await?, begin("/new", "2"));
    assert_eq!(next().await?, begin("/new", "3"));

    // The same, and history is compacted meanwhile: what there is then is told.
    rig.proxies.iter().for_each(|proxy| proxy.set(Mode::Refusing));
    until("no connection", || rig.proxies.iter().all(|proxy| proxy.connections() == 0)).await?;
    rig.delete("/task/10.0.0.1").await?;
    rig.put("/task/10.0.0.1/new", "4").await?;
    let last = rig.put("/task/10.0.0.1/new", "5").await?;
    rig.direct.kv.compact(CompactionRequest { revision: last, physical: true }).await?;
    rig.proxies.iter().for_each(|proxy| proxy.set(Mode::Open));
    assert_eq!(next().await?, end(""));
    assert_eq!(next().await?, begin("/new", "5"));

    rig.put("/task/10.0.0.1/last", "x").await?;
    assert_eq!(next().await?, begin("/last", "x"));
    rig.client.close_watches();
    let ended = within("the agent's end", agent).await??;
    ensure!(ended.is_err(), "closed is told");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_stentor() -> Result<()> {
    misses_nothing(SERVERS[0]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_etcd_3_4() -> Result<()> {
    misses_nothing(SERVERS[1]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_etcd_3_5() -> Result<()> {
    misses_nothing(SERVERS[2]).await
}
