//! The server's configuration: flags, variables and the file.

use std::ffi::OsString;
use std::io::Write;

use stentor_server::config;

use crate::{Outcome, Target};

/// Input: one flag a line; a line `$NAME=value` is a variable of the environment.
pub const CONFIG_FLAGS: Target =
    Target { name: "config_flags", decode: flags, samples: flag_samples, refuses: true, cost: 1 };

/// Input: a YAML file.
pub const CONFIG_FILE: Target =
    Target { name: "config_file", decode: file, samples: file_samples, refuses: true, cost: 1 };

fn flags(bytes: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(bytes);
    let (variables, flags): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('$'));
    // A file named by chance could be anything on this machine.
    if text.contains("config-file") || text.contains("CONFIG_FILE") {
        return Outcome::Refused;
    }
    let variables = variables.into_iter().filter_map(|line| line.trim_start_matches('$').split_once('='));
    load(flags.into_iter().map(OsString::from), variables.map(|(name, value)| (name.into(), value.into())))
}

fn file(bytes: &[u8]) -> Outcome {
    let written = tempfile::NamedTempFile::new().and_then(|mut file| file.write_all(bytes).map(|()| file));
    match written {
        Ok(file) => load(["--config-file".into(), file.path().into()], []),
        Err(e) => unreachable!("no temporary file: {e}"),
    }
}

fn load(
    flags: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Outcome {
    let outcome = config::load(flags, variables);
    if let Err(e) = &outcome {
        let text = e.to_string();
        assert!(!text.trim().is_empty() && e.exit_code() != 0, "a refusal says why: {e:?}");
    }
    Outcome::of(&outcome)
}

fn flag_samples() -> Vec<Vec<u8>> {
    [
        "--name=a\n--data-dir\n/var/lib/stentor\n--listen-client-urls=http://127.0.0.1:2379\n--advertise-client-urls\nhttp://127.0.0.1:2379",
        "-snapshot-count 10\n-quota-backend-bytes=53248\n--watch-progress-notify-interval=100ms",
        "--heartbeat-interval=29\n--election-timeout=271\n--unsafe-no-fsync\n--log-level=debug",
        "$ETCD_NAME=b\n$STENTOR_MAX_TXN_OPS=10\n--max-request-bytes=1048576\n--auto-compaction-retention=1h",
    ]
    .map(|text| text.replace("-snapshot-count 10", "-snapshot-count\n10").into_bytes())
    .to_vec()
}

fn file_samples() -> Vec<Vec<u8>> {
    [
        "name: a\ndata-dir: /var/lib/stentor\nlisten-client-urls: http://127.0.0.1:2379\nadvertise-client-urls: http://127.0.0.1:2379\n",
        "snapshot-count: 10\nquota-backend-bytes: 53248\nwatch-progress-notify-interval: 100000000\n",
        "{\"name\": \"json\", \"unsafe-no-fsync\": true, \"log-level\": \"debug\"}\n",
        "# nothing but a comment\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
