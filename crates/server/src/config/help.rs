//! `--help`.

use std::fmt::Write as _;

use super::flags::{Effect, FLAGS, Group};

/// The whole text.
pub(crate) fn text() -> String {
    let mut out = String::from(
        "Usage: stentor [FLAGS]\n\n\
         A watch-first key-value store that speaks the etcd v3 protocol.\n\n\
         Flags are written --name value, --name=value or with one dash; of a flag given twice the last\n\
         one holds. Each may be given in the environment too, as STENTOR_NAME or ETCD_NAME; a flag beats\n\
         STENTOR_, which beats ETCD_. With --config-file (YAML, the same names, durations also as integer\n\
         nanoseconds) all else is ignored. Those marked * parse but have no effect yet; those marked !\n\
         stop the start until they have one.\n\n  \
         --version\n      print the version\n  \
         --help, -h\n      print this\n",
    );
    let mut group = None;
    for flag in FLAGS {
        if group != Some(flag.group) {
            group = Some(flag.group);
            let _ = write!(out, "\n{}:\n", title(flag.group));
        }
        let mark = match flag.effect {
            Effect::Acts => "",
            Effect::Ignored => " *",
            Effect::Unsafe => " !",
        };
        let default = if flag.default.is_empty() { String::new() } else { format!(" '{}'", flag.default) };
        let _ = write!(out, "  --{}{default}{mark}\n      {}\n", flag.name, flag.help);
    }
    out
}

fn title(group: Group) -> &'static str {
    match group {
        Group::Member => "Member",
        Group::Clustering => "Clustering",
        Group::Security => "Security",
        Group::Auth => "Auth",
        Group::Monitoring => "Monitoring",
        Group::Logging => "Logging",
        Group::Tracing => "Tracing",
        Group::Features => "Features",
        Group::Unsafe => "Unsafe",
        Group::Own => "Stentor's own",
    }
}
