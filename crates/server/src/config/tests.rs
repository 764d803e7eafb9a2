//! Each rule of the command line, the environment and the file.

use std::io::Write as _;

use super::*;

pub(super) fn run(args: &[&str], env: &[(&str, &str)]) -> Result<(Config, Vec<String>), ConfigError> {
    let args = args.iter().map(OsString::from);
    let env = env.iter().map(|(name, value)| (name.into(), value.into()));
    match load(args, env)? {
        Command::Run { config, warnings } => Ok((*config, warnings)),
        other => panic!("{other:?} instead of a run"),
    }
}

pub(super) fn ok(args: &[&str]) -> Config {
    run(args, &[]).unwrap().0
}

pub(super) fn error(args: &[&str]) -> ConfigError {
    let error = run(args, &[]).unwrap_err();
    assert!(!error.to_string().contains('\n'), "more than one line: {error}");
    error
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

pub(super) fn run_file(text: &str, args: &[&str], env: &[(&str, &str)]) -> Result<(Config, Vec<String>), ConfigError> {
    let file = file(text);
    let path = file.path().to_str().unwrap();
    run(&[args, &["--config-file", path]].concat(), env)
}

#[test]
fn defaults_are_those_of_etcd() {
    let config = ok(&[]);
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(config.listen_client_urls[0].as_str(), "http://localhost:2379");
    assert_eq!(config.advertise_client_urls[0].as_str(), "http://localhost:2379");
    assert_eq!(config.initial_advertise_peer_urls[0].as_str(), "http://localhost:2380");
    assert_eq!(config.quota, Quota::Bytes(2 << 30));
    assert_eq!(config.max_txn_ops, 128);
    assert_eq!(config.max_request_bytes, 1_572_864);
    assert_eq!(config.max_concurrent_streams, u32::MAX);
    assert_eq!(config.auto_compaction, AutoCompaction::Off);
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!(config.slow_watcher_time, Duration::from_secs(10));
    assert_eq!(config.election_timeout, Duration::from_secs(1));
    assert_eq!(config.keepalive.interval, Some(Duration::from_secs(7200)));
    assert_eq!(config.log.outputs, [LogOutput::Stderr]);
    assert_eq!(config.cluster_id, None);
}

#[test]
fn every_spelling_of_a_flag() {
    for args in [
        &["--max-txn-ops=7"][..],
        &["--max-txn-ops", "7"],
        &["-max-txn-ops", "7"],
        &["-max-txn-ops=7"],
        &["--max-txn-ops", "9", "--max-txn-ops", "8", "-max-txn-ops=7"],
    ] {
        assert_eq!(ok(args).max_txn_ops, 7, "{args:?}");
    }
    assert_eq!(ok(&["--quota-backend-bytes", "-1"]).quota, Quota::Unlimited);
    for (args, want) in [
        (&["--unsafe-no-fsync"][..], true),
        (&["-unsafe-no-fsync"], true),
        (&["--unsafe-no-fsync=true"], true),
        (&["--unsafe-no-fsync=false"], false),
        (&["--unsafe-no-fsync", "--unsafe-no-fsync=0"], false),
        (&["--unsafe-no-fsync=F", "--unsafe-no-fsync=T"], true),
    ] {
        assert_eq!(ok(args).unsafe_no_fsync, want, "{args:?}");
    }
}

#[test]
fn small_values_of_harnesses_act() {
    let config = ok(&[
        "--compaction-batch-limit=10",
        "--heartbeat-interval=29",
        "--election-timeout=271",
        "--watch-progress-notify-interval=100ms",
        "--quota-backend-bytes=53248",
        "--max-concurrent-streams=3",
    ]);
    assert_eq!(config.compaction_batch_limit, 10);
    assert_eq!(config.election_timeout, Duration::from_millis(271));
    assert_eq!(config.watch_progress_notify_interval, Duration::from_millis(100));
    assert_eq!(config.quota, Quota::Bytes(53_248));
    assert_eq!(config.max_concurrent_streams, 3);
}

#[test]
fn older_spellings_are_the_same_flag() {
    let config = ok(&["--experimental-watch-progress-notify-interval=5s"]);
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
    let config = ok(&["--experimental-compaction-batch-limit=5", "--compaction-batch-limit=6"]);
    assert_eq!(config.compaction_batch_limit, 6);
    assert_eq!(error(&["--experimental-data-dir=x"]).exit_code(), 2);
    let (_, warnings) = run(&["--experimental-set-member-localaddr=true"], &[]).unwrap();
    assert_eq!(warnings, ["--experimental-set-member-localaddr has no effect in this version"]);
}

#[test]
fn what_cannot_be_read_leaves_with_2() {
    for (args, part) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["--no-such-flag=3"], "not defined"),
        (&["extra"], "not a valid flag"),
        (&["--unsafe-no-fsync", "false"], "not a valid flag"),
        (&["gateway"], "command"),
        (&["-"], "not a valid flag"),
        (&["--", "x"], "not a valid flag"),
        (&["--name"], "needs an argument"),
        (&["--max-txn-ops=many"], "integer"),
        (&["--max-txn-ops=-1"], "integer"),
        (&["--max-txn-ops=0"], "out of range"),
        (&["--unsafe-no-fsync=maybe"], "neither true nor false"),
        (&["--grpc-keepalive-interval=5"], "duration"),
        (&["--max-concurrent-streams=4294967296"], "out of range"),
        (&["--log-level=loud"], "--log-level"),
        (&["--metrics=all"], "--metrics"),
        (&["--initial-cluster-state=old"], "--initial-cluster-state"),
        (&["--heartbeat-interval=300", "--election-timeout=1000"], "5 times"),
        (&["--election-timeout=60000"], "50000"),
        (&["--listen-client-urls=http://127.0.0.1:1"], "--advertise-client-urls is required"),
        (&["--listen-client-urls=127.0.0.1:1", "--advertise-client-urls=http://127.0.0.1:1"], "scheme"),
        (&["--listen-metrics-urls=http://example.org:1"], "IP address"),
        (&["--initial-cluster=other=http://127.0.0.1:2380"], "does not name this member"),
        (&["--initial-cluster=default"], "NAME=URL"),
        (
            &["--initial-cluster=default=http://127.0.0.1:1", "--initial-advertise-peer-urls=http://127.0.0.1:2"],
            "must be the same",
        ),
        (&["--initial-cluster=default=http://127.0.0.1:1,other=http://127.0.0.1:1"], "twice"),
        (&["--auto-compaction-retention=soon"], "duration"),
        (&["--auto-compaction-mode=revision", "--auto-compaction-retention=1h"], "count"),
        (&["--auto-compaction-mode=never"], "periodic nor revision"),
        (&["--feature-gates=NoSuch=true"], "NoSuch"),
        (&["--stentor-cluster-id=0"], "id"),
        (&["--config-file=/no/such/file"], "/no/such/file"),
    ] {
        let error = error(args);
        assert!(error.to_string().contains(part), "{args:?}: {error}");
        assert_eq!(error.exit_code(), 2, "{args:?}");
    }
}

#[test]
fn what_would_be_unsafe_leaves_with_1() {
    for args in [
        &["--cert-file=a"][..],
        &["--key-file=a"],
        &["--trusted-ca-file=a"],
        &["--client-cert-auth"],
        &["--client-crl-file=a"],
        &["--peer-cert-file=a"],
        &["--peer-key-file=a"],
        &["--peer-trusted-ca-file=a"],
        &["--peer-client-cert-auth=true"],
        &["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"],
        &["--listen-metrics-urls=https://127.0.0.1:1"],
        &["--listen-peer-urls=https://127.0.0.1:1"],
        &["--initial-advertise-peer-urls=https://127.0.0.1:1"],
        &["--auth-token=jwt,pub-key=a,priv-key=b,sign-method=RS256"],
    ] {
        let error = error(args);
        assert_eq!(error.exit_code(), 1, "{args:?}: {error}");
    }
    // Said to be off, they change nothing.
    ok(&["--client-cert-auth=false", "--auto-tls=false", "--cert-file=", "--auth-token=simple", "--proxy=off"]);
}

#[test]
fn a_cluster_of_one_is_fine() {
    let config = ok(&[
        "--name=m",
        "--initial-cluster=m=http://127.0.0.1:1,m=http://127.0.0.1:2",
        "--initial-cluster-state=existing",
    ]);
    let urls: Vec<_> = config.initial_advertise_peer_urls.iter().map(Url::as_str).collect();
    assert_eq!(urls, ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
    assert_eq!(config.initial_cluster_state, InitialClusterState::Existing);
    assert_eq!(config.data_dir, PathBuf::from("m.etcd"));
}

#[test]
fn the_members_of_a_cluster_are_read_by_name() {
    let config = ok(&["--name=b", "--initial-cluster=c=http://c:1,b=http://b:1,c=http://c:2", "--max-learners=3"]);
    let found: Vec<_> =
        config.initial_cluster.iter().map(|(name, urls)| (&name[..], urls.iter().map(Url::as_str).collect())).collect();
    assert_eq!(found, [("b", vec!["http://b:1"]), ("c", vec!["http://c:1", "http://c:2"])]);
    assert_eq!(config.initial_advertise_peer_urls[0].as_str(), "http://b:1");
    assert_eq!((&config.initial_cluster_token[..], config.max_learners), ("etcd-cluster", 3));
    assert!(config.strict_reconfig_check && !config.listens_for_peers);
}

#[test]
fn ignored_flags_are_named_once() {
    let (_, warnings) =
        run(&["--max-wals=1", "--max-wals=2", "--logger=zap", "--cors=*", "--enable-grpc-gateway"], &[]).unwrap();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("--max-wals")));
    assert_eq!(run(&["--max-txn-ops=1"], &[]).unwrap().1, Vec::<String>::new());
}

#[test]
fn flags_of_the_replicated_log_act() {
    let args =
        ["--snapshot-count=10", "--snapshot-catchup-entries=11", "--heartbeat-interval=29", "--election-timeout=271"];
    let (config, warnings) = run(&args, &[]).unwrap();
    assert_eq!(config.election_timeout, Duration::from_millis(271));
    assert_eq!(config.heartbeat_interval, Duration::from_millis(29));
    assert_eq!((config.snapshot_count, config.snapshot_catchup_entries), (10, 11));
    assert_eq!(config.wal_dir, config.data_dir.join("log"));
    assert_eq!(ok(&["--wal-dir=/fast"]).wal_dir, PathBuf::from("/fast"));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn the_journal_is_reached_by_stderr_and_that_is_said() {
    let (config, warnings) = run(&["--log-outputs=systemd/journal"], &[]).unwrap();
    assert_eq!(config.log.outputs, [LogOutput::Stderr]);
    assert!(warnings.len() == 1 && warnings[0].contains("systemd/journal"), "{warnings:?}");
}

#[test]
fn every_flag_of_the_table_parses() {
    for flag in flags::FLAGS.iter().filter(|flag| flag.name != "config-file") {
        let mut args = vec![format!("--{}={}", flag.name, flag.default)];
        if flag.name == "listen-client-urls" {
            args.push("--advertise-client-urls=http://localhost:2379".into());
        }
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        ok(&args);
    }
}

#[test]
fn flag_beats_stentor_beats_etcd() {
    let etcd = ("ETCD_NAME", "etcd");
    let stentor = ("STENTOR_NAME", "stentor");
    assert_eq!(run(&[], &[etcd]).unwrap().0.name, "etcd");
    assert_eq!(run(&[], &[stentor, etcd]).unwrap().0.name, "stentor");
    assert_eq!(run(&["--name=flag"], &[stentor, etcd]).unwrap().0.name, "flag");
    assert_eq!(run(&[], &[("ETCD_NAME", "")]).unwrap().0.name, "default");
    let (config, _) = run(&[], &[("ETCD_EXPERIMENTAL_COMPACTION_BATCH_LIMIT", "3")]).unwrap();
    assert_eq!(config.compaction_batch_limit, 3);
    let (config, _) = run(&[], &[("STENTOR_CLUSTER_ID", "0xff"), ("STENTOR_MEMBER_ID", "5")]).unwrap();
    assert_eq!((config.cluster_id, config.member_id), (Some(255), Some(5)));
}

#[test]
fn unknown_variables_only_warn() {
    let env = [("ETCD_NO_SUCH", "1"), ("STENTOR_SERVICE_HOST", "10.0.0.1"), ("ETCDCTL_API", "3"), ("HOME", "")];
    let (_, warnings) = run(&[], &env).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("ETCD_NO_SUCH") && warnings[1].contains("STENTOR_SERVICE_HOST"));
    let error = run(&[], &[("ETCD_MAX_TXN_OPS", "many")]).unwrap_err();
    assert!(error.to_string().contains("ETCD_MAX_TXN_OPS"), "{error}");
    assert_eq!(run(&[], &[("ETCD_CERT_FILE", "a")]).unwrap_err().exit_code(), 1);
}

#[test]
fn a_file_alone_counts() {
    let text = "name: from-file\nlisten-client-urls: http://127.0.0.1:1,http://127.0.0.1:2\n\
                advertise-client-urls: http://127.0.0.1:1\nwatch-progress-notify-interval: 5000000000\n\
                grpc-keepalive-interval: 3s\nunsafe-no-fsync: true\nquota-backend-bytes: 53248\n\
                heartbeat-interval: 50\nauto-compaction-retention: 5m\nlog-outputs: [stderr, /tmp/x.log]\n\
                client-transport-security:\n  cert-file: ''\n  client-cert-auth: false\n\
                peer-transport-security:\n  auto-tls: false\n";
    let (config, warnings) =
        run_file(text, &["--max-txn-ops=1", "--name=flag"], &[("ETCD_MAX_REQUEST_BYTES", "1"), ("ETCD_X", "1")])
            .unwrap();
    assert_eq!(config.name, "from-file");
    assert_eq!((config.max_txn_ops, config.max_request_bytes), (128, 1_572_864));
    assert_eq!(config.listen_client_urls.len(), 2);
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
    assert_eq!(config.keepalive.interval, Some(Duration::from_secs(3)));
    assert!(config.unsafe_no_fsync);
    assert_eq!(config.quota, Quota::Bytes(53_248));
    assert_eq!(config.auto_compaction, AutoCompaction::Periodic(Duration::from_secs(300)));
    assert_eq!(config.log.outputs, [LogOutput::Stderr, LogOutput::File("/tmp/x.log".into())]);
    assert_eq!(config.heartbeat_interval, Duration::from_millis(50));
    assert_eq!(warnings, Vec::<String>::new());

    let by_variable = file("name: by-variable");
    let path = by_variable.path().to_str().unwrap();
    assert_eq!(run(&[], &[("ETCD_CONFIG_FILE", path)]).unwrap().0.name, "by-variable");
    assert_eq!(run_file("", &[], &[]).unwrap().0.name, "default");
}

#[test]
fn a_file_that_is_wrong_is_refused() {
    for (text, code) in [
        ("no-such-name: 1", 2),
        ("name: [", 2),
        ("- name", 2),
        ("max-txn-ops: many", 2),
        ("client-transport-security:\n  no-such: 1", 2),
        ("client-transport-security: 3", 2),
        ("config-file: other.yaml", 2),
        ("client-transport-security:\n  cert-file: a", 1),
        ("client-transport-security:\n  client-cert-auth: true", 1),
        ("peer-transport-security:\n  trusted-ca-file: a", 1),
        ("peer-transport-security:\n  allowed-cn: a", 1),
    ] {
        let error = run_file(text, &[], &[]).unwrap_err();
        assert_eq!(error.exit_code(), code, "{text}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn retention_is_hours_durations_or_a_count() {
    for (args, want) in [
        (&["--auto-compaction-retention=2"][..], AutoCompaction::Periodic(Duration::from_secs(7200))),
        (&["--auto-compaction-retention=90s"], AutoCompaction::Periodic(Duration::from_secs(90))),
        (&["--auto-compaction-retention=0s"], AutoCompaction::Off),
        (&["--auto-compaction-mode=revision", "--auto-compaction-retention=0"], AutoCompaction::Off),
        (&["--auto-compaction-mode=revision", "--auto-compaction-retention=9"], AutoCompaction::Revisions(9)),
    ] {
        assert_eq!(ok(args).auto_compaction, want, "{args:?}");
    }
}

#[test]
fn progress_interval_has_a_floor() {
    let (config, warnings) = run(&["--watch-progress-notify-interval=1ms"], &[]).unwrap();
    assert_eq!(config.watch_progress_notify_interval, Duration::from_millis(100));
    assert_eq!(warnings.len(), 1);
}

#[test]
fn version_and_help_win() {
    let command = |args: &[&str]| load(args.iter().map(OsString::from), []).unwrap();
    assert!(matches!(command(&["--version"]), Command::Version));
    assert!(matches!(command(&["--cert-file=a", "-version"]), Command::Version));
    assert!(matches!(command(&["--version=false"]), Command::Run { .. }));
    for args in [&["--help"][..], &["-h"], &["--name", "x", "-help"]] {
        let Command::Help(text) = command(args) else { panic!("no help for {args:?}") };
        for flag in flags::FLAGS {
            assert!(text.contains(&format!("--{}", flag.name)), "{} is missing", flag.name);
        }
    }
}
