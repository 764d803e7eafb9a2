use crate::failure::Result;
use crate::print::show;

/// Show the version
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(hide = true)]
    ignored: Vec<String>,
}

/// The line of etcd's API that is spoken.
const API: &str = "3.7";

pub(crate) fn run() -> Result<()> {
    show(format!("stentorctl version: {}\nAPI version: {API}\n", env!("CARGO_PKG_VERSION")))
}
