//! `stentorctl`: the command line client of Stentor, with etcdctl's commands, output and exit codes.
//!
//! Where versions of etcdctl differ it follows 3.7, except that a watch's JSON is that of 3.4 and 3.5 (no
//! `CancelReason`, no events as `[]`). On purpose it differs from all of them so:
//! - a format that a command cannot show is refused before the command does anything;
//! - an unknown command below `lease`, `endpoint` and the like is an error, not a help page;
//! - a third argument of `watch` is an error, not ignored;
//! - `txn` compares leases, in hexadecimal, and an unknown operator is an error (etcdctl panics at both);
//! - `lease revoke -w protobuf` works;
//! - an unreachable server is named; `snapshot save`, `check` and `lease keep-alive` give up on it too;
//! - a server that is not trusted is named with the reason, at once; `--insecure-skip-tls-verify` acts on every
//!   encrypted connection, and `http://` together with flags of TLS is an error, not a connection in the clear;
//! - `snapshot status` and `restore` are of Stentor's own snapshots.

mod args;
mod cmd;
mod failure;
mod go;
mod json;
mod print;
mod progress;
mod session;
mod table;
mod tls;

use failure::{Failure, Result};
use session::Session;

fn main() {
    let code = match start() {
        Ok(()) => 0,
        Err(Failure { exit, message }) => {
            if let Some(message) = message {
                eprintln!("Error: {message}");
            }
            exit as i32
        }
    };
    // Not by returning: a thread may be waiting for standard input.
    std::process::exit(code);
}

fn start() -> Result<()> {
    let Some(args) = args::parse(std::env::args_os())? else { return Ok(()) };
    // These two ask nobody and so need no valid settings.
    match args.command {
        args::Command::Version(_) => return cmd::version::run(),
        args::Command::Completion(completion) => return completion.run(),
        _ => {}
    }
    let session = Session::new(&args.globals, |name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cmd::run(args.command, &session))
}
