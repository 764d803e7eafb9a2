use std::time::Instant;

use super::{all_endpoints, connect_one};
use crate::failure::{Exit, Failure, Result, text};
use crate::go;
use crate::print::show;
use crate::progress::Spinner;
use crate::session::Session;

/// Give the space of deleted history back, member by member
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stentorctl defrag
  stentorctl defrag --cluster --command-timeout=60s")]
pub(crate) struct Args {
    #[arg(hide = true)]
    ignored: Vec<String>,
    /// All members of the cluster
    #[arg(long)]
    cluster: bool,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        let mut failed = false;
        for endpoint in all_endpoints(session, self.cluster).await? {
            let start = Instant::now();
            let spinner = Spinner::start(format!("defragmenting {endpoint}"));
            let result = async { connect_one(session, &endpoint).await?.maintenance().defragment().await }.await;
            drop(spinner);
            let took = go::duration(start.elapsed());
            match result {
                Ok(_) => show(format!("Finished defragmenting etcd member[{endpoint}]. took {took}\n"))?,
                Err(error) => {
                    failed = true;
                    eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({})", text(&error));
                }
            }
        }
        if failed { Err(Failure::silent(Exit::Error)) } else { Ok(()) }
    }
}
