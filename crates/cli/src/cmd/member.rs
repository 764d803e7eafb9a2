use super::linearizable;
use crate::failure::Result;
use crate::print::show;
use crate::session::Session;

/// The cluster's members
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the members
    #[command(after_help = "Example:\n  stentorctl member list -w table")]
    List {
        #[arg(hide = true)]
        ignored: Vec<String>,
        /// Linearizable (l) or serializable (s)
        #[arg(long, default_value = "l")]
        consistency: String,
    },
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        let Command::List { consistency, .. } = self.command;
        let linearizable = linearizable(&consistency)?;
        let response = session.connect().await?.cluster().member_list(linearizable).await?;
        show(session.printer.members(&response))
    }
}
