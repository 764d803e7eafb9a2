//! What etcdctl has no like of, or does otherwise.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Etcd, Tool, etcdctls};
use crate::watches::Watching;

fn ours(endpoint: &str, line: &str) -> crate::harness::Run {
    Tool::ours().run(endpoint, &line.split(' ').collect::<Vec<_>>(), "")
}

/// An address where nobody listens, nor will: a port that only the system's owner may take, for a service
/// of the seventies.
const NOWHERE: &str = "127.0.0.1:1";

/// Runs a command with ever more time until it came to what it must in time.
fn in_time(endpoint: &str, line: &str, came: impl Fn(&crate::harness::Run) -> bool) -> crate::harness::Run {
    let mut run = None;
    for milliseconds in [300, 1_000, 5_000, 20_000] {
        let done = ours(endpoint, &format!("{line} --command-timeout={milliseconds}ms"));
        if came(&done) {
            return done;
        }
        run = Some(done);
    }
    panic!("{run:?}");
}

#[test]
fn an_unreachable_server_is_named_and_the_exit_code_is_etcdctls() {
    let named = format!("cannot reach {NOWHERE}: ");
    let run = in_time(NOWHERE, "get a", |run| run.err.starts_with(&named));
    assert_eq!(run.code, 1);
    assert_eq!(run.err.lines().nth(1), Some("Error: context deadline exceeded"), "{run:?}");
    let health = ours(NOWHERE, "endpoint health --command-timeout=300ms -w json");
    assert_eq!(health.code, 1);
    assert!(
        health.out.contains("\"health\":false") && health.err.ends_with("Error: unhealthy cluster\n"),
        "{health:?}"
    );
    assert_eq!(ours("", "get a --endpoints=").code, 2);
}

#[test]
fn a_silent_server_is_given_up_in_time() {
    // Accepts connections by its backlog and never says anything.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let run = ours(&endpoint, "get a --command-timeout=500ms --dial-timeout=200ms");
    assert_eq!((run.code, run.err.lines().last()), (1, Some("Error: context deadline exceeded")), "{run:?}");
}

#[test]
fn what_is_not_built_is_refused() {
    let run = ours("", "get a --discovery-srv=example.org");
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.err.contains("not supported yet"), "{run:?}");
}

#[test]
fn settings_of_tls_that_cannot_be_used_are_refused_before_anybody_is_asked() {
    for flag in ["--cert=x", "--key=x"] {
        let run = ours("", &format!("get a {flag}"));
        assert_eq!((run.code, run.err.contains("together")), (128, true), "{run:?}");
    }
    let run = ours("", "get a --cacert=/nowhere/ca.pem");
    assert_eq!((run.code, run.err.contains("/nowhere/ca.pem")), (128, true), "{run:?}");
}

#[test]
fn help_and_completions_need_no_server() {
    for line in ["--help", "get --help", "watch --help", "snapshot save --help", "lease", "version"] {
        assert_eq!(ours("", line).code, 0, "{line}");
    }
    assert!(ours("", "watch --help").out.contains("Examples:"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(ours("", &format!("completion {shell}")).out.contains("keep-alive"), "{shell}");
    }
    assert_eq!(ours("", "completion tcsh").code, 1);
}

#[test]
fn a_format_that_cannot_be_shown_changes_nothing() {
    let Some(server) = Etcd::start(&[]) else { return };
    assert_eq!(ours(&server.endpoint(), "put a 1 -w table").code, 4);
    assert_eq!(ours(&server.endpoint(), "get a").out, "");
}

#[test]
fn the_first_endpoint_that_answers_is_taken() {
    let Some(server) = Etcd::start(&[]) else { return };
    let endpoints = format!("{NOWHERE},{}", server.endpoint());
    assert_eq!(ours(&endpoints, "put a 1").out, "OK\n");
    let status = in_time(&endpoints, "endpoint status -w json", |run| run.out.contains(&server.endpoint()));
    assert_eq!(status.code, 1);
    assert!(status.err.contains("Failed to get the status of endpoint"), "{status:?}");
}

#[test]
fn an_etcd_has_no_list_of_watchers_and_that_is_said() {
    let Some(server) = Etcd::start(&[]) else { return };
    for line in ["watchers", "watchers --follow", "watchers --streams -w json"] {
        let run = ours(&server.endpoint(), line);
        assert_eq!((run.code, run.out.as_str()), (4, ""), "{run:?}");
        assert!(run.err.starts_with("Error: this server does not tell of its watchers: only Stentor does."), "{run:?}");
    }
}

#[test]
fn a_watch_survives_the_server() {
    let Some(mut server) = Etcd::start(&[]) else { return };
    let endpoint = server.endpoint();
    let mut watching = Watching::start(&Tool::ours(), &endpoint, &["watch", "w", "--prefix", "--rev=1"], &[]);
    ours(&endpoint, "put w1 before");
    watching.until("before\n");
    server.kill();
    server.restart();
    ours(&endpoint, "put w2 after");
    assert_eq!(watching.until("after\n"), "PUT\nw1\nbefore\nPUT\nw2\nafter\n");
}

#[test]
fn a_failing_command_ends_its_watch() {
    let Some(server) = Etcd::start(&[]) else { return };
    ours(&server.endpoint(), "put w 1");
    for (command, cause) in [
        ("false", "command [\"false\"] error (exit status 1)\n"),
        ("/nonexistent", "command [\"/nonexistent\"] error (fork/exec /nonexistent: no such file or directory)\n"),
    ] {
        let run = ours(&server.endpoint(), &format!("watch w --rev=1 -- {command}"));
        assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (1, "PUT\nw\n1\n", cause));
    }
}

#[test]
fn snapshots_are_whole_private_and_verified() {
    let Some(server) = Etcd::start(&[]) else { return };
    ours(&server.endpoint(), "put a 1");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("db.snap");
    let name = file.display();
    let saved = ours(&server.endpoint(), &format!("snapshot save {name}"));
    assert_eq!(saved.code, 0, "{saved:?}");
    assert!(saved.out.starts_with(&format!("Snapshot saved at {name}\n")), "{saved:?}");
    let meta = std::fs::metadata(&file).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the .part file is gone");
    let status = ours("", &format!("snapshot status {name} -w json"));
    assert!(status.out.contains(&format!("\"totalSize\":{}", meta.len() - 32)), "{status:?}");
    let foreign = ours("", &format!("snapshot restore {name} --data-dir {name}.dir"));
    assert_eq!(foreign.code, 1);
    assert!(foreign.err.contains("no snapshot of Stentor"), "{foreign:?}");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(ours("", &format!("snapshot status {name}")).err.contains("damaged"));
    let two = ours(&format!("{},127.0.0.1:1", server.endpoint()), &format!("snapshot save {name}"));
    assert_eq!(two.code, 5);
    assert!(two.err.contains("one selected node"), "{two:?}");
}

#[test]
fn passwords_open_a_server_with_authentication() {
    let Some(server) = Etcd::start(&[]) else { return };
    let endpoint = server.endpoint();
    assert_eq!(ours(&endpoint, "get a --user root:x").code, 0, "without authentication users are not asked for");
    let Some(etcdctl) = etcdctls().pop() else { return };
    for line in ["user add root:x", "user grant-role root root", "auth enable"] {
        etcdctl.ok(&endpoint, &line.split(' ').collect::<Vec<_>>());
    }
    assert_eq!(ours(&endpoint, "put a 1 --user root:x").out, "OK\n");
    assert_eq!(ours(&endpoint, "get a --user root --password x").out, "a\n1\n");
    assert_eq!(ours(&endpoint, "get a").err, "Error: etcdserver: user name is empty\n");
    let wrong = ours(&endpoint, "get a --user root:y");
    assert_eq!(wrong.err, "Error: etcdserver: authentication failed, invalid user ID or password\n");
    assert_eq!(wrong.code, 1);
}

#[test]
fn checks_write_judge_and_clean_up() {
    let Some(server) = Etcd::start(&[]) else { return };
    let endpoint = server.endpoint();
    let perf = ours(&endpoint, "check perf --duration=2s --auto-compact --auto-defrag");
    let lines: Vec<&str> = perf.out.lines().collect();
    let verdict = if perf.code == 0 { "PASS" } else { "FAIL" };
    assert_eq!(lines.last(), Some(&verdict), "{perf:?}");
    assert!(lines[0].starts_with("Compacting with revision ") && lines.iter().any(|l| l.contains("Throughput")));
    let scale = ours(&endpoint, "check datascale");
    assert_eq!(scale.code, 0, "{scale:?}");
    assert!(scale.out.contains("PASS: Approximate system memory used : "), "{scale:?}");
    assert!(ours(&endpoint, "get --prefix /etcdctl --count-only -w fields").out.contains("\"Count\" : 0\n"));
    ours(&endpoint, "put /etcdctl-check-perf/mine 1");
    let refused = ours(&endpoint, "check perf --duration=1s");
    assert_eq!(refused.code, 5);
    assert!(refused.err.contains("has keys"), "{refused:?}");
}
