//! The command line, read as etcdctl's is: flags stand anywhere, booleans may have `=false`, a flag given
//! twice counts with its last value.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::cmd::{
    alarm, check, completion, defrag, del, endpoint, get, lease, log, member, put, snapshot, txn, watch, watchers,
};
use crate::cmd::{compaction, version};
use crate::failure::{Exit, Failure, Result};
use crate::go;
use crate::session::Globals;

/// A command line client for Stentor and etcd.
#[derive(Debug, Parser)]
#[command(name = "stentorctl", disable_version_flag = true, infer_long_args = false, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  stentorctl put hello world1
  stentorctl get hello
  stentorctl get --prefix '' --keys-only
  stentorctl watch hello --rev=1 -w json
  stentorctl --endpoints=10.0.0.1:2379,10.0.0.2:2379 endpoint status -w table

Every global flag can come from the environment too, as ETCDCTL_ and its name in capitals with
underscores (ETCDCTL_ENDPOINTS, ETCDCTL_DIAL_TIMEOUT, ...); a flag beats it.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(get::Args),
    Put(put::Args),
    Del(del::Args),
    Txn(txn::Args),
    Watch(watch::Args),
    Watchers(watchers::Args),
    #[command(alias = "compact")]
    Compaction(compaction::Args),
    Lease(lease::Args),
    Endpoint(endpoint::Args),
    Member(member::Args),
    Snapshot(snapshot::Args),
    Log(log::Args),
    Defrag(defrag::Args),
    Alarm(alarm::Args),
    Check(check::Args),
    Version(version::Args),
    Completion(completion::Args),
}

/// The whole command as clap sees it.
pub(crate) fn command() -> clap::Command {
    like_go(Args::command())
}

/// Makes booleans take `=true` and `=false`, values take anything that follows, and the last of
/// repeated flags win.
pub(crate) fn like_go(command: clap::Command) -> clap::Command {
    command
        .args_override_self(true)
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .hide_default_value(true)
                .hide_possible_values(true)
                .value_parser(go::parse_bool)
                .value_name("BOOL"),
            ArgAction::Set if !arg.is_positional() => arg.allow_hyphen_values(true),
            _ => arg,
        })
        .mut_subcommands(like_go)
}

/// An integer flag's value.
pub(crate) fn int(text: &str) -> std::result::Result<i64, String> {
    go::parse_int(text, 0)
}

/// Reads the command line. Help goes to standard output at once.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Args>> {
    let parsed = command().try_get_matches_from(args).and_then(|mut m| Args::from_arg_matches_mut(&mut m));
    match parsed {
        Ok(args) => Ok(Some(args)),
        Err(error) => help_or_failure(&error).map(|()| None),
    }
}

/// Shows help if that was asked for, and words everything else as etcdctl does.
pub(crate) fn help_or_failure(error: &clap::Error) -> Result<()> {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, MissingSubcommand};
    if error.kind() == MissingSubcommand {
        return crate::print::show(command().render_help().to_string());
    }
    if matches!(error.kind(), DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand) {
        return crate::print::show(error.render().to_string());
    }
    Err(Failure::new(Exit::Error, explain(error)))
}

fn explain(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let usage = || match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => format!("\n{usage}"),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let flag = context(ContextKind::InvalidArg);
            // One dash: a cluster of short flags, of which the first is unknown.
            match flag.strip_prefix('-').filter(|f| !f.starts_with('-')) {
                Some(cluster) => {
                    let first: String = cluster.chars().take(1).collect();
                    format!("unknown shorthand flag: '{first}' in {flag}{}", usage())
                }
                None => format!("unknown flag: {flag}{}", usage()),
            }
        }
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand);
            format!("unknown command \"{name}\" for \"stentorctl\"\n\nRun 'stentorctl --help' for usage.")
        }
        ErrorKind::ValueValidation => {
            let flag = context(ContextKind::InvalidArg);
            let flag = flag.split([' ', '[', '=']).next().unwrap_or_default();
            let value = go::quote(context(ContextKind::InvalidValue).as_bytes());
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("invalid argument {value} for \"{flag}\" flag: {cause}{}", usage())
        }
        _ => error.render().to_string().trim_start_matches("error: ").trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Args>> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_definition_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn flags_stand_anywhere_and_the_last_wins() {
        let args =
            read("stentorctl get -w json a --rev 3 --prefix=false b --prefix --rev=-4 --write-out fields").unwrap();
        let Some(Args { command: Command::Get(get), globals }) = args else { panic!("{args:?}") };
        assert_eq!(get.key_and_end, ["a", "b"]);
        assert!(get.prefix && !get.keys_only);
        assert_eq!(get.rev, -4);
        assert_eq!(globals.write_out.as_deref(), Some("fields"));
    }

    #[test]
    fn a_double_dash_ends_flags() {
        let args = read("stentorctl put -- -k -v").unwrap();
        let Some(Args { command: Command::Put(put), .. }) = args else { panic!("{args:?}") };
        assert_eq!(put.key_and_value, ["-k", "-v"]);
    }

    #[test]
    fn mistakes_are_worded_as_etcdctl_does() {
        let message = |line| read(line).unwrap_err().message.unwrap();
        assert!(message("stentorctl get --nope a").starts_with("unknown flag: --nope\n"));
        assert!(message("stentorctl get -x a").starts_with("unknown shorthand flag: 'x' in -x\n"));
        assert!(message("stentorctl nope").starts_with("unknown command \"nope\" for \"stentorctl\"\n"));
        let expected = "invalid argument \"abc\" for \"--rev\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax";
        assert!(message("stentorctl get a --rev abc").starts_with(expected));
        assert_eq!(read("stentorctl get --nope a").unwrap_err().exit, Exit::Error);
    }
}
