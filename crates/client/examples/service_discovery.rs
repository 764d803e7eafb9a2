//! Which instances of a service there are, at any time.
//!
//! ```text
//! cargo run -p stentor-client --example service_discovery -- 127.0.0.1:2379
//! etcdctl put /services/web/1 10.0.0.1:80
//! ```
//!
//! Arguments: the endpoints, separated by commas; after how many changes to end (never, if not given).

use std::error::Error;
use std::io::Write;

use stentor_client::{Change, Client, KeyRange, KeyValue, SubscriptionItem};

/// Each instance puts its address under a key of its own, with a lease, so that it goes with the instance.
const INSTANCES: &str = "/services/web/";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let endpoints = args.next().unwrap_or_else(|| "127.0.0.1:2379".to_owned());
    let changes = args.next().map_or(Ok(usize::MAX), |changes| changes.parse())?;
    let client = Client::connect(endpoints.split(',')).await?;
    run(&client, changes, &mut std::io::stdout()).await
}

/// Shows what there is, and then so many changes.
pub(crate) async fn run(client: &Client, changes: usize, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let instances = client.reflect(KeyRange::prefix(INSTANCES)).start();
    instances.ready().await?;

    // What there is, and everything after it. Whoever only needs the current list now and then asks
    // `instances.snapshot()` or `instances.get(key)`: no call is made for it.
    let (now, mut coming) = instances.subscribe();
    for instance in &now {
        writeln!(out, "{} at {}", name(instance), address(instance))?;
    }
    let mut seen = 0;
    while seen < changes {
        let Some(item) = coming.next().await else { break };
        // An error is the last item. Broken connections, lost members and compaction are none.
        let SubscriptionItem::Changes(revision) = item? else { continue };
        for change in &revision {
            seen += 1;
            match change {
                Change::Added(new) => writeln!(out, "{} came, at {}", name(new), address(new))?,
                Change::Updated { new, .. } => writeln!(out, "{} is now at {}", name(new), address(new))?,
                Change::Removed(old) => writeln!(out, "{} left", name(old))?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn name(instance: &KeyValue) -> &str {
    instance.key_str().unwrap_or("?")
}

fn address(instance: &KeyValue) -> &str {
    instance.value_str().unwrap_or("?")
}
