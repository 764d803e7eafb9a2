use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use stentor_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use stentor_proto::etcdserverpb::request_op::Request as OpRequest;
use stentor_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    RequestOp, TxnRequest,
};
use stentor_proto::log_entry::{ProposalId, encode};
use stentor_proto::storagepb::log_entry::Op;
use stentor_proto::storagepb::{LogEntry, MemberChange, MemberRecord, member_change};
use stentor_raft::log::{Durability, EntryKind, HardState, Log, Options, Position};

use super::*;

/// A data directory as a server leaves it, with these entries in its log.
fn directory(entries: &[Entry], commit: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join(STORE)).unwrap();
    File::create(directory.path().join(STORE).join(LOCK)).unwrap();
    let disk = Arc::new(SystemDisk::new(directory.path().join(LOG)).unwrap());
    let mut log = Log::create(disk, Position { term: 1, index: 4 }, Options::default()).unwrap();
    let state = HardState { term: 2, vote: 0, commit };
    log.append(Some(state), entries, Durability::Synced).unwrap();
    directory
}

fn reading(directory: &Path) -> Reading {
    Reading::of(Arc::new(SystemDisk::read_only(directory.join(LOG)))).unwrap().unwrap()
}

fn lines(directory: &Path) -> Vec<Json> {
    let mut out = Vec::new();
    dump(&reading(directory), &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn data(op: Op) -> bytes::Bytes {
    let entry = LogEntry { time_unix_ms: 17, user: "alice".into(), only_in_term: 1, op: Some(op) };
    encode(ProposalId { member_id: 0xab, number: u64::MAX }, &entry)
}

fn entry(index: u64, term: u64, kind: EntryKind, data: bytes::Bytes) -> Entry {
    Entry { position: Position { term, index }, kind, context: bytes::Bytes::new(), data }
}

/// All files with what they hold.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut contents(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn each_kind_of_entry_is_a_line_in_full() {
    let put = PutRequest { key: "k".into(), value: vec![0, 255].into(), lease: 7, prev_kv: true, ..Default::default() };
    let compare = Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Mod.into(),
        key: "k".into(),
        target_union: Some(TargetUnion::ModRevision(3)),
        ..Default::default()
    };
    let delete = DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: false };
    let success = vec![RequestOp { request: Some(OpRequest::RequestDeleteRange(delete.clone())) }];
    let add = MemberRecord { id: 9, peer_urls: vec!["http://m:1".into()], ..Default::default() };
    let ops = [
        (Op::Put(put), json!({"key": "aw==", "value": "AP8=", "lease": "7", "prev_kv": true})),
        (Op::DeleteRange(delete), json!({"key": "aw==", "range_end": "bA=="})),
        (
            Op::Txn(TxnRequest { compare: vec![compare], success, failure: vec![] }),
            json!({
                "compare": [{"result": "GREATER", "target": "MOD", "key": "aw==", "mod_revision": "3"}],
                "success": [{"request_delete_range": {"key": "aw==", "range_end": "bA=="}}],
            }),
        ),
        (Op::Compact(CompactionRequest { revision: 5, physical: true }), json!({"revision": "5", "physical": true})),
        (Op::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 7 }), json!({"TTL": "60", "ID": "7"})),
        (Op::LeaseRevoke(LeaseRevokeRequest { id: 7 }), json!({"ID": "7"})),
        (
            Op::Alarm(AlarmRequest { action: 1, member_id: 3, alarm: 1 }),
            json!({"action": "ACTIVATE", "memberID": "3", "alarm": "NOSPACE"}),
        ),
        (
            Op::Member(MemberChange { change: Some(member_change::Change::Add(add)), max_learners: 1 }),
            json!({"add": {"id": "9", "peer_urls": ["http://m:1"]}, "max_learners": 1}),
        ),
    ];
    let kinds = ["put", "delete_range", "txn", "compact", "lease_grant", "lease_revoke", "alarm", "member"];
    let entries: Vec<_> =
        (5..).zip(&ops).map(|(index, (op, _))| entry(index, 1, EntryKind::Normal, data(op.clone()))).collect();
    let directory = directory(&entries, 6);
    for ((line, kind), (index, (_, request))) in lines(directory.path()).into_iter().zip(kinds).zip((5..).zip(ops)) {
        let expected = json!({
            "index": index, "term": 1, "committed": index <= 6, "type": kind, "proposed_by": "ab",
            "proposal": "18446744073709551615", "time_unix_ms": 17, "user": "alice", "request": request,
        });
        assert_eq!(line, expected);
    }
}

#[test]
fn what_changes_nothing_and_who_takes_part_are_told() {
    let revoke = || Op::LeaseRevoke(LeaseRevokeRequest { id: 7 });
    let beside = data(revoke());
    // A voter, 9, as the library writes it: the kind is 0 and left out, the member is field 3, what is beside it field 4.
    let mut change = vec![0x18, 9, 0x22, beside.len() as u8];
    change.extend_from_slice(&beside);
    let entries = [
        entry(5, 1, EntryKind::Normal, bytes::Bytes::new()),
        entry(6, 1, EntryKind::Normal, data(revoke())),
        entry(7, 2, EntryKind::Normal, data(revoke())),
        entry(8, 2, EntryKind::Change, change.into()),
    ];
    let directory = directory(&entries, 8);
    let lines = lines(directory.path());
    assert_eq!(lines[0], json!({"index": 5, "term": 1, "committed": true, "type": "empty"}));
    // It was only to be done in term 1.
    assert_eq!((&lines[1]["no_effect"], &lines[2]["no_effect"]), (&Json::Null, &json!(true)));
    assert_eq!((&lines[3]["raft_change"], &lines[3]["type"]), (&json!({"add_voter": "9"}), &json!("lease_revoke")));
    assert_eq!(summary(&reading(directory.path())), "entries 5 to 8; known here to be committed: up to 8");
}

#[test]
fn what_cannot_be_read_is_named() {
    let newer = entry(5, 1, EntryKind::Normal, vec![9, 0].into());
    let directory = directory(&[newer], 5);
    let error = dump(&reading(directory.path()), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("entry 5: the log has an entry of version 9"), "{error}");
}

#[test]
fn a_torn_end_is_told_and_nothing_is_changed() {
    let put = |n| {
        entry(n, 1, EntryKind::Normal, data(Op::Put(PutRequest { key: vec![7; 5000].into(), ..Default::default() })))
    };
    let directory = directory(&[put(5)], 5);
    let disk = Arc::new(SystemDisk::new(directory.path().join(LOG)).unwrap());
    let mut log = Log::open(disk, Options::default()).unwrap().unwrap();
    log.append(None, &[put(6)], Durability::Buffered).unwrap();
    drop(log);
    let segment = directory.path().join(LOG).join("0000000000000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes.iter().rposition(|byte| *byte == 7).unwrap();
    bytes[last] = 0;
    fs::write(&segment, bytes).unwrap();
    let before = contents(directory.path());
    let held = lock(directory.path()).unwrap();
    assert_eq!(lines(directory.path()).len(), 1);
    let summary = summary(&reading(directory.path()));
    assert!(summary.contains("was not completed: 0000000000000001.log, byte "), "{summary}");
    assert_eq!(held.len(), 1);
    assert!(contents(directory.path()) == before);
}

#[test]
fn what_is_no_data_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |path: &Path| lock(path).unwrap_err().message.unwrap();
    assert!(refused(directory.path()).ends_with("is no data directory of a server"));
    assert!(refused(&directory.path().join("none")).ends_with("no such file or directory"));
    fs::create_dir(directory.path().join(STORE)).unwrap();
    File::create(directory.path().join(STORE).join(LOCK)).unwrap();
    let dump = Dump { data_dir: directory.path().to_owned(), wal_dir: None };
    let error = dump.run().unwrap_err().message.unwrap();
    assert!(error.contains("there is no log"), "{error}");
}
