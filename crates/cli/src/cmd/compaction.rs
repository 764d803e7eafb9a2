use stentor_proto::etcdserverpb::CompactionRequest;

use crate::failure::{Exit, Failure, Result};
use crate::go;
use crate::print::show;
use crate::session::Session;

/// Drop history below a revision
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stentorctl compaction 1200
  stentorctl compaction --physical 1200")]
pub(crate) struct Args {
    /// Reads and watches below this revision fail from now on
    #[arg(value_name = "REVISION")]
    revision: Vec<String>,
    /// Wait until the space work is done
    #[arg(long)]
    physical: bool,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        let [revision] = self.revision.as_slice() else {
            return Err(Failure::args("compaction command needs 1 argument"));
        };
        let revision = go::parse_int(revision, 10).map_err(|cause| Failure::new(Exit::Error, cause))?;
        let client = session.connect().await?;
        client.kv().compact(CompactionRequest { revision, physical: self.physical }).await?;
        show(format!("compacted revision {revision}\n"))
    }
}
