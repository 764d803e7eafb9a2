//! Each fault does what it says, to a client that goes on or is told.

use std::time::Duration;

use stentor_client::{Client, ErrorKind, Events, KeyRange};
use stentor_testkit::{TestError, TestServer};

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

/// By a paused clock.
const PATIENCE: Duration = Duration::from_secs(60);

async fn value(events: &mut Events) -> std::result::Result<String, Box<dyn std::error::Error>> {
    let event = tokio::time::timeout(PATIENCE, events.next()).await?.ok_or("it ended")??;
    Ok(event.kv().value_str().unwrap_or_default().to_owned())
}

async fn kind(events: &mut Events) -> std::result::Result<ErrorKind, Box<dyn std::error::Error>> {
    match tokio::time::timeout(PATIENCE, events.next()).await? {
        Some(Err(error)) => Ok(error.kind().clone()),
        other => Err(format!("{other:?} instead of an error").into()),
    }
}

async fn watching(server: &TestServer) -> std::result::Result<(Client, Events), Box<dyn std::error::Error>> {
    let client = server.client();
    let first = server.put("a", "1").await?;
    let mut events = client.watch(KeyRange::key("a")).from(first).await?.into_events();
    assert_eq!(value(&mut events).await?, "1");
    Ok((client, events))
}

#[tokio::test(start_paused = true)]
async fn a_watch_survives_cuts_restarts_and_a_stop() -> Result {
    let server = TestServer::start().await?;
    let (client, mut events) = watching(&server).await?;
    server.cut();
    server.put("a", "2").await?;
    assert_eq!(value(&mut events).await?, "2");
    server.restart().await?;
    server.put("a", "3").await?;
    assert_eq!(value(&mut events).await?, "3");
    server.unreachable();
    server.put("a", "4").await?;
    assert!(client.get("a").await.is_err());
    server.reachable();
    assert_eq!(value(&mut events).await?, "4");
    assert_eq!(client.get("a").await?.ok_or("no pair")?.version(), 4);
    server.halt().await;
    assert!(matches!(server.put("a", "5").await, Err(TestError::Stopped)));
    server.restart().await?;
    server.put("a", "6").await?;
    assert_eq!(value(&mut events).await?, "6");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn compaction_in_its_absence_ends_a_watch() -> Result {
    let server = TestServer::start().await?;
    let (_client, mut events) = watching(&server).await?;
    server.unreachable();
    server.put("a", "2").await?;
    server.put("a", "3").await?;
    let at = server.compact().await?;
    assert!(matches!(server.compact().await, Err(TestError::Refused(_))));
    server.reachable();
    assert_eq!(kind(&mut events).await?, ErrorKind::Compacted { at });
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_ends_a_watch() -> Result {
    let server = TestServer::start().await?;
    let (client, mut events) = watching(&server).await?;
    let saved = server.save()?;
    let before = server.revision();
    server.put("a", "2").await?;
    assert_eq!(value(&mut events).await?, "2");
    server.restore(&saved).await?;
    assert_eq!(server.revision(), before);
    assert!(matches!(kind(&mut events).await?, ErrorKind::HistoryReset { .. }));
    assert_eq!(client.get("a").await?.ok_or("no pair")?.value_str(), Some("1"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_started_or_ended_is_said() -> Result {
    assert!(matches!(TestServer::start_with(&["--no-such-flag"]).await, Err(TestError::Flags(_))));
    let server = TestServer::start().await?;
    assert!(matches!(server.expire_lease(7).await, Err(TestError::Refused(_))));
    Ok(())
}
