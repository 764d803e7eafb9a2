use std::ffi::OsString;
use std::time::Duration;

use stentor_proto::etcdserverpb::DeleteRangeRequest;

use super::{bytes, key_range};
use crate::failure::{Failure, Result};
use crate::go;
use crate::print::{Format, show};
use crate::session::Session;

/// Delete a key or a range of keys
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stentorctl del hello
  stentorctl del --prefix /services/
  stentorctl del a c --range
  stentorctl del hello --prev-kv")]
pub(crate) struct Args {
    /// The key, and where the range [KEY, RANGE_END) ends
    #[arg(value_name = "KEY [RANGE_END]")]
    key_and_end: Vec<OsString>,
    /// All keys that begin with KEY
    #[arg(long)]
    prefix: bool,
    /// All keys from KEY on
    #[arg(long)]
    from_key: bool,
    /// Return the pairs deleted
    #[arg(long)]
    prev_kv: bool,
    /// A range is meant: do not wait before deleting it
    #[arg(long)]
    range: bool,
}

/// Time to think again when a second key was given where a range end stands.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

impl Args {
    /// The request that the arguments mean.
    pub(crate) fn request(&self) -> Result<DeleteRangeRequest> {
        let (key, end) = match self.key_and_end.as_slice() {
            [key] => (key, None),
            [key, end] => (key, Some(bytes(end))),
            _ => {
                let usage = "del command needs one argument as key and an optional argument as range_end";
                return Err(Failure::args(usage));
            }
        };
        let (key, range_end) = key_range(bytes(key), end, self.prefix, self.from_key)?.to_wire();
        Ok(DeleteRangeRequest { key, range_end, prev_kv: self.prev_kv })
    }

    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        session.printer.refuse(Format::Table)?;
        let request = self.request()?;
        if self.key_and_end.len() > 1 && !self.range {
            eprintln!(
                "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next {} \
                 seconds to cancel. You can provide `--range` flag to avoid the delay.",
                go::quote(&request.key),
                go::quote(&request.range_end),
                SECOND_THOUGHTS.as_secs(),
            );
            tokio::time::sleep(SECOND_THOUGHTS).await;
        }
        let response = session.connect().await?.kv().delete_range(request).await?;
        show(session.printer.del(&response))
    }
}
