//! One of many instances leads, and all know who.
//!
//! ```text
//! cargo run -p stentor-client --example leader_election -- 127.0.0.1:2379 10.0.0.1:80
//! etcdctl elect -l /leader/billing
//! ```
//!
//! Arguments: the endpoints, separated by commas; the address of this instance.

use std::error::Error;
use std::time::Duration;

use stentor_client::{Client, ErrorKind, Leadership};

const ELECTION: &str = "/leader/billing";

/// How long the others wait for a leader that has died without a word.
const TTL: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "a test includes this file for the rest of it")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let endpoints = args.next().unwrap_or_else(|| "127.0.0.1:2379".to_owned());
    let address = args.next().unwrap_or_else(|| "10.0.0.1:80".to_owned());
    let client = Client::connect(endpoints.split(',')).await?;
    let lead = async |_: &Leadership| {
        println!("leading");
        std::future::pending().await
    };
    tokio::select! {
        ended = stand(&client, &address, lead) => ended?,
        ended = follow(&client, |leader| println!("leader: {leader:?}")) => ended?,
    }
    Ok(())
}

/// Stands for election again and again, and leads whenever it is elected, until `lead` is through.
pub(crate) async fn stand(
    client: &Client,
    address: &str,
    mut lead: impl AsyncFnMut(&Leadership),
) -> stentor_client::Result<()> {
    let election = client.election(ELECTION);
    loop {
        let leadership = match election.campaign(address.to_owned()).ttl(TTL).await {
            Ok(leadership) => leadership,
            // Cut off for so long that its candidacy has ended, or no server just now.
            Err(error) if error.is_retryable() || *error.kind() == ErrorKind::LeaseLost => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        tokio::select! {
            () = lead(&leadership) => return leadership.resign().await,
            // What it did as the leader ends with its future. It may have been seen as the leader for longer
            // than it was: what must not happen twice goes through `leadership.txn()`.
            why = leadership.lost() => eprintln!("not the leader any more: {why}"),
        }
    }
}

/// Tells who leads, whenever that changes.
pub(crate) async fn follow(client: &Client, mut tell: impl FnMut(Option<&str>)) -> stentor_client::Result<()> {
    let mut leaders = client.election(ELECTION).observe().await?;
    while let Some(leader) = leaders.next().await {
        tell(leader?.as_ref().and_then(|leader| leader.value_str()));
    }
    Ok(())
}
