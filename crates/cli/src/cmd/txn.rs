use super::txn_grammar;
use crate::failure::{Failure, Result};
use crate::print::{Format, show};
use crate::session::Session;

/// Run one of two lists of requests in one transaction
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The transaction is read from standard input: compares, what to do if all hold, what to do if not, each
ended by an empty line. Compares are of mod, create, ver, val or lease, with =, !=, < or >.

Example:
  stentorctl txn -i
  mod(\"hello\") > \"0\"

  put hello \"it was there\"
  get hello

  put hello \"it was not\"
")]
pub(crate) struct Args {
    #[arg(hide = true)]
    none: Vec<String>,
    /// Say what is read next
    #[arg(short, long)]
    interactive: bool,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        if !self.none.is_empty() {
            return Err(Failure::args("txn command does not accept argument"));
        }
        session.printer.refuse(Format::Table)?;
        let prompt = |what: &str| if self.interactive { show(format!("{what}\n")) } else { Ok(()) };
        let request = txn_grammar::read(&mut std::io::stdin().lock(), prompt)?;
        let response = session.connect().await?.kv().txn(request).await?;
        show(session.printer.txn(&response))
    }
}
