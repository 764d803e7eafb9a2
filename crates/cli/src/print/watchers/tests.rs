//! The shapes of the output, byte by byte.

use stentor_proto::etcdserverpb::ResponseHeader;
use stentor_proto::introspectionpb::{Stream, Totals};

use super::*;

/// A stalled watcher, one that catches up and one that is synced.
fn response() -> WatchersResponse {
    let stream = |id, peer: &str, user_agent: &str| Stream {
        id,
        peer: peer.into(),
        user_agent: user_agent.into(),
        opened_unix_ms: 1_700_000_000_000,
        watchers: 1,
        ..Stream::default()
    };
    let (synced, unsynced, victim) = (WatcherState::Synced, WatcherState::Unsynced, WatcherState::Victim);
    WatchersResponse {
        header: Some(ResponseHeader { cluster_id: 1, member_id: 2, revision: 1000, raft_term: 2 }),
        now_unix_ms: 1_700_000_090_000,
        totals: Some(Totals {
            streams: 3,
            synced: 1,
            unsynced: 1,
            victims: 1,
            matching: 3,
            slowest_lag_revisions: 900,
            slowest_lag_ms: 75_300,
            held_bytes: 8_400_000,
            compact_revision: 7,
        }),
        watchers: vec![
            Watcher {
                stream_id: 12,
                watch_id: -1,
                key: "/registry/pods/".into(),
                range_end: "/registry/pods0".into(),
                state: unsynced.into(),
                next_revision: 101,
                lag_revisions: 900,
                lag_ms: 4_250,
                behind_since_unix_ms: 1_700_000_085_750,
                events: 20_000,
                bytes: 5_300_000,
                prev_kv: true,
                progress_notify: true,
                fragment: false,
            },
            Watcher {
                stream_id: 3,
                watch_id: 7,
                key: "a\0".into(),
                range_end: "b".into(),
                state: victim.into(),
                next_revision: 990,
                lag_revisions: 11,
                lag_ms: 75_300,
                behind_since_unix_ms: 1_700_000_014_700,
                events: 5,
                bytes: 70,
                ..Watcher::default()
            },
            Watcher {
                stream_id: 4,
                key: "single".into(),
                state: synced.into(),
                next_revision: 1001,
                fragment: true,
                ..Watcher::default()
            },
        ],
        streams: vec![
            Stream {
                victims: 1,
                next_revision: 990,
                lag_revisions: 11,
                lag_ms: 75_300,
                behind_since_unix_ms: 1_700_000_014_700,
                events: 5,
                bytes: 70,
                held_bytes: 65_536,
                ..stream(3, "10.0.0.9:40112", "tonic/0.14.2")
            },
            Stream { synced: 1, next_revision: 1001, ..stream(4, "[::1]:5", "") },
            Stream {
                unsynced: 1,
                next_revision: 101,
                lag_revisions: 900,
                lag_ms: 4_250,
                behind_since_unix_ms: 1_700_000_085_750,
                events: 20_000,
                bytes: 5_300_000,
                ..stream(12, "10.0.0.7:51034", "kube-apiserver/v1.35.0 (linux/amd64) kubernetes")
            },
        ],
    }
}

fn shown(format: Format, sight: &Sight) -> String {
    String::from_utf8(Printer { format, hex: false }.watchers(sight)).unwrap()
}

const SUMMARY: &str = "revision 1000, compacted 7; streams 3; watchers 3 (synced 1, unsynced 1, victims 1), matching 3; \
                       slowest 900 revisions and 1m15s behind; 8.4 MB held\n";

#[test]
fn tables_look_so() {
    let expected = "\
┌────────┬────────────────┬────┬──────────────────────┬──────────┬─────┬────────┬──────┬────────┬────────┬─────────────────────────┐
│ STREAM │      PEER      │ ID │        RANGE         │  STATE   │ LAG │ BEHIND │ NEXT │ EVENTS │ BYTES  │         OPTIONS         │
├────────┼────────────────┼────┼──────────────────────┼──────────┼─────┼────────┼──────┼────────┼────────┼─────────────────────────┤
│     12 │ 10.0.0.7:51034 │ -1 │ \"/registry/pods/\"... │ unsynced │ 900 │   4.2s │  101 │  20000 │ 5.3 MB │ prev-kv,progress-notify │
│      3 │ 10.0.0.9:40112 │  7 │       [\"a\\x00\", \"b\") │   victim │  11 │  1m15s │  990 │      5 │   70 B │                       - │
│      4 │        [::1]:5 │  0 │             \"single\" │   synced │   0 │      - │ 1001 │      0 │    0 B │                fragment │
└────────┴────────────────┴────┴──────────────────────┴──────────┴─────┴────────┴──────┴────────┴────────┴─────────────────────────┘
";
    assert_eq!(shown(Format::Table, &Sight::first(response(), false)), format!("{SUMMARY}{expected}"));
}

#[test]
fn plain_text_looks_so() {
    let expected = "
STREAM  PEER            ID  RANGE                 STATE     LAG  BEHIND  NEXT  EVENTS   BYTES  OPTIONS
    12  10.0.0.7:51034  -1  \"/registry/pods/\"...  unsynced  900    4.2s   101   20000  5.3 MB  prev-kv,progress-notify
     3  10.0.0.9:40112   7  [\"a\\x00\", \"b\")        victim     11   1m15s   990       5    70 B  -
     4  [::1]:5          0  \"single\"              synced      0       -  1001       0     0 B  fragment
";
    assert_eq!(shown(Format::Simple, &Sight::first(response(), false)), format!("{SUMMARY}{expected}"));
    let expected = "
STREAM  PEER            USER AGENT                   AGE  WATCHERS  SYNCED  UNSYNCED  VICTIMS  LAG  BEHIND  EVENTS   BYTES   HELD
     3  10.0.0.9:40112  tonic/0.14.2               1m30s         1       0         0        1   11   1m15s       5    70 B  66 kB
     4  [::1]:5         -                          1m30s         1       1         0        0    0       -       0     0 B    0 B
    12  10.0.0.7:51034  kube-apiserver/v1.35.0 (…  1m30s         1       0         1        0  900    4.2s   20000  5.3 MB    0 B
";
    assert_eq!(shown(Format::Simple, &Sight::first(response(), true)), format!("{SUMMARY}{expected}"));
}

#[test]
fn json_looks_so() {
    let mut response = response();
    response.watchers.truncate(2);
    response.watchers.remove(0);
    response.streams.truncate(1);
    let expected = r#"{"header":{"cluster_id":1,"member_id":2,"revision":1000,"raft_term":2},"now_unix_ms":1700000090000,"totals":{"streams":3,"synced":1,"unsynced":1,"victims":1,"matching":3,"slowest_lag_revisions":900,"slowest_lag_ms":75300,"held_bytes":8400000,"compact_revision":7},"watchers":[{"stream_id":3,"watch_id":7,"key":"YQA=","range_end":"Yg==","state":"victim","next_revision":990,"lag_revisions":11,"lag_ms":75300,"behind_since_unix_ms":1700000014700,"events":5,"bytes":70}],"streams":[{"id":3,"peer":"10.0.0.9:40112","user_agent":"tonic/0.14.2","opened_unix_ms":1700000000000,"watchers":1,"synced":0,"unsynced":0,"victims":1,"next_revision":990,"lag_revisions":11,"lag_ms":75300,"behind_since_unix_ms":1700000014700,"events":5,"bytes":70,"held_bytes":65536}]}"#;
    assert_eq!(shown(Format::Json, &Sight::first(response, false)), format!("{expected}\n"));
}

/// Two seconds between two looks.
#[test]
fn rates_are_of_the_time_between_two_looks() {
    let first = Sight::next(response(), false, None);
    let text = shown(Format::Simple, &first);
    assert!(text.contains("EVENTS/S") && text.contains("    -        -"), "no rates yet: {text}");
    let mut later = response();
    later.now_unix_ms += 2_000;
    later.watchers[0].events += 5_000;
    later.watchers[0].bytes += 40_000;
    // Another watcher that has come in the place of the third.
    later.watchers[2].watch_id = 1;
    later.streams[2].events += 10;
    let sight = Sight::next(later, false, Some(first));
    let rates = sight.rates.as_ref().unwrap();
    let cells = |id| rate_cells(rates.watchers.get(&id));
    assert_eq!(cells((12, -1)), ["2500", "20 kB"]);
    assert_eq!(cells((3, 7)), ["0", "0 B"]);
    assert_eq!(cells((4, 1)), ["-", "-"]);
    assert_eq!(rate_cells(rates.streams.get(&12)), ["5", "0 B"]);
}

#[test]
fn ranges_are_shown_as_what_they_mean() {
    let range = |key: &[u8], end: &[u8]| {
        let printer = Printer { format: Format::Simple, hex: false };
        printer.range(&Watcher { key: key.to_vec().into(), range_end: end.to_vec().into(), ..Watcher::default() })
    };
    assert_eq!(range(b"a", b""), "\"a\"");
    assert_eq!(range(b"a/", b"a0"), "\"a/\"...");
    assert_eq!(range(b"a", b"c"), "[\"a\", \"c\")");
    assert_eq!(range(b"a", b"\0"), "[\"a\", ..)");
    assert_eq!(range(b"\0", b"\0"), "all keys");
    assert_eq!(range(b"\x1b[31m\n", b""), "\"\\x1b[31m\\n\"", "nothing that a terminal obeys");
    assert_eq!(range(&[b'k'; 500], b"").chars().count(), KEY_CHARS + 1);
}

#[test]
fn times_are_as_precise_as_they_are_long() {
    let times = [0, 7, 1_000, 4_250, 59_999, 60_000, 3_599_000, 3_600_000, 100_000_000];
    assert_eq!(times.map(age), ["-", "7ms", "1.0s", "4.2s", "59.9s", "1m00s", "59m59s", "1h00m", "27h46m"]);
}
