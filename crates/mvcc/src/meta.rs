//! The small records beside history, and the keys they stand under.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use stentor_proto::storagepb::{Compaction, Identity, LeaseRecord, MemberRecord, Progress};

use crate::Error;
use crate::alarm::{Alarm, AlarmKind};
use crate::engine::{Engine, Family, Read};
use crate::lease::LeaseId;
use crate::member::Members;

pub(crate) const PROGRESS: &[u8] = b"progress";
pub(crate) const COMPACTION: &[u8] = b"compaction";
pub(crate) const IDENTITY: &[u8] = b"identity";
/// There only while a snapshot is being restored: what else is there then is no store.
pub(crate) const RESTORING: &[u8] = b"restoring";
const LEASES: &[u8] = b"lease/";
const AFTER_LEASES: &[u8] = b"lease0";
const ALARMS: &[u8] = b"alarm/";
const AFTER_ALARMS: &[u8] = b"alarm0";

const MEMBERS: &[u8] = b"member/";
const AFTER_MEMBERS: &[u8] = b"member0";
const REMOVED_MEMBERS: &[u8] = b"removed_member/";
const AFTER_REMOVED_MEMBERS: &[u8] = b"removed_member0";

pub(crate) fn lease_key(id: LeaseId) -> Vec<u8> {
    [LEASES, &id.get().to_be_bytes()].concat()
}

pub(crate) fn alarm_key(alarm: Alarm) -> Vec<u8> {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    };
    [ALARMS, &alarm.member_id.to_be_bytes(), &[kind]].concat()
}

pub(crate) fn member_key(id: u64) -> Vec<u8> {
    [MEMBERS, &id.to_be_bytes()].concat()
}

pub(crate) fn removed_member_key(id: u64) -> Vec<u8> {
    [REMOVED_MEMBERS, &id.to_be_bytes()].concat()
}

/// A lease, an alarm or a member.
pub(crate) fn is_small_record(key: &[u8]) -> bool {
    key.starts_with(LEASES) || is_alarm(key) || key.starts_with(MEMBERS) || key.starts_with(REMOVED_MEMBERS)
}

pub(crate) fn is_alarm(key: &[u8]) -> bool {
    key.starts_with(ALARMS)
}

fn alarm_of_key(key: &[u8]) -> Option<Alarm> {
    let (member_id, kind) = key.strip_prefix(ALARMS)?.split_first_chunk::<8>()?;
    let kind = match kind {
        [1] => AlarmKind::NoSpace,
        [2] => AlarmKind::Corrupt,
        _ => return None,
    };
    Some(Alarm { member_id: u64::from_be_bytes(*member_id), kind })
}

fn message<M: Message + Default>(engine: &(impl Read + ?Sized), key: &[u8]) -> Result<Option<M>, Error> {
    decode(engine.get(Family::Meta, key)?, key)
}

fn decode<M: Message + Default>(bytes: Option<Bytes>, key: &[u8]) -> Result<Option<M>, Error> {
    let Some(bytes) = bytes else { return Ok(None) };
    M::decode(bytes).map(Some).map_err(|e| Error::inconsistent(format!("record {}: {e}", key.escape_ascii())))
}

pub(crate) fn progress(engine: &(impl Read + ?Sized)) -> Result<Option<Progress>, Error> {
    message(engine, PROGRESS)
}

/// As it would be after a crash.
pub(crate) fn persisted_progress(engine: &(impl Engine + ?Sized)) -> Result<Option<Progress>, Error> {
    decode(engine.get_persisted(Family::Meta, PROGRESS)?, PROGRESS)
}

pub(crate) fn compaction(engine: &(impl Read + ?Sized)) -> Result<Option<Compaction>, Error> {
    message(engine, COMPACTION)
}

pub(crate) fn identity(engine: &(impl Read + ?Sized)) -> Result<Option<Identity>, Error> {
    message(engine, IDENTITY)
}

pub(crate) fn leases(engine: &(impl Read + ?Sized)) -> Result<Vec<(LeaseId, i64)>, Error> {
    let mut leases = Vec::new();
    for entry in engine.scan(Family::Meta, LEASES, Some(AFTER_LEASES))? {
        let (key, value) = entry?;
        let bad = || Error::inconsistent(format!("lease record {}", key.escape_ascii()));
        let record = LeaseRecord::decode(value).map_err(|_| bad())?;
        leases.push((LeaseId::new(record.id).ok_or_else(bad)?, record.ttl_seconds));
    }
    Ok(leases)
}

pub(crate) fn alarms(engine: &(impl Read + ?Sized)) -> Result<Vec<Alarm>, Error> {
    let mut alarms = Vec::new();
    for entry in engine.scan(Family::Meta, ALARMS, Some(AFTER_ALARMS))? {
        let (key, _) = entry?;
        let bad = || Error::inconsistent(format!("alarm record {}", key.escape_ascii()));
        alarms.push(alarm_of_key(&key).ok_or_else(bad)?);
    }
    Ok(alarms)
}

pub(crate) fn members(engine: &(impl Read + ?Sized)) -> Result<Members, Error> {
    let bad = |key: &[u8]| Error::inconsistent(format!("member record {}", key.escape_ascii()));
    let mut members = Vec::new();
    for entry in engine.scan(Family::Meta, MEMBERS, Some(AFTER_MEMBERS))? {
        let (key, value) = entry?;
        members.push(MemberRecord::decode(value).map_err(|_| bad(&key))?);
    }
    let mut removed = BTreeSet::new();
    for entry in engine.scan(Family::Meta, REMOVED_MEMBERS, Some(AFTER_REMOVED_MEMBERS))? {
        let (key, _) = entry?;
        let id = key.strip_prefix(REMOVED_MEMBERS).and_then(|id| id.try_into().ok()).ok_or_else(|| bad(&key))?;
        removed.insert(u64::from_be_bytes(id));
    }
    Ok(Members::new(members, removed))
}
