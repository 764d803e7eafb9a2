//! The binary `stentor`.

use std::io::Write as _;
use std::process::ExitCode;

use stentor_server::config::{self, Command};
use stentor_server::version;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Written by hand rather than printed: a reader that went away is no reason to panic.
    let (text, code) = match config::load(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Command::Version) => (version::text(), 0),
        Ok(Command::Help(text)) => (text, 0),
        Ok(Command::Run { config, warnings }) => return stentor_server::process::run(&config, &warnings),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "stentor: {error}");
            return ExitCode::from(error.exit_code());
        }
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(code)
}
