//! A task agent: does what is put under `/task/HOST`, and misses nothing of it, whatever happens to the
//! connection, to the server and to the history of the store.
//!
//! ```text
//! cargo run -p stentor-client --example task_agent -- 127.0.0.1:2379 10.0.0.1
//! stentorctl put /task/10.0.0.1/backup nightly
//! ```

use std::collections::BTreeMap;

use stentor_client::{Client, ErrorKind, Event, KeyRange, Listing, Result};

/// What an agent is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A task is new, or is another one than before.
    Start(String, String),
    /// A task is gone.
    Stop(String),
}

/// The tasks that this host has now, by key.
#[derive(Default)]
struct Tasks(BTreeMap<String, String>);

/// Hands over every order for `host`, until the client is closed.
pub(crate) async fn follow(client: &Client, host: &str, mut order: impl FnMut(Order)) -> Result<()> {
    // The tasks of 10.0.0.1 are not those of 10.0.0.10.
    let range = KeyRange::segment(format!("/task/{host}"));
    let mut tasks = Tasks::default();
    loop {
        let now = client.list(range.clone()).await?;
        let from = now.revision();
        tasks.replace(now, &mut order);
        let mut changes = match client.watch(range.clone()).after(from).await {
            Ok(watch) => watch.into_events(),
            Err(error) if is_compacted(error.kind()) => continue,
            Err(error) => return Err(error),
        };
        loop {
            match changes.next().await {
                Some(Ok(change)) => tasks.apply(&change, &mut order),
                // The history since the last change is gone: what there is now tells what it came to.
                Some(Err(error)) if is_compacted(error.kind()) => break,
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }
}

fn is_compacted(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Compacted { .. })
}

impl Tasks {
    fn replace(&mut self, list: Listing, order: &mut impl FnMut(Order)) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let now: BTreeMap<_, _> = list.into_iter().map(|pair| (text(pair.key()), text(pair.value()))).collect();
        for key in self.0.keys().filter(|key| !now.contains_key(*key)) {
            order(Order::Stop(key.clone()));
        }
        for (key, task) in now.iter().filter(|(key, task)| self.0.get(*key) != Some(task)) {
            order(Order::Start(key.clone(), task.clone()));
        }
        self.0 = now;
    }

    fn apply(&mut self, change: &Event, order: &mut impl FnMut(Order)) {
        let key = String::from_utf8_lossy(change.kv().key()).into_owned();
        if change.is_delete() {
            self.0.remove(&key);
            order(Order::Stop(key));
        } else {
            let task = String::from_utf8_lossy(change.kv().value()).into_owned();
            self.0.insert(key.clone(), task.clone());
            order(Order::Start(key, task));
        }
    }
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "a test includes this file for the rest of it")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoints), Some(host)) = (arguments.next(), arguments.next()) else {
        return Err("usage: task_agent ENDPOINT[,ENDPOINT...] HOST".into());
    };
    let client = Client::connect(endpoints.split(',')).await?;
    follow(&client, &host, |order| println!("{order:?}")).await?;
    Ok(())
}
