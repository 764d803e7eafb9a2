use std::ffi::OsString;

use stentor_proto::etcdserverpb::WatchCreateRequest;
use tokio::sync::mpsc;

use super::exec::Exec;
use super::watcher::{self, Watcher};
use super::{bytes, key_range, watch_interactive};
use crate::args::int;
use crate::failure::{Failure, Result};
use crate::print::Format;
use crate::session::Session;

/// Watch a key or a range of keys: what changed, and what changes
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
A command after -- is run at each event, with ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY
and ETCD_WATCH_VALUE in its environment. Without a KEY, ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END say
what to watch. A watch survives its connection: it goes on where it was.

Examples:
  stentorctl watch hello
  stentorctl watch hello --rev=1 -w json
  stentorctl watch --prefix /services/ --prev-kv
  stentorctl watch hello -- sh -c 'echo \"$ETCD_WATCH_KEY is $ETCD_WATCH_VALUE\"'
  stentorctl watch -i
  watch hello --rev=1
  progress")]
pub(crate) struct Args {
    /// The key, and where the range [KEY, RANGE_END) ends
    #[arg(value_name = "KEY [RANGE_END]")]
    key_and_end: Vec<OsString>,
    /// All keys that begin with KEY
    #[arg(long)]
    prefix: bool,
    /// From this revision on; 0 for now
    #[arg(long, value_parser = int, default_value = "0")]
    rev: i64,
    /// Show the pair as it was before, too
    #[arg(long)]
    prev_kv: bool,
    /// Ask the server to tell its revision now and then
    #[arg(long)]
    progress_notify: bool,
    /// Read `watch ...` and `progress` lines from standard input
    #[arg(short, long)]
    interactive: bool,
    /// What to run at each event
    #[arg(last = true, value_name = "COMMAND")]
    exec: Vec<OsString>,
}

/// The keys that the environment names.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnvKeys {
    pub(crate) key: Option<OsString>,
    pub(crate) range_end: Option<OsString>,
}

impl EnvKeys {
    fn read() -> EnvKeys {
        let get = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        EnvKeys { key: get("ETCDCTL_WATCH_KEY"), range_end: get("ETCDCTL_WATCH_RANGE_END") }
    }
}

impl Args {
    /// The watch that the arguments mean, with the environment's keys where they name none.
    pub(crate) fn watcher(self, env: &EnvKeys) -> Result<Watcher> {
        let mut keys = self.key_and_end;
        if env.key.is_some() {
            if !keys.is_empty() {
                return Err(Failure::args("bad number of arguments (found conflicting environment key)"));
            }
            keys.extend(env.key.clone());
            keys.extend(env.range_end.clone());
        }
        let (key, end) = match keys.as_slice() {
            [key] => (bytes(key), None),
            [_, _] if self.prefix => return Err(Failure::args("`range_end` and `--prefix` are mutually exclusive")),
            [key, end] => (bytes(key), Some(bytes(end))),
            _ => return Err(Failure::args("bad number of arguments")),
        };
        let (key, range_end) = key_range(key, end, self.prefix, false)?.to_wire();
        Ok(Watcher {
            request: WatchCreateRequest {
                key,
                range_end,
                start_revision: self.rev,
                prev_kv: self.prev_kv,
                progress_notify: self.progress_notify,
                ..Default::default()
            },
            exec: Exec::new(&self.exec),
        })
    }

    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        session.printer.refuse(Format::Table)?;
        let env = EnvKeys::read();
        if self.interactive {
            return watch_interactive::run(session, &env).await;
        }
        let (_progress, asked) = mpsc::channel(1);
        self.watcher(&env)?.run(session, asked).await?;
        Err(watcher::canceled())
    }
}
