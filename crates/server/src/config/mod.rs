//! What the server is told: flags, environment variables and a YAML file, as etcd takes them.
//!
//! A flag beats a `STENTOR_` variable, which beats an `ETCD_` one. With `--config-file` the file alone
//! counts.

mod args;
mod build;
mod corruption;
mod duration;
mod error;
mod file;
mod flags;
mod help;
mod suites;
#[cfg(test)]
mod tests;
mod tls;
mod url;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub use error::ConfigError;
pub use suites::{CipherSuite, Protocols};
pub use tls::{Allowed, FilePair, OwnCertificate, TlsConfig};
pub use url::Url;

use args::Asked;
use values::Values;

/// What to do, after the command line is read.
#[derive(Debug)]
pub enum Command {
    /// Serve.
    Run {
        /// With these settings.
        config: Box<Config>,
        /// After logging these, one line each.
        warnings: Vec<String>,
    },
    /// Print the version and leave with status 0.
    Version,
    /// Print this text and leave with status 0.
    Help(String),
}

/// Everything the server is told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member's name.
    pub name: String,
    /// Where the data is. It need not exist.
    pub data_dir: PathBuf,
    /// Where the log is.
    pub wal_dir: PathBuf,
    /// Where clients are served, gRPC and, unless [`Config::listen_client_http_urls`] are given, HTTP.
    pub listen_client_urls: Vec<Url>,
    /// Where clients are served HTTP alone.
    pub listen_client_http_urls: Vec<Url>,
    /// Where metrics and health are served alone.
    pub listen_metrics_urls: Vec<Url>,
    /// How connections of clients are encrypted; always there if a URL to listen on asks for it.
    pub client_tls: Option<TlsConfig>,
    /// How connections between members are encrypted; always there if a URL of this member asks for it.
    pub peer_tls: Option<TlsConfig>,
    /// What MemberList tells of this member's client URLs, literally.
    pub advertise_client_urls: Vec<Url>,
    /// Where other members are served.
    pub listen_peer_urls: Vec<Url>,
    /// Whether they were asked for: a member that is alone does without the default ones if they are taken.
    pub listens_for_peers: bool,
    /// The peer URLs that a new cluster has for this member, literally.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// The members that a new cluster begins with, or that are asked by one that joins, by name; this one is
    /// among them.
    pub initial_cluster: BTreeMap<String, Vec<Url>>,
    /// Make this member a cluster of its own, though it was one of several.
    pub force_new_cluster: bool,
    /// Keeps clusters made from the same names and URLs apart.
    pub initial_cluster_token: String,
    /// Refuse changes of the members that endanger the majority.
    pub strict_reconfig_check: bool,
    /// Whether a learner serves watches and serializable reads.
    pub learner_serves: bool,
    /// Members that may only learn, at a time.
    pub max_learners: u32,
    /// Whether a cluster is made or joined, if there is no data yet.
    pub initial_cluster_state: InitialClusterState,
    /// The id a new cluster takes instead of a random one.
    pub cluster_id: Option<u64>,
    /// The id a new member takes instead of a random one.
    pub member_id: Option<u64>,
    /// Time without a leader before an election; a lease lasts at least one and a half of it.
    pub election_timeout: Duration,
    /// Between two words of a leader to the others.
    pub heartbeat_interval: Duration,
    /// Entries of the log that may have to be applied again after a crash, about.
    pub snapshot_count: u64,
    /// Entries of the log kept for members that lag, though they need not be applied again here.
    pub snapshot_catchup_entries: u64,
    /// No entry of the log is ever forgotten.
    pub keeps_log: bool,
    /// Above this, writes that need space are refused.
    pub quota: Quota,
    /// Operations allowed in a transaction, per level and list.
    pub max_txn_ops: usize,
    /// Bytes of the largest write accepted.
    pub max_request_bytes: usize,
    /// Bytes that large answers on their way to clients may hold together.
    pub max_answer_bytes: u64,
    /// Streams a client may have open at a time on one connection.
    pub max_concurrent_streams: u32,
    /// How connections are kept alive.
    pub keepalive: Keepalive,
    /// How much history is kept.
    pub auto_compaction: AutoCompaction,
    /// Time between two progress notes; at least 100 ms.
    pub watch_progress_notify_interval: Duration,
    /// A watcher that is behind for longer is slow; 0: none is.
    pub slow_watcher_time: Duration,
    /// Revisions deleted in one step of a compaction; at least 1.
    pub compaction_batch_limit: usize,
    /// Pause between two such steps.
    pub compaction_sleep_interval: Duration,
    /// When members are compared with each other.
    pub corruption_checks: CorruptionChecks,
    /// Requests that take longer to apply are warned of.
    pub warning_apply_duration: Duration,
    /// Calls that take longer are warned of.
    pub warning_unary_request_duration: Duration,
    /// Whether gRPC histograms are measured.
    pub metrics: MetricsLevel,
    /// How and where to log.
    pub log: LogConfig,
    /// Do not wait for the disk.
    pub unsafe_no_fsync: bool,
}

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialClusterState {
    /// Make a cluster, or resume.
    New,
    /// Join a cluster, or resume.
    Existing,
}

/// `--quota-backend-bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// A number of bytes.
    Bytes(u64),
    /// None.
    Unlimited,
}

/// The `--grpc-keepalive-` flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Shortest time a client must leave between two pings of its own.
    pub min_time: Duration,
    /// Time after which a silent client is pinged; `None`: never.
    pub interval: Option<Duration>,
    /// Time such a client has to answer.
    pub timeout: Duration,
}

/// `--auto-compaction-mode` and `-retention`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None.
    Off,
    /// Keep what is younger.
    Periodic(Duration),
    /// Keep this many revisions.
    Revisions(u64),
}

/// `--corrupt-check-time` and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptionChecks {
    /// Whether a member that starts compares itself with the others before it serves.
    pub initial: bool,
    /// The leader compares all at the newest revision as often as this.
    pub newest: Option<Duration>,
    /// As often as this it looks whether they were compared since the last compaction, else it does so.
    pub compacted: Option<Duration>,
}

/// `--metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsLevel {
    /// Counters and gauges, and the disk's histograms.
    Basic,
    /// gRPC histograms too.
    Extensive,
}

/// The `--log-` flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// For machines or for people.
    pub format: LogFormat,
    /// Where to; never empty.
    pub outputs: Vec<LogOutput>,
}

/// `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What an operator should look at.
    Warn,
    /// What went wrong (also for `panic` and `fatal`).
    Error,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Console,
}

/// One of `--log-outputs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// Reads the arguments behind the program's name and the environment, and the file if they name one.
///
/// # Errors
/// [`ConfigError`], one line each, with the exit status.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Command, ConfigError> {
    let args = args
        .into_iter()
        .map(|arg| arg.into_string().map_err(|arg| ConfigError::Usage(format!("argument {arg:?} is not UTF-8"))))
        .collect::<Result<Vec<_>, _>>()?;
    // A variable of another program may be anything; ours are text.
    let env: Vec<_> = env
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();

    let mut by_flag = Values::default();
    match args::read_args(&args, &mut by_flag)? {
        Asked::Version => return Ok(Command::Version),
        Asked::Help => return Ok(Command::Help(help::text())),
        Asked::Run => {}
    }
    let path = if by_flag.is_given("config-file") {
        by_flag.text("config-file").to_owned()
    } else {
        ["STENTOR_CONFIG_FILE", "ETCD_CONFIG_FILE"]
            .iter()
            .find_map(|wanted| env.iter().find(|(name, value)| name == wanted && !value.is_empty()))
            .map_or_else(String::new, |(_, path)| path.clone())
    };
    let (values, mut warnings) = if path.is_empty() {
        let mut values = Values::default();
        let warnings = args::read_env(&env, &mut values)?;
        // Read again, over the environment.
        args::read_args(&args, &mut values)?;
        (values, warnings)
    } else {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| ConfigError::Usage(format!("cannot read the configuration file {path}: {error}")))?;
        let mut values = Values::default();
        file::read_file(&text, &path, &mut values)?;
        (values, Vec::new())
    };
    let config = build::build(&values, &mut warnings)?;
    Ok(Command::Run { config: Box::new(config), warnings })
}
