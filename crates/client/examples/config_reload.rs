//! Settings that can be changed while a program runs.
//!
//! ```text
//! cargo run -p stentor-client --example config_reload -- 127.0.0.1:2379
//! etcdctl put /config/app/limit 20
//! ```
//!
//! Arguments: the endpoints, separated by commas; after how many changes to end (never, if not given).

use std::error::Error;
use std::io::Write;
use std::num::ParseIntError;

use stentor_client::{Client, Entry, KeyRange, KeyValue, Reflector, SubscriptionItem};

const SETTINGS: &str = "/config/app/";

/// What counts as long as the store says nothing else.
const DEFAULT_LIMIT: u32 = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let endpoints = args.next().unwrap_or_else(|| "127.0.0.1:2379".to_owned());
    let changes = args.next().map_or(Ok(usize::MAX), |changes| changes.parse())?;
    let client = Client::connect(endpoints.split(',')).await?;
    run(&client, changes, &mut std::io::stdout()).await
}

/// Shows the limit as it is, and then after each of so many changes.
pub(crate) async fn run(client: &Client, changes: usize, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let settings = client.reflect(KeyRange::prefix(SETTINGS)).decode(number).start();
    settings.ready().await?;

    let (_, mut coming) = settings.subscribe();
    writeln!(out, "the limit is {}", limit(&settings))?;
    let mut seen = 0;
    while seen < changes {
        let Some(item) = coming.next().await else { break };
        if let SubscriptionItem::Changes(revision) = item? {
            seen += revision.changes().len();
            writeln!(out, "the limit is {}", limit(&settings))?;
        }
        // What somebody mistyped is not in the copy; it is to be found here.
        for bad in settings.undecodable() {
            writeln!(out, "{} is no number: {}", bad.pair().key_str().unwrap_or("?"), bad.reason())?;
        }
    }
    Ok(())
}

/// Where the program needs it. It costs no call.
fn limit(settings: &Reflector<Entry<u32>>) -> u32 {
    settings.get(format!("{SETTINGS}limit")).map_or(DEFAULT_LIMIT, |limit| *limit.value())
}

fn number(pair: &KeyValue) -> Result<u32, ParseIntError> {
    pair.value_str().unwrap_or_default().trim().parse()
}
