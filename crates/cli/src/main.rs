//! `stentorctl`: the command line client of Stentor, with etcdctl's commands, output and exit codes.

mod args;
mod cmd;
mod failure;
mod go;
mod json;
mod print;
mod progress;
mod session;
mod snapshot;
mod table;

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
