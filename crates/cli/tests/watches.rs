//! Watches: they go on, so each is read until a last event has come.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use crate::compare::{Leave, normal};
use crate::harness::{Etcd, PATIENCE, Run, Tool, etcdctls, lossless};

/// A tool that is watching; killed when dropped.
pub(crate) struct Watching {
    child: Child,
    pub(crate) input: Option<ChildStdin>,
    pieces: Receiver<Vec<u8>>,
    pub(crate) seen: Vec<u8>,
}

impl Watching {
    pub(crate) fn start(tool: &Tool, endpoint: &str, args: &[&str], env: &[(&str, &str)]) -> Watching {
        let mut command = tool.command(endpoint, args);
        command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let (send, pieces) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut piece) {
                if send.send(piece[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Watching { child, input, pieces, seen: Vec::new() }
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Reads on until the output ends with `last`.
    pub(crate) fn until(&mut self, last: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.ends_with(last.as_bytes()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.seen.extend(piece),
                Err(e) => panic!("no {last:?} ({e}) in {:?}", lossless(&self.seen)),
            }
        }
        lossless(&self.seen)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn history(server: &Etcd) {
    for args in ["put w 1", "put w 2", "put x <&>", "del w", "put w 3", "put zz end"] {
        Tool::ours().ok(&server.endpoint(), &args.split(' ').collect::<Vec<_>>());
    }
}

fn watched(tool: &Tool, server: &Etcd, args: &[&str], env: &[(&str, &str)], last: &str) -> Run {
    let out = Watching::start(tool, &server.endpoint(), args, env).until(last);
    normal(tool, &Run { code: 0, out, err: String::new() }, server.port, Leave::Nothing)
}

#[test]
fn histories_look_the_same() {
    let Some(server) = Etcd::start(&[]) else { return };
    history(&server);
    let revision = "--rev=2";
    // The end of the last event, as each format shows it.
    let cases: &[(&[&str], &str, u32)] = &[
        (&["watch", "w", "--prefix", revision], "3\n", 34),
        (&["watch", "w", "zzz", revision, "--prev-kv"], "end\n", 34),
        (&["watch", "w", revision, "--hex"], "\\x33\n", 34),
        (&["watch", "w", "zzz", revision, "-w", "fields"], "\"Value\" : \"end\"\n\"Lease\" : 0\n", 34),
        (&["watch", "w", "zzz", revision, "-w", "fields", "--prev-kv"], "\"Value\" : \"end\"\n\"Lease\" : 0\n", 34),
        (
            &["watch", "w", "zzz", revision, "-w", "fields", "--hex"],
            "\"Value\" : \"end\"\n\"Lease\" : 0000000000000000\n",
            37,
        ),
        (&["watch", "w", "zzz", revision, "-w", "protobuf", "--prev-kv"], "*\u{3}end", 34),
        (&["watch", "w", "zzz", revision, "-w", "json"], "\n", 34),
        (&["watch", "w", "zzz", revision, "-w", "json", "--prev-kv"], "\n", 34),
        (
            &[
                "watch",
                "w",
                "x",
                revision,
                "--",
                "sh",
                "-c",
                "env | grep ETCD_WATCH | sort; echo done-$ETCD_WATCH_VALUE",
            ],
            "done-\"3\"\n",
            34,
        ),
    ];
    for theirs in etcdctls() {
        for (args, last, since) in cases {
            if theirs.version >= *since {
                let ours = watched(&Tool::ours(), &server, args, &[], last);
                assert_eq!(ours, watched(&theirs, &server, args, &[], last), "{args:?} beside {:?}", theirs.path);
            }
        }
        let env = [("ETCDCTL_WATCH_KEY", "w"), ("ETCDCTL_WATCH_RANGE_END", "zzz")];
        let args = ["watch", revision];
        let ours = watched(&Tool::ours(), &server, &args, &env, "end\n");
        assert_eq!(ours, watched(&theirs, &server, &args, &env, "end\n"), "keys from the environment");
    }
}

#[test]
fn lines_are_read_as_etcdctl_reads_them() {
    let Some(server) = Etcd::start(&[]) else { return };
    history(&server);
    for theirs in etcdctls() {
        let talk = |tool: &Tool| {
            let mut watching = Watching::start(tool, &server.endpoint(), &["watch", "-i"], &[]);
            watching.say("watch w zzz --rev 2 --prev-kv");
            watching.until("end\n");
            watching.say("progress");
            watching.until("progress notify: 7\n");
            // 3.4 and 3.5.1 stumble over single quotes.
            let key = if theirs.version < 37 { "x" } else { "'x'" };
            watching.say(&format!("watch {key} --rev=2 -- echo \"an event\""));
            watching.until("an event\n")
        };
        assert_eq!(talk(&Tool::ours()), talk(&theirs), "beside {:?}", theirs.path);
        for lines in ["w\n", "watch\n", "\n", "progress\n", "watch w --nope\n", "watch w --prefix --rev zz\n"] {
            let run = |tool: &Tool| {
                normal(tool, &tool.run(&server.endpoint(), &["watch", "-i"], lines), server.port, Leave::Nothing)
            };
            let (mut ours, mut expected) = (run(&Tool::ours()), run(&theirs));
            // 3.4 words and sorts these differently.
            if theirs.version < 35 {
                (ours.err, expected.err) = (String::new(), String::new());
            }
            assert_eq!(ours, expected, "{lines:?} beside {:?}", theirs.path);
        }
    }
}
