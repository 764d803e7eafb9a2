//! The table of flags: every one of etcd 3.7 and its predecessors' still in use, and ours.

use Effect::{Acts, Ignored, Unsafe};
use Group::{Auth, Clustering, Features, Logging, Member, Monitoring, Security, Tracing, Unsafe as UnsafeGroup};
use Kind::{Bool, Duration, Float, Int, Text, Uint, Urls};

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Uint,
    Float,
    Duration,
    /// URLs, by comma.
    Urls,
    Text,
}

/// What giving a flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// What its help says.
    Acts,
    /// Nothing yet; named once in a warning.
    Ignored,
    /// Its silent absence would be unsafe: any value but an empty, false or default one stops the start.
    Unsafe,
}

/// The heading in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Member,
    Clustering,
    Security,
    Auth,
    Monitoring,
    Logging,
    Tracing,
    Features,
    Unsafe,
    Own,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) effect: Effect,
    pub(crate) group: Group,
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
}

impl Flag {
    /// Whether it is one of ours: no `ETCD_` variable belongs to it.
    pub(crate) fn is_own(&self) -> bool {
        self.group == Group::Own
    }
}

/// The prefix of our own flags.
pub(crate) const OWN_PREFIX: &str = "stentor-";

/// The prefix under which older lines of etcd had some of the flags.
const EXPERIMENTAL_PREFIX: &str = "experimental-";

/// The flags that etcd 3.4 to 3.6 had under [`EXPERIMENTAL_PREFIX`] and 3.7 has without it, or as a feature gate.
const ONCE_EXPERIMENTAL: &[&str] = &[
    "backend-bbolt-freelist-type",
    "bootstrap-defrag-threshold-megabytes",
    "compact-hash-check-enabled",
    "compact-hash-check-time",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
    "distributed-tracing-service-name",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "initial-corrupt-check",
    "max-learners",
    "memory-mlock",
    "peer-skip-client-san-verification",
    "snapshot-catchup-entries",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
];

/// The row of a name, of today or of an older line.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    let today = match name.strip_prefix(EXPERIMENTAL_PREFIX) {
        Some(rest) if ONCE_EXPERIMENTAL.contains(&rest) => rest,
        _ => name,
    };
    FLAGS.iter().find(|flag| flag.name == today)
}

const fn row(
    group: Group,
    effect: Effect,
    kind: Kind,
    name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, effect, group, default, help }
}

#[rustfmt::skip]
pub(crate) const FLAGS: &[Flag] = &[
    row(Member, Acts, Text, "name", "default", "name of this member"),
    row(Member, Acts, Text, "data-dir", "", "data directory; NAME.etcd when not given"),
    row(Member, Acts, Text, "wal-dir", "", "directory of the log; in the data directory when not given"),
    row(Member, Acts, Uint, "snapshot-count", "10000", "log entries that may have to be applied again after a crash, about"),
    row(Member, Acts, Uint, "snapshot-catchup-entries", "5000", "log entries kept for members that lag"),
    row(Member, Acts, Uint, "heartbeat-interval", "100", "milliseconds between two heartbeats"),
    row(Member, Acts, Uint, "election-timeout", "1000", "milliseconds without a leader before an election"),
    row(Member, Ignored, Bool, "initial-election-tick-advance", "true", "shorten the first election"),
    row(Member, Acts, Urls, "listen-peer-urls", "http://localhost:2380", "URLs to listen on for other members"),
    row(Member, Acts, Urls, "listen-client-urls", "http://localhost:2379", "URLs to listen on for clients (gRPC and HTTP)"),
    row(Member, Acts, Urls, "listen-client-http-urls", "", "URLs to listen on for clients' HTTP alone; the others then serve gRPC alone"),
    row(Member, Ignored, Uint, "max-snapshots", "5", "snapshot files kept"),
    row(Member, Ignored, Uint, "max-wals", "5", "log files kept"),
    row(Member, Ignored, Bool, "memory-mlock", "false", "keep the process's pages in memory"),
    row(Member, Acts, Int, "quota-backend-bytes", "0", "bytes of live and past versions before writes are refused; 0: 2 GiB, negative: no limit"),
    row(Member, Ignored, Text, "backend-bbolt-freelist-type", "map", "of etcd's own storage"),
    row(Member, Ignored, Duration, "backend-batch-interval", "0", "of etcd's own storage"),
    row(Member, Ignored, Int, "backend-batch-limit", "0", "of etcd's own storage"),
    row(Member, Acts, Uint, "max-txn-ops", "128", "operations allowed in a transaction, per level and list"),
    row(Member, Acts, Uint, "max-request-bytes", "1572864", "bytes of the largest write accepted"),
    row(Member, Acts, Uint, "max-concurrent-streams", "4294967295", "streams a client may have open at a time, per connection"),
    row(Member, Acts, Duration, "grpc-keepalive-min-time", "5s", "shortest time a client must leave between two pings"),
    row(Member, Acts, Duration, "grpc-keepalive-interval", "2h", "time after which a silent client is pinged; 0: never"),
    row(Member, Acts, Duration, "grpc-keepalive-timeout", "20s", "time such a client has to answer"),
    row(Member, Ignored, Bool, "socket-reuse-port", "false", "share a listening port"),
    row(Member, Ignored, Bool, "socket-reuse-address", "false", "listen on an address in TIME_WAIT (always done)"),
    row(Member, Ignored, Bool, "enable-grpc-gateway", "true", "serve JSON over HTTP"),
    row(Member, Ignored, Duration, "raft-read-timeout", "5s", "of connections between members"),
    row(Member, Ignored, Duration, "raft-write-timeout", "5s", "of connections between members"),
    row(Member, Acts, Text, "feature-gates", "", "NAME=true|false,... of etcd's features"),
    row(Member, Acts, Text, "config-file", "", "YAML file with the same names; all other flags and variables are then ignored"),

    row(Clustering, Acts, Urls, "initial-advertise-peer-urls", "http://localhost:2380", "this member's peer URLs as others are told"),
    row(Clustering, Acts, Text, "initial-cluster", "", "NAME=URL,... of the first members"),
    row(Clustering, Acts, Text, "initial-cluster-state", "new", "new or existing; data already there is resumed with either"),
    row(Clustering, Acts, Text, "initial-cluster-token", "etcd-cluster", "tells clusters apart at the start"),
    row(Clustering, Acts, Urls, "advertise-client-urls", "http://localhost:2379", "this member's client URLs as clients are told"),
    row(Clustering, Ignored, Text, "discovery", "", "discovery service"),
    row(Clustering, Ignored, Text, "discovery-token", "", "discovery service"),
    row(Clustering, Ignored, Text, "discovery-endpoints", "", "discovery service"),
    row(Clustering, Ignored, Duration, "discovery-dial-timeout", "2s", "discovery service"),
    row(Clustering, Ignored, Duration, "discovery-request-timeout", "5s", "discovery service"),
    row(Clustering, Ignored, Duration, "discovery-keepalive-time", "2s", "discovery service"),
    row(Clustering, Ignored, Duration, "discovery-keepalive-timeout", "6s", "discovery service"),
    row(Clustering, Ignored, Bool, "discovery-insecure-transport", "true", "discovery service"),
    row(Clustering, Ignored, Bool, "discovery-insecure-skip-tls-verify", "false", "discovery service"),
    row(Clustering, Ignored, Text, "discovery-cert", "", "discovery service"),
    row(Clustering, Ignored, Text, "discovery-key", "", "discovery service"),
    row(Clustering, Ignored, Text, "discovery-cacert", "", "discovery service"),
    row(Clustering, Ignored, Text, "discovery-user", "", "discovery service"),
    row(Clustering, Ignored, Text, "discovery-password", "", "discovery service"),
    row(Clustering, Ignored, Text, "discovery-fallback", "exit", "discovery service"),
    row(Clustering, Ignored, Text, "discovery-proxy", "", "discovery service"),
    row(Clustering, Ignored, Text, "discovery-srv", "", "discovery by DNS"),
    row(Clustering, Ignored, Text, "discovery-srv-name", "", "discovery by DNS"),
    row(Clustering, Acts, Bool, "strict-reconfig-check", "true", "refuse membership changes that would lose quorum"),
    row(Clustering, Acts, Bool, "stentor-learner-serves", "false", "let learners serve watches and serializable reads"),
    row(Clustering, Ignored, Bool, "pre-vote", "true", "ask before standing for election"),
    row(Clustering, Acts, Uint, "max-learners", "1", "learners allowed"),
    row(Clustering, Acts, Text, "auto-compaction-retention", "0", "how much history to keep: a duration, bare numbers are hours; with mode revision a count; 0: off"),
    row(Clustering, Acts, Text, "auto-compaction-mode", "periodic", "periodic or revision"),
    row(Clustering, Ignored, Text, "v2-deprecation", "write-only", "of etcd's old store"),
    row(Clustering, Ignored, Bool, "enable-v2", "false", "etcd's old protocol"),
    row(Clustering, Ignored, Text, "experimental-enable-v2v3", "", "etcd's old protocol"),
    row(Clustering, Unsafe, Text, "proxy", "off", "etcd's old proxy"),
    row(Clustering, Ignored, Uint, "proxy-failure-wait", "5000", "etcd's old proxy"),
    row(Clustering, Ignored, Uint, "proxy-refresh-interval", "30000", "etcd's old proxy"),
    row(Clustering, Ignored, Uint, "proxy-dial-timeout", "1000", "etcd's old proxy"),
    row(Clustering, Ignored, Uint, "proxy-write-timeout", "5000", "etcd's old proxy"),
    row(Clustering, Ignored, Uint, "proxy-read-timeout", "0", "etcd's old proxy"),
    row(Clustering, Ignored, Duration, "experimental-wait-cluster-ready-timeout", "5s", "time to wait for the cluster before serving"),

    row(Security, Acts, Text, "cert-file", "", "certificate shown to clients"),
    row(Security, Acts, Text, "key-file", "", "its key"),
    row(Security, Acts, Text, "trusted-ca-file", "", "authority of clients' certificates, which are then required"),
    row(Security, Acts, Bool, "client-cert-auth", "false", "require clients' certificates; needs --trusted-ca-file"),
    row(Security, Acts, Text, "client-cert-file", "", "certificate of this member as a client of its own; checked, not needed"),
    row(Security, Acts, Text, "client-key-file", "", "key of this member as a client"),
    row(Security, Acts, Text, "client-crl-file", "", "revoked certificates of clients"),
    row(Security, Acts, Text, "client-cert-allowed-hostname", "", "host names clients' certificates may have"),
    row(Security, Acts, Text, "client-cert-allowed-cn", "", "common names clients' certificates may have"),
    row(Security, Acts, Bool, "auto-tls", "false", "make a certificate for clients, if none is given"),
    row(Security, Acts, Text, "peer-cert-file", "", "certificate shown to members"),
    row(Security, Acts, Text, "peer-key-file", "", "its key"),
    row(Security, Acts, Text, "peer-trusted-ca-file", "", "authority of members' certificates, which are then required"),
    row(Security, Acts, Bool, "peer-client-cert-auth", "false", "require members' certificates; needs --peer-trusted-ca-file"),
    row(Security, Acts, Text, "peer-client-cert-file", "", "certificate of this member towards others; --peer-cert-file when not given"),
    row(Security, Acts, Text, "peer-client-key-file", "", "key of this member towards others"),
    row(Security, Acts, Text, "peer-crl-file", "", "revoked certificates of members"),
    row(Security, Acts, Text, "peer-cert-allowed-cn", "", "common names members' certificates may have"),
    row(Security, Acts, Text, "peer-cert-allowed-hostname", "", "host names members' certificates may have"),
    row(Security, Acts, Bool, "peer-auto-tls", "false", "make a certificate for members, if none is given; nobody is verified then"),
    row(Security, Acts, Bool, "peer-skip-client-san-verification", "false", "do not compare a member's address with those its certificate is for"),
    row(Security, Acts, Uint, "self-signed-cert-validity", "1", "years a certificate of our own making holds"),
    row(Security, Acts, Text, "cipher-suites", "", "suites of TLS 1.2, by comma; those of TLS 1.3 are always there"),
    row(Security, Acts, Text, "tls-min-version", "TLS1.2", "TLS1.2 or TLS1.3"),
    row(Security, Acts, Text, "tls-max-version", "", "TLS1.2 or TLS1.3"),
    row(Security, Ignored, Text, "cors", "*", "origins browsers may come from"),
    row(Security, Ignored, Text, "host-whitelist", "*", "host names HTTP requests may carry"),

    row(Auth, Unsafe, Text, "auth-token", "simple", "simple or jwt,..."),
    row(Auth, Ignored, Uint, "bcrypt-cost", "10", "cost of hashing a password"),
    row(Auth, Ignored, Uint, "auth-token-ttl", "300", "seconds a token lives"),

    row(Monitoring, Ignored, Bool, "enable-pprof", "false", "profiles over HTTP"),
    row(Monitoring, Acts, Text, "metrics", "basic", "basic, or extensive for gRPC histograms too"),
    row(Monitoring, Acts, Urls, "listen-metrics-urls", "", "URLs to listen on for /metrics and health alone"),
    row(Monitoring, Acts, Duration, "warning-apply-duration", "100ms", "warn of requests that take longer to apply"),
    row(Monitoring, Acts, Duration, "warning-unary-request-duration", "300ms", "warn of calls that take longer"),

    row(Logging, Ignored, Text, "logger", "zap", "of etcd"),
    row(Logging, Acts, Text, "log-outputs", "default", "stderr (default), stdout or files, by comma"),
    row(Logging, Acts, Text, "log-level", "info", "debug, info, warn, error, panic or fatal"),
    row(Logging, Acts, Text, "log-format", "json", "json, or console for people"),
    row(Logging, Ignored, Bool, "enable-log-rotation", "false", "rotate log files"),
    row(Logging, Ignored, Text, "log-rotation-config-json", "", "rotate log files"),
    row(Logging, Ignored, Text, "log-package-levels", "", "of etcd 3.4"),
    row(Logging, Ignored, Bool, "debug", "false", "of etcd 3.4: use --log-level"),

    row(Tracing, Ignored, Bool, "enable-distributed-tracing", "false", "send traces"),
    row(Tracing, Ignored, Text, "distributed-tracing-address", "localhost:4317", "where to"),
    row(Tracing, Ignored, Text, "distributed-tracing-service-name", "etcd", "as which service"),
    row(Tracing, Ignored, Text, "distributed-tracing-instance-id", "", "as which instance"),
    row(Tracing, Ignored, Float, "distributed-tracing-sampling-rate", "0", "how many of a million"),

    row(Features, Acts, Duration, "watch-progress-notify-interval", "10m", "time between two progress notes, at least 100ms"),
    row(Features, Acts, Uint, "compaction-batch-limit", "1000", "revisions deleted in one step of a compaction"),
    row(Features, Acts, Duration, "compaction-sleep-interval", "10ms", "pause between two such steps"),
    row(Features, Acts, Duration, "corrupt-check-time", "0s", "time after which the leader compares all members again; 0: never"),
    row(Features, Acts, Bool, "initial-corrupt-check", "false", "compare what this member has with the others before it serves; also --feature-gates=InitialCorruptCheck=true"),
    row(Features, Acts, Bool, "compact-hash-check-enabled", "false", "let the leader compare the members once after each compaction; also --feature-gates=CompactHashCheck=true"),
    row(Features, Acts, Duration, "compact-hash-check-time", "1m", "time after which it looks whether there was one"),
    row(Features, Ignored, Bool, "experimental-stop-grpc-service-on-defrag", "false", "stop serving while defragmenting"),
    row(Features, Ignored, Bool, "experimental-enable-lease-checkpoint", "false", "keep leases' remaining time through a change of leader"),
    row(Features, Ignored, Bool, "experimental-enable-lease-checkpoint-persist", "false", "keep leases' remaining time through a restart"),
    row(Features, Ignored, Bool, "experimental-txn-mode-write-with-shared-buffer", "true", "of etcd's own storage"),
    row(Features, Ignored, Bool, "experimental-set-member-localaddr", "false", "of connections between members"),
    row(Features, Ignored, Uint, "bootstrap-defrag-threshold-megabytes", "0", "defragment at the start"),
    row(Features, Ignored, Duration, "downgrade-check-time", "5s", "time between two checks of a downgrade"),

    row(UnsafeGroup, Acts, Bool, "force-new-cluster", "false", "make a cluster of this member alone, with what it has: the others must never come back"),
    row(UnsafeGroup, Acts, Bool, "unsafe-no-fsync", "false", "do not wait for the disk: a crash loses acknowledged writes"),

    row(Group::Own, Acts, Text, "stentor-cluster-id", "", "id of a new cluster, decimal or 0x hex; random when not given"),
    row(Group::Own, Acts, Bool, "stentor-keep-log", "false", "forget no entry of the log, which grows for ever: for `stentorctl log dump`"),
    row(Group::Own, Acts, Uint, "stentor-max-answer-bytes", "536870912", "bytes that large answers on their way may hold together; further large reads wait"),
    row(Group::Own, Acts, Text, "stentor-member-id", "", "id of a new member, decimal or 0x hex; random when not given"),
    row(Group::Own, Acts, Duration, "stentor-slow-watcher-time", "10s", "time after which a watcher that is behind is logged and counted as slow; 0: never"),
];

/// The gate of all features that etcd calls alpha, which those of [`GATES_THAT_ACT`] are.
pub(crate) const ALL_ALPHA: &str = "AllAlpha";
pub(crate) const COMPACT_HASH_CHECK: &str = "CompactHashCheck";
pub(crate) const INITIAL_CORRUPT_CHECK: &str = "InitialCorruptCheck";

/// The feature gates that have a meaning here.
pub(crate) const GATES_THAT_ACT: &[&str] = &[ALL_ALPHA, COMPACT_HASH_CHECK, INITIAL_CORRUPT_CHECK];

/// The feature gates of etcd 3.7.
pub(crate) const FEATURE_GATES: &[&str] = &[
    ALL_ALPHA,
    "AllBeta",
    COMPACT_HASH_CHECK,
    "FastLeaseKeepAlive",
    INITIAL_CORRUPT_CHECK,
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "PriorityRequest",
    "SetMemberLocalAddr",
    "StopGRPCServiceOnDefrag",
    "TxnModeWriteWithSharedBuffer",
];
