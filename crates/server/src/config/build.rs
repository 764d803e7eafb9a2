//! From values to a checked [`Config`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::error::ConfigError;
use super::flags::{Effect, Kind};
use super::url::Url;
use super::values::{Values, list, parse_bool};
use super::{
    AutoCompaction, Config, InitialClusterState, Keepalive, LogConfig, LogFormat, LogLevel, LogOutput, MetricsLevel,
    Quota, corruption, duration, tls,
};

/// etcd's default quota, and what 0 means.
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;
/// Progress notes more often than this would be a load of their own.
const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Above this a member that is down goes unnoticed.
const MAX_ELECTION_MILLIS: u64 = 50_000;
/// The log of systemd, which takes what its services write to stderr.
const JOURNAL: &str = "systemd/journal";
/// A leader must be able to miss some heartbeats.
const ELECTION_PER_HEARTBEAT: u64 = 5;

pub(crate) fn build(values: &Values, warnings: &mut Vec<String>) -> Result<Config, ConfigError> {
    refuse_unsafe(values)?;
    warn_ignored(values, warnings);
    let name = values.text("name").to_owned();
    let data_dir = match values.text("data-dir") {
        "" => PathBuf::from(format!("{name}.etcd")),
        given => PathBuf::from(given),
    };
    let election_timeout = election_timeout(values)?;
    let initial_cluster = initial_cluster(values, &name)?;
    // No unix sockets: other machines could not come in.
    values.peer_urls("listen-peer-urls")?;
    let listen_peer_urls = values.listen_urls("listen-peer-urls")?;
    let wal_dir = match values.text("wal-dir") {
        "" => data_dir.join("log"),
        given => PathBuf::from(given),
    };
    let listen_client_urls = listen_client_urls(values)?;
    let (client_tls, peer_tls) = tls::both(values, &data_dir, warnings)?;
    Ok(Config {
        data_dir,
        wal_dir,
        listen_client_urls,
        listen_client_http_urls: values.listen_urls("listen-client-http-urls")?,
        listen_metrics_urls: values.listen_urls("listen-metrics-urls")?,
        client_tls,
        peer_tls,
        advertise_client_urls: values.urls("advertise-client-urls")?,
        listen_peer_urls,
        listens_for_peers: values.is_given("listen-peer-urls"),
        initial_advertise_peer_urls: initial_cluster.get(&name).cloned().unwrap_or_default(),
        initial_cluster,
        force_new_cluster: values.bool("force-new-cluster"),
        initial_cluster_token: values.text("initial-cluster-token").to_owned(),
        strict_reconfig_check: values.bool("strict-reconfig-check"),
        learner_serves: values.bool("stentor-learner-serves"),
        max_learners: u32::try_from(values.uint("max-learners")).unwrap_or(u32::MAX),
        initial_cluster_state: choice(
            values,
            "initial-cluster-state",
            &[("new", InitialClusterState::New), ("existing", InitialClusterState::Existing)],
        )?,
        cluster_id: id(values, "stentor-cluster-id")?,
        member_id: id(values, "stentor-member-id")?,
        election_timeout,
        heartbeat_interval: Duration::from_millis(values.uint("heartbeat-interval")),
        snapshot_count: values.uint("snapshot-count"),
        snapshot_catchup_entries: values.uint("snapshot-catchup-entries"),
        keeps_log: values.bool("stentor-keep-log"),
        quota: match values.int("quota-backend-bytes") {
            0 => Quota::Bytes(DEFAULT_QUOTA_BYTES),
            bytes => u64::try_from(bytes).map_or(Quota::Unlimited, Quota::Bytes),
        },
        max_txn_ops: bounded(values, "max-txn-ops")?,
        max_request_bytes: bounded(values, "max-request-bytes")?,
        max_answer_bytes: bounded(values, "stentor-max-answer-bytes")?,
        max_concurrent_streams: bounded(values, "max-concurrent-streams")?,
        keepalive: keepalive(values),
        auto_compaction: auto_compaction(values)?,
        watch_progress_notify_interval: progress_interval(values, warnings),
        slow_watcher_time: values.duration("stentor-slow-watcher-time"),
        compaction_batch_limit: bounded(values, "compaction-batch-limit")?,
        compaction_sleep_interval: values.duration("compaction-sleep-interval"),
        corruption_checks: corruption::checks(values, warnings)?,
        warning_apply_duration: values.duration("warning-apply-duration"),
        warning_unary_request_duration: values.duration("warning-unary-request-duration"),
        metrics: choice(values, "metrics", &[("basic", MetricsLevel::Basic), ("extensive", MetricsLevel::Extensive)])?,
        log: log(values, warnings)?,
        unsafe_no_fsync: values.bool("unsafe-no-fsync"),
        name,
    })
}

fn refuse_unsafe(values: &Values) -> Result<(), ConfigError> {
    for (flag, text) in values.given_with(Effect::Unsafe) {
        let asks = match flag.kind {
            Kind::Bool => parse_bool(text) == Some(true),
            _ => !text.is_empty() && text != flag.default,
        };
        if asks {
            return Err(ConfigError::Refused(format!(
                "--{} is not supported yet, and serving without it would be unsafe: leave it out to serve without it",
                flag.name
            )));
        }
    }
    Ok(())
}

fn warn_ignored(values: &Values, warnings: &mut Vec<String>) {
    let ignored = values.given_with(Effect::Ignored);
    warnings.extend(ignored.map(|(flag, _)| format!("--{} has no effect in this version", flag.name)));
}

fn election_timeout(values: &Values) -> Result<Duration, ConfigError> {
    let heartbeat = values.uint("heartbeat-interval");
    let election = values.uint("election-timeout");
    if heartbeat == 0 || election == 0 {
        return Err(ConfigError::Usage("--heartbeat-interval and --election-timeout must be above 0".into()));
    }
    if heartbeat.saturating_mul(ELECTION_PER_HEARTBEAT) > election {
        return Err(ConfigError::Usage(format!(
            "--election-timeout ({election} ms) must be at least {ELECTION_PER_HEARTBEAT} times --heartbeat-interval \
             ({heartbeat} ms)"
        )));
    }
    if election > MAX_ELECTION_MILLIS {
        return Err(ConfigError::Usage(format!(
            "--election-timeout ({election} ms) must not be above {MAX_ELECTION_MILLIS} ms"
        )));
    }
    Ok(Duration::from_millis(election))
}

fn listen_client_urls(values: &Values) -> Result<Vec<Url>, ConfigError> {
    if values.is_given("listen-client-urls") && !values.is_given("advertise-client-urls") {
        return Err(ConfigError::Usage(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly".into(),
        ));
    }
    let urls = values.listen_urls("listen-client-urls")?;
    if urls.is_empty() {
        return Err(ConfigError::Usage("--listen-client-urls is empty: give http://HOST:PORT".into()));
    }
    if values.urls("advertise-client-urls")?.is_empty() {
        return Err(ConfigError::Usage("--advertise-client-urls is empty: give http://HOST:PORT".into()));
    }
    Ok(urls)
}

/// The members of `--initial-cluster` by name. Without it, this one alone.
fn initial_cluster(values: &Values, name: &str) -> Result<BTreeMap<String, Vec<Url>>, ConfigError> {
    let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    for item in list(values.text("initial-cluster")) {
        let Some((member, url)) = item.split_once('=') else {
            return Err(ConfigError::Usage(format!("--initial-cluster: {item:?} is not NAME=URL")));
        };
        let url = Url::parse_peer(url).map_err(|why| ConfigError::Usage(format!("--initial-cluster: {url} {why}")))?;
        members.entry(member.to_owned()).or_default().push(url);
    }
    let peers = values.peer_urls("initial-advertise-peer-urls")?;
    if members.is_empty() {
        return Ok([(name.to_owned(), peers)].into());
    }
    let Some(own) = members.get(name) else {
        return Err(ConfigError::Usage(format!("--initial-cluster does not name this member, {name} (--name)")));
    };
    let sorted = |urls: &[Url]| {
        let mut texts: Vec<_> = urls.iter().map(|url| url.as_str().to_owned()).collect();
        texts.sort_unstable();
        texts
    };
    if values.is_given("initial-advertise-peer-urls") && sorted(own) != sorted(&peers) {
        return Err(ConfigError::Usage(format!(
            "--initial-cluster has {} for {name}, --initial-advertise-peer-urls has {}: they must be the same",
            sorted(own).join(","),
            sorted(&peers).join(",")
        )));
    }
    let mut all: Vec<_> = members.values().flatten().map(Url::as_str).collect();
    all.sort_unstable();
    if let Some([url, _]) = all.windows(2).find_map(|pair| <&[_; 2]>::try_from(pair).ok().filter(|[a, b]| a == b)) {
        return Err(ConfigError::Usage(format!("--initial-cluster names {url} twice")));
    }
    Ok(members)
}

fn keepalive(values: &Values) -> Keepalive {
    let interval = values.duration("grpc-keepalive-interval");
    let timeout = values.duration("grpc-keepalive-timeout");
    Keepalive {
        min_time: values.duration("grpc-keepalive-min-time"),
        // etcd turns the pings off when either is 0.
        interval: (!interval.is_zero() && !timeout.is_zero()).then_some(interval),
        timeout,
    }
}

fn auto_compaction(values: &Values) -> Result<AutoCompaction, ConfigError> {
    let text = values.text("auto-compaction-retention");
    let bad = |want: &str| ConfigError::Usage(format!("--auto-compaction-retention: {text:?} is not {want}"));
    match values.text("auto-compaction-mode") {
        "revision" => match text.parse::<i64>() {
            Ok(0) => Ok(AutoCompaction::Off),
            Ok(count) => u64::try_from(count).map(AutoCompaction::Revisions).map_err(|_| bad("a count of revisions")),
            Err(_) => Err(bad("a count of revisions")),
        },
        "periodic" | "" => {
            let kept = match text.parse::<u64>() {
                Ok(hours) => hours.checked_mul(3600).map(Duration::from_secs),
                Err(_) => duration::parse(text),
            };
            match kept {
                Some(Duration::ZERO) => Ok(AutoCompaction::Off),
                Some(kept) => Ok(AutoCompaction::Periodic(kept)),
                None => Err(bad("a duration such as 5m, or a number of hours")),
            }
        }
        other => Err(ConfigError::Usage(format!("--auto-compaction-mode: {other:?} is neither periodic nor revision"))),
    }
}

fn progress_interval(values: &Values, warnings: &mut Vec<String>) -> Duration {
    let asked = values.duration("watch-progress-notify-interval");
    if asked.is_zero() {
        return Values::default().duration("watch-progress-notify-interval");
    }
    if asked < MIN_PROGRESS_INTERVAL {
        warnings.push("--watch-progress-notify-interval is raised to its least value, 100ms".into());
    }
    asked.max(MIN_PROGRESS_INTERVAL)
}

fn log(values: &Values, warnings: &mut Vec<String>) -> Result<LogConfig, ConfigError> {
    if list(values.text("log-outputs")).any(|output| output == JOURNAL) {
        warnings
            .push(format!("--log-outputs: {JOURNAL} is not written to directly: what it would hold goes to stderr"));
    }
    let outputs: Vec<_> = list(values.text("log-outputs"))
        .map(|output| match output {
            "default" | "stderr" | "/dev/stderr" | JOURNAL => LogOutput::Stderr,
            "stdout" | "/dev/stdout" => LogOutput::Stdout,
            path => LogOutput::File(PathBuf::from(path)),
        })
        .collect();
    Ok(LogConfig {
        level: choice(
            values,
            "log-level",
            &[
                ("debug", LogLevel::Debug),
                ("info", LogLevel::Info),
                ("warn", LogLevel::Warn),
                ("error", LogLevel::Error),
                ("dpanic", LogLevel::Error),
                ("panic", LogLevel::Error),
                ("fatal", LogLevel::Error),
            ],
        )?,
        format: choice(values, "log-format", &[("json", LogFormat::Json), ("console", LogFormat::Console)])?,
        outputs: if outputs.is_empty() { vec![LogOutput::Stderr] } else { outputs },
    })
}

/// One of several words; empty means the default.
fn choice<T: Copy>(values: &Values, name: &str, words: &[(&str, T)]) -> Result<T, ConfigError> {
    let given = values.text(name);
    let defaults = Values::default();
    let text = if given.is_empty() { defaults.text(name) } else { given };
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        ConfigError::Usage(format!("--{name}: {text:?} is not one of {}", known.join(", ")))
    })
}

/// A number of at least 1 that fits its type.
fn bounded<T: TryFrom<u64>>(values: &Values, name: &str) -> Result<T, ConfigError> {
    let number = values.uint(name);
    match T::try_from(number) {
        Ok(fits) if number > 0 => Ok(fits),
        _ => Err(ConfigError::Usage(format!("--{name}: {number} is out of range"))),
    }
}

/// An id, decimal or hexadecimal after `0x`; 0 stands for "none" in the protocol, so it is refused.
fn id(values: &Values, name: &str) -> Result<Option<u64>, ConfigError> {
    let text = values.text(name);
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    match parsed {
        Ok(id) if id != 0 => Ok(Some(id)),
        _ => Err(ConfigError::Usage(format!("--{name}: {text:?} is not an id above 0, decimal or 0x hex"))),
    }
}
