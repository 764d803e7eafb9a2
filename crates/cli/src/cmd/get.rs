use std::ffi::OsString;

use stentor_client::raw::{Client, proto::etcdserverpb::RangeRequest, proto::etcdserverpb::RangeResponse};
use stentor_proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::{bytes, key_range, linearizable};
use crate::args::int;
use crate::failure::{Exit, Failure, Result};
use crate::print::{Format, show};
use crate::session::Session;

/// Get a key or a range of keys
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stentorctl get hello
  stentorctl get --prefix /services/ --limit 10
  stentorctl get --prefix '' --keys-only
  stentorctl get a c --sort-by MODIFY --order DESCEND
  stentorctl get hello --rev 2 -w json
  stentorctl get --prefix '' --count-only -w fields")]
pub(crate) struct Args {
    /// The key, and where the range [KEY, RANGE_END) ends
    #[arg(value_name = "KEY [RANGE_END]")]
    pub(crate) key_and_end: Vec<OsString>,
    /// All keys that begin with KEY
    #[arg(long)]
    pub(crate) prefix: bool,
    /// All keys from KEY on
    #[arg(long)]
    from_key: bool,
    /// At most this many; 0 for all
    #[arg(long, value_parser = int, default_value = "0")]
    limit: i64,
    /// As of this revision; 0 for the current one
    #[arg(long, value_parser = int, default_value = "0")]
    pub(crate) rev: i64,
    /// ASCEND or DESCEND
    #[arg(long, default_value = "", hide_default_value = true)]
    order: String,
    /// CREATE, KEY, MODIFY, VALUE or VERSION
    #[arg(long, default_value = "", hide_default_value = true)]
    sort_by: String,
    /// Linearizable (l) or serializable (s)
    #[arg(long, default_value = "l")]
    consistency: String,
    /// Only the keys
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Only the count; with `-w fields`
    #[arg(long)]
    count_only: bool,
    /// Only the values; with `-w simple`
    #[arg(long)]
    print_value_only: bool,
    /// Only keys changed at or above this revision
    #[arg(long, value_parser = int, default_value = "0")]
    min_mod_rev: i64,
    /// Only keys changed at or below this revision
    #[arg(long, value_parser = int, default_value = "0")]
    max_mod_rev: i64,
    /// Only keys created at or above this revision
    #[arg(long, value_parser = int, default_value = "0")]
    min_create_rev: i64,
    /// Only keys created at or below this revision
    #[arg(long, value_parser = int, default_value = "0")]
    max_create_rev: i64,
    /// Fetch in chunks, for ranges too large for one answer
    #[arg(long)]
    stream: bool,
}

impl Args {
    /// The request that the arguments mean.
    pub(crate) fn request(&self) -> Result<RangeRequest> {
        let Some(key) = self.key_and_end.first() else {
            return Err(Failure::args("get command needs one argument as key and an optional argument as range_end"));
        };
        let end = self.key_and_end.get(1).map(|e| bytes(e));
        let (key, range_end) = key_range(bytes(key), end, self.prefix, self.from_key)?.to_wire();
        if self.keys_only && self.count_only {
            return Err(Failure::args("`--keys-only` and `--count-only` cannot be set at the same time, choose one"));
        }
        let linearizable = linearizable(&self.consistency)?;
        let target = self.sort_target()?;
        Ok(RangeRequest {
            key,
            range_end,
            limit: self.limit,
            revision: self.rev.max(0),
            sort_order: self.sort_order(target)?.into(),
            sort_target: target.into(),
            serializable: !linearizable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_rev,
            max_mod_revision: self.max_mod_rev,
            min_create_revision: self.min_create_rev,
            max_create_revision: self.max_create_rev,
        })
    }

    fn sort_order(&self, target: SortTarget) -> Result<SortOrder> {
        match self.order.to_uppercase().as_str() {
            "" => Ok(SortOrder::None),
            // Keys come in this order anyway, and unsorted the server may stop at the limit.
            "ASCEND" if target == SortTarget::Key => Ok(SortOrder::None),
            "ASCEND" => Ok(SortOrder::Ascend),
            "DESCEND" => Ok(SortOrder::Descend),
            _ => Err(Failure::new(Exit::BadFeature, format!("bad sort order {}", self.order))),
        }
    }

    fn sort_target(&self) -> Result<SortTarget> {
        match self.sort_by.to_uppercase().as_str() {
            "" | "KEY" => Ok(SortTarget::Key),
            "CREATE" => Ok(SortTarget::Create),
            "MODIFY" => Ok(SortTarget::Mod),
            "VALUE" => Ok(SortTarget::Value),
            "VERSION" => Ok(SortTarget::Version),
            _ => Err(Failure::new(Exit::BadFeature, format!("bad sort target {}", self.sort_by))),
        }
    }

    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        let request = self.request()?;
        let format = session.printer.format;
        if self.count_only && format != Format::Fields {
            return Err(Failure::args("--count-only is only for `--write-out=fields`"));
        }
        if self.print_value_only && format != Format::Simple {
            return Err(Failure::args("print-value-only is only for `--write-out=simple`"));
        }
        session.printer.refuse(Format::Table)?;
        let client = session.connect().await?;
        let response = if self.stream { stream(&client, request).await? } else { client.kv().range(request).await? };
        show(session.printer.get(&response, self.print_value_only))
    }
}

/// Fetches a range in chunks and puts them together.
async fn stream(client: &Client, request: RangeRequest) -> Result<RangeResponse> {
    let mut chunks = client.kv().range_stream(request).await?;
    let mut whole = RangeResponse::default();
    while let Some(chunk) = chunks.next().await? {
        whole.kvs.extend(chunk.kvs);
        whole.header = chunk.header.or(whole.header);
        whole.more |= chunk.more;
        whole.count = whole.count.max(chunk.count);
    }
    Ok(whole)
}
