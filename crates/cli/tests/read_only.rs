//! Questions, asked of one server by both tools until they got the same answer: its sizes move by
//! themselves.

use std::time::Instant;

use crate::compare::{Leave, normal};
use crate::harness::{Etcd, PATIENCE, Run, Tool, etcdctls};

fn same(server: &Etcd, theirs: &Tool, line: &str, leave: Leave) {
    let args: Vec<&str> = line.split(' ').collect();
    let run = |tool: &Tool| -> Run { normal(tool, &tool.run(&server.endpoint(), &args, ""), server.port, leave) };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (ours, expected) = (run(&Tool::ours()), run(theirs));
        if ours == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "`{line}` beside {:?}\nours: {ours:#?}\netcdctl: {expected:#?}",
            theirs.path
        );
    }
}

#[test]
fn members_and_endpoints() {
    let Some(server) = Etcd::start(&[]) else { return };
    Tool::ours().ok(&server.endpoint(), &["put", "a", "1"]);
    for theirs in etcdctls() {
        for line in
            ["member list", "member list -w json", "member list -w protobuf", "alarm list", "alarm list -w json"]
        {
            same(&server, &theirs, line, Leave::Nothing);
        }
        for line in ["alarm list -w fields", "alarm disarm"] {
            same(&server, &theirs, line, Leave::Nothing);
        }
        if theirs.version >= 35 {
            same(&server, &theirs, "endpoint health", Leave::Nothing);
            same(&server, &theirs, "endpoint health --cluster", Leave::Nothing);
            same(&server, &theirs, "endpoint health -w json", Leave::Nothing);
            same(&server, &theirs, "endpoint health -w fields", Leave::Nothing);
        }
        if theirs.version < 37 {
            continue;
        }
        for word in ["endpoint status", "endpoint hashkv", "member list", "endpoint status --cluster"] {
            for more in ["", " -w json", " -w fields", " -w table", " --hex", " --hex -w json", " --hex -w fields"] {
                same(&server, &theirs, &format!("{word}{more}"), Leave::Nothing);
            }
        }
        same(&server, &theirs, "endpoint health -w table", Leave::Padding);
        same(&server, &theirs, "member list --consistency s", Leave::Nothing);
        same(&server, &theirs, "alarm disarm -w fields", Leave::Nothing);
        same(&server, &theirs, "alarm disarm -w json", Leave::Nothing);
        same(&server, &theirs, "defrag", Leave::Nothing);
        same(&server, &theirs, "defrag --cluster -w json", Leave::Nothing);
    }
}

#[test]
fn alarms() {
    let Some(server) = Etcd::start(&["--quota-backend-bytes=200000"]) else { return };
    let value = "v".repeat(100_000);
    // The server measures its size now and then.
    let deadline = Instant::now() + PATIENCE;
    let puts = std::iter::repeat_with(|| Tool::ours().run(&server.endpoint(), &["put", "k", &value], ""));
    let refused = puts.take_while(|_| Instant::now() < deadline).find(|run| run.code != 0);
    assert_eq!(refused.map(|r| r.err).as_deref(), Some("Error: etcdserver: mvcc: database space exceeded\n"));
    for theirs in etcdctls() {
        for line in ["alarm list -w json", "alarm list -w fields", "alarm list -w protobuf"] {
            same(&server, &theirs, line, Leave::Nothing);
        }
        // 3.7 leaves the space at the end of the line away.
        same(&server, &theirs, "alarm list", if theirs.version < 37 { Leave::Nothing } else { Leave::Padding });
        if theirs.version >= 37 {
            for more in ["", " -w json", " -w fields"] {
                same(&server, &theirs, &format!("endpoint health{more}"), Leave::Nothing);
                same(&server, &theirs, &format!("endpoint status{more}"), Leave::Nothing);
            }
            same(&server, &theirs, "endpoint status -w table", Leave::Nothing);
            same(&server, &theirs, "endpoint health -w table", Leave::Padding);
            same(&server, &theirs, "alarm list --hex -w fields", Leave::Nothing);
        }
    }
    assert!(Tool::ours().ok(&server.endpoint(), &["alarm", "disarm"]).ends_with(" alarm:NOSPACE \n"));
    assert_eq!(Tool::ours().ok(&server.endpoint(), &["alarm", "list"]), "");
}
