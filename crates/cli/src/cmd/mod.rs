//! The commands, one a file.

pub(crate) mod alarm;
pub(crate) mod check;
pub(crate) mod compaction;
pub(crate) mod completion;
pub(crate) mod defrag;
pub(crate) mod del;
pub(crate) mod endpoint;
pub(crate) mod exec;
pub(crate) mod get;
pub(crate) mod lease;
pub(crate) mod log;
pub(crate) mod member;
pub(crate) mod put;
pub(crate) mod snapshot;
pub(crate) mod txn;
pub(crate) mod txn_grammar;
pub(crate) mod version;
pub(crate) mod watch;
pub(crate) mod watch_interactive;
pub(crate) mod watcher;
pub(crate) mod watchers;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use bytes::Bytes;
use stentor_client::raw::Client;
use stentor_proto::KeyRange;

use crate::args::Command;
use crate::failure::{Failure, Result};
use crate::go;
use crate::session::Session;

/// Runs a command to its end.
pub(crate) async fn run(command: Command, session: &Session) -> Result<()> {
    match command {
        Command::Get(args) => args.run(session).await,
        Command::Put(args) => args.run(session).await,
        Command::Del(args) => args.run(session).await,
        Command::Txn(args) => args.run(session).await,
        Command::Watch(args) => args.run(session).await,
        Command::Watchers(args) => args.run(session).await,
        Command::Compaction(args) => args.run(session).await,
        Command::Lease(args) => args.run(session).await,
        Command::Endpoint(args) => args.run(session).await,
        Command::Log(args) => args.run(),
        Command::Member(args) => args.run(session).await,
        Command::Snapshot(args) => args.run(session).await,
        Command::Defrag(args) => args.run(session).await,
        Command::Alarm(args) => args.run(session).await,
        Command::Check(args) => args.run(session).await,
        Command::Version(_) => version::run(),
        Command::Completion(args) => args.run(),
    }
}

/// The bytes of an argument, which need not be UTF-8.
fn bytes(argument: &OsStr) -> Bytes {
    Bytes::copy_from_slice(argument.as_bytes())
}

/// A lease's id from the command line.
fn lease_id(text: &str, what: &str) -> Result<i64> {
    go::parse_int(text, 16).map_err(|cause| Failure::args(format!("bad lease ID {what}({cause}), expecting ID in Hex")))
}

/// `l` or `s`.
fn linearizable(consistency: &str) -> Result<bool> {
    match consistency {
        "l" => Ok(true),
        "s" => Ok(false),
        other => Err(Failure::new(
            crate::failure::Exit::BadFeature,
            format!("unknown consistency flag {}", go::quote(other.as_bytes())),
        )),
    }
}

/// The range that a key, an optional range end, `--prefix` and `--from-key` mean.
fn key_range(key: Bytes, end: Option<Bytes>, prefix: bool, from_key: bool) -> Result<KeyRange> {
    if prefix && from_key {
        return Err(Failure::args("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    match end {
        Some(_) if prefix || from_key => {
            Err(Failure::args("too many arguments, only accept one argument when `--prefix` or `--from-key` is set"))
        }
        Some(end) => Ok(KeyRange::from_wire(key, end)),
        None if prefix => Ok(KeyRange::prefix(key)),
        None if from_key && key.is_empty() => Ok(KeyRange::all()),
        None if from_key => Ok(KeyRange::from_key(key)),
        None => Ok(KeyRange::key(key)),
    }
}

/// The endpoints to ask one by one: those given, or with `--cluster` those of all members.
async fn all_endpoints(session: &Session, cluster: bool) -> Result<Vec<String>> {
    if session.endpoints.is_empty() {
        return Err(stentor_client::raw::Error::NoEndpoint.into());
    }
    if !cluster {
        return Ok(session.endpoints.clone());
    }
    let fetch = async {
        let client = session.connect_to(&session.endpoints).await?;
        client.cluster().member_list(true).await
    };
    let members = fetch.await.map_err(|e| {
        let cause = crate::failure::text(&e);
        Failure::new(
            crate::failure::Exit::Error,
            format!("failed to fetch endpoints from etcd cluster member list: {cause}"),
        )
    })?;
    Ok(members.members.into_iter().flat_map(|m| m.client_ur_ls).collect())
}

/// Connects to this endpoint and no other.
async fn connect_one(session: &Session, endpoint: &str) -> stentor_client::raw::Result<Client> {
    session.connect_to(&[endpoint.to_owned()]).await
}
