//! A job that only one of many programs does at a time, and whose result no late one can overwrite.
//!
//! ```text
//! cargo run -p stentor-client --example distributed_lock -- 127.0.0.1:2379 this-host
//! etcdctl lock /locks/report
//! ```
//!
//! Arguments: the endpoints, separated by commas; a name to sign the report with.

use std::error::Error;
use std::time::Duration;

use stentor_client::txn::put;
use stentor_client::{Client, ErrorKind, LockGuard};

const LOCK: &str = "/locks/report";
const REPORT: &str = "/reports/latest";

/// What became of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The report is written.
    Written,
    /// The lock was lost on the way, and nothing was written: somebody else does the job.
    Lost(String),
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "a test includes this file for the rest of it")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let endpoints = args.next().unwrap_or_else(|| "127.0.0.1:2379".to_owned());
    let name = args.next().unwrap_or_else(|| "somebody".to_owned());
    let client = Client::connect(endpoints.split(',')).await?;
    let work = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        format!("all is well, says {name}")
    };
    println!("{:?}", run(&client, work).await?);
    Ok(())
}

/// Waits for the lock, works, and writes the report if the lock is still held then.
pub(crate) async fn run(client: &Client, work: impl Future<Output = String>) -> stentor_client::Result<Done> {
    let guard = client.lock(LOCK).ttl(Duration::from_secs(10)).await?;
    let report = tokio::select! {
        report = work => report,
        // The work ends here when the lock may be somebody else's. Not every work can: what it writes must
        // not count then, and that is what the transaction below sees to.
        why = guard.lost() => return Ok(Done::Lost(why.to_string())),
    };
    let done = match write(&guard, report).await? {
        true => Done::Written,
        false => Done::Lost("it was somebody else's when the report was ready".to_owned()),
    };
    match guard.unlock().await {
        // Lost between the report and now, which does no harm.
        Err(error) if *error.kind() != ErrorKind::LeaseLost => Err(error),
        _ => Ok(done),
    }
}

/// Whether it was written: the store compares and writes in one.
async fn write(guard: &LockGuard, report: String) -> stentor_client::Result<bool> {
    Ok(guard.txn().then(put(REPORT, report)).await?.succeeded)
}
