//! The command that a watch runs at each event.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

use stentor_proto::etcdserverpb::WatchResponse;

use crate::failure::{Exit, Failure, Result, io_text};
use crate::go;
use crate::print::event_type;

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Exec {
    program: OsString,
    args: Vec<OsString>,
}

impl Exec {
    /// `None` without a program.
    pub(crate) fn new(words: &[OsString]) -> Option<Exec> {
        let (program, args) = words.split_first()?;
        Some(Exec { program: program.clone(), args: args.to_vec() })
    }

    /// Runs it once for each event, with the event in its environment. If it fails the watch is over.
    pub(crate) async fn run(&self, response: &WatchResponse) -> Result<()> {
        let revision = response.header.as_ref().map_or(0, |h| h.revision);
        for event in &response.events {
            let kv = event.kv.clone().unwrap_or_default();
            let mut command = Command::new(&self.program);
            command
                .args(&self.args)
                .stdin(Stdio::null())
                .env("ETCD_WATCH_REVISION", revision.to_string())
                .env("ETCD_WATCH_EVENT_TYPE", go::quote(event_type(event).as_bytes()))
                .env("ETCD_WATCH_KEY", go::quote(&kv.key))
                .env("ETCD_WATCH_VALUE", go::quote(&kv.value));
            let run = tokio::task::spawn_blocking(move || command.status()).await;
            let cause = match run {
                Ok(Ok(status)) if status.success() => continue,
                Ok(Ok(status)) => ended(status),
                Ok(Err(error)) => self.not_started(&error),
                Err(_) => "interrupted".to_owned(),
            };
            eprintln!("command [{}] error ({cause})", self.quoted());
            return Err(Failure::silent(Exit::Error));
        }
        Ok(())
    }

    fn quoted(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|w| go::quote(w.as_bytes())).collect::<Vec<_>>().join(" ")
    }

    fn not_started(&self, error: &std::io::Error) -> String {
        let program = self.program.to_string_lossy();
        let cause = io_text(error);
        if program.contains('/') {
            format!("fork/exec {program}: {cause}")
        } else {
            format!("exec: {}: executable file not found in $PATH", go::quote(program.as_bytes()))
        }
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => status.to_string(),
    }
}
