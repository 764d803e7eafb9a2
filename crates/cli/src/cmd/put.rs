use std::ffi::OsString;
use std::io::Read;

use bytes::Bytes;
use stentor_proto::etcdserverpb::PutRequest;

use super::{bytes, lease_id};
use crate::failure::{Failure, Result};
use crate::print::{Format, show};
use crate::session::Session;

/// Put a value at a key
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a VALUE it is read from standard input. A VALUE that begins with a dash needs -- before it.

Examples:
  stentorctl put hello world
  stentorctl put key -- --value
  cat config.json | stentorctl put config
  stentorctl put session alive --lease=694d5765fc71500b
  stentorctl put hello again --prev-kv")]
pub(crate) struct Args {
    /// The key and its value
    #[arg(value_name = "KEY [VALUE]")]
    pub(crate) key_and_value: Vec<OsString>,
    /// The lease to attach the key to, in hexadecimal
    #[arg(long, default_value = "0", value_name = "ID")]
    lease: String,
    /// Return the pair as it was before
    #[arg(long)]
    prev_kv: bool,
    /// Keep the current value
    #[arg(long)]
    ignore_value: bool,
    /// Keep the current lease
    #[arg(long)]
    ignore_lease: bool,
}

impl Args {
    /// The request that the arguments mean; a missing value is read from `input`.
    pub(crate) fn request(&self, input: impl Read) -> Result<PutRequest> {
        let usage = || Failure::args("put command needs 1 argument and input from stdin or 2 arguments");
        let key = self.key_and_value.first().ok_or_else(usage)?;
        let value = match self.key_and_value.get(1) {
            Some(_) if self.ignore_value => {
                return Err(Failure::args("put command needs only 1 argument when 'ignore-value' is set"));
            }
            Some(value) => bytes(value),
            None if self.ignore_value => Bytes::new(),
            None => read_all(input).ok_or_else(usage)?,
        };
        Ok(PutRequest {
            key: bytes(key),
            value,
            lease: lease_id(&self.lease, "")?,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }

    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        session.printer.refuse(Format::Table)?;
        let request = self.request(std::io::stdin().lock())?;
        let response = session.connect().await?.kv().put(request).await?;
        show(session.printer.put(&response))
    }
}

/// Everything there is to read; `None` if that is nothing.
fn read_all(mut input: impl Read) -> Option<Bytes> {
    let mut value = Vec::new();
    input.read_to_end(&mut value).ok()?;
    (!value.is_empty()).then(|| value.into())
}
