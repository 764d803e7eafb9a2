use std::str::FromStr as _;

use clap_complete::Shell;

use crate::failure::{Exit, Failure, Result};
use crate::go;
use crate::print::show;

/// Write a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(stentorctl completion bash)
  stentorctl completion zsh > \"${fpath[1]}/_stentorctl\"
  stentorctl completion fish > ~/.config/fish/completions/stentorctl.fish")]
pub(crate) struct Args {
    /// bash, zsh, fish, powershell or elvish
    shell: Vec<String>,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let [name] = self.shell.as_slice() else {
            let message = format!("accepts 1 arg(s), received {}", self.shell.len());
            return Err(Failure::new(Exit::Error, message));
        };
        let shell = Shell::from_str(name).map_err(|_| {
            let name = go::quote(name.as_bytes());
            Failure::new(Exit::Error, format!("invalid argument {name} for \"stentorctl completion\""))
        })?;
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut crate::args::command(), "stentorctl", &mut script);
        show(script)
    }
}
