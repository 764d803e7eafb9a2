//! Answers about members and endpoints.

use std::time::Duration;

use stentor_proto::etcdserverpb::{
    AlarmMember, AlarmResponse, AlarmType, HashKvResponse, Member, MemberListResponse, StatusResponse,
};

use super::fields::Fields;
use super::{Format, Printer, line, message, wire};
use crate::go;
use crate::json::{Json, Object};
use crate::table::Table;

/// The answer of one endpoint.
#[derive(Debug)]
pub(crate) struct PerEndpoint<T> {
    pub(crate) endpoint: String,
    pub(crate) answer: T,
}

/// Whether an endpoint serves.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) endpoint: String,
    pub(crate) took: Duration,
    /// Why it does not serve.
    pub(crate) error: Option<String>,
}

/// The name of an alarm's type.
pub(crate) fn alarm_name(alarm: &AlarmMember) -> String {
    AlarmType::try_from(alarm.alarm).map_or_else(|_| alarm.alarm.to_string(), |a| a.as_str_name().to_owned())
}

impl Printer {
    pub(crate) fn alarms(&self, r: &AlarmResponse) -> Vec<u8> {
        match self.format {
            Format::Json => {
                let alarms = r.alarms.iter().map(|a| {
                    Object::default()
                        .with_some("memberID", Json::Uint(a.member_id))
                        .with_some("alarm", Json::Int(a.alarm.into()))
                        .into()
                });
                line(message::answer(r.header.as_ref()).with_some("alarms", Json::List(alarms.collect())))
            }
            Format::Fields => self.fields(|f| {
                f.header(r.header.as_ref());
                for alarm in &r.alarms {
                    f.id("MemberID", alarm.member_id);
                    f.field("AlarmType", alarm_name(alarm));
                    f.blank();
                }
            }),
            Format::Protobuf => wire(r),
            Format::Simple | Format::Table => {
                let one = |a: &AlarmMember| line(format_args!("memberID:{} alarm:{} ", a.member_id, alarm_name(a)));
                r.alarms.iter().flat_map(one).collect()
            }
        }
    }

    pub(crate) fn members(&self, r: &MemberListResponse) -> Vec<u8> {
        match self.format {
            Format::Json => line(self.members_json(r)),
            Format::Fields => self.fields(|f| {
                f.header(r.header.as_ref());
                for member in &r.members {
                    member_fields(member, f);
                }
            }),
            Format::Protobuf => wire(r),
            Format::Table => {
                let mut table = Table::new(&["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"]);
                r.members.iter().for_each(|m| table.row(member_cells(m)));
                table.to_string().into_bytes()
            }
            Format::Simple => r.members.iter().flat_map(|m| line(member_cells(m).join(", "))).collect(),
        }
    }

    fn members_json(&self, r: &MemberListResponse) -> Object {
        let id = |id: u64| if self.hex { Json::Str(format!("{id:x}")) } else { Json::Uint(id) };
        let header = r.header.unwrap_or_default();
        let header = Object::default()
            .with_some("cluster_id", id(header.cluster_id))
            .with_some("member_id", id(header.member_id))
            .with_some("revision", Json::Int(header.revision))
            .with_some("raft_term", Json::Uint(header.raft_term));
        let urls = |urls: &[String]| Json::List(urls.iter().map(Json::str).collect());
        let members = r.members.iter().map(|m| {
            Object::default()
                .with_some("ID", id(m.id))
                .with_some("name", Json::str(&m.name))
                .with_some("peerURLs", urls(&m.peer_ur_ls))
                .with_some("clientURLs", urls(&m.client_ur_ls))
                .with_some("isLearner", Json::Bool(m.is_learner))
                .into()
        });
        Object::default().with("header", header.into()).with_some("members", Json::List(members.collect()))
    }

    pub(crate) fn status(&self, all: &[PerEndpoint<StatusResponse>]) -> Vec<u8> {
        match self.format {
            Format::Json => per_endpoint_json(all, "Status", status_json),
            Format::Fields => self.fields(|f| all.iter().for_each(|s| status_fields(s, f))),
            Format::Table => {
                let mut table = Table::new(STATUS_COLUMNS);
                all.iter().for_each(|s| table.row(status_cells(s)));
                table.to_string().into_bytes()
            }
            Format::Simple | Format::Protobuf => all.iter().flat_map(|s| line(status_cells(s).join(", "))).collect(),
        }
    }

    pub(crate) fn hashes(&self, all: &[PerEndpoint<HashKvResponse>]) -> Vec<u8> {
        let cells =
            |h: &PerEndpoint<HashKvResponse>| vec![h.endpoint.clone(), h.answer.hash.to_string(), hash_revision(h)];
        match self.format {
            Format::Json => per_endpoint_json(all, "HashKV", |r| {
                message::answer(r.header.as_ref())
                    .with_some("hash", Json::Uint(r.hash.into()))
                    .with_some("compact_revision", Json::Int(r.compact_revision))
                    .with_some("hash_revision", Json::Int(r.hash_revision))
            }),
            Format::Fields => self.fields(|f| {
                for h in all {
                    f.header(h.answer.header.as_ref());
                    f.quoted("Endpoint", &h.endpoint);
                    f.field("Hash", h.answer.hash);
                    f.field("HashRevision", h.answer.hash_revision);
                    f.blank();
                }
            }),
            Format::Table => {
                let mut table = Table::new(&["endpoint", "hash", "hash revision"]);
                all.iter().for_each(|h| table.row(cells(h)));
                table.to_string().into_bytes()
            }
            Format::Simple | Format::Protobuf => all.iter().flat_map(|h| line(cells(h).join(", "))).collect(),
        }
    }

    pub(crate) fn health(&self, all: &[Health]) -> Vec<u8> {
        match self.format {
            Format::Json => {
                let one = |h: &Health| {
                    Object::default()
                        .with("endpoint", Json::str(&h.endpoint))
                        .with("health", Json::Bool(h.error.is_none()))
                        .with("took", Json::str(go::duration(h.took)))
                        .with_some("error", Json::str(h.error.clone().unwrap_or_default()))
                        .into()
                };
                line(Json::List(all.iter().map(one).collect()))
            }
            Format::Fields => self.fields(|f| {
                for h in all {
                    f.quoted("Endpoint", &h.endpoint);
                    f.field("Health", h.error.is_none());
                    f.field("Took", go::duration(h.took));
                    f.field("Error", h.error.as_deref().unwrap_or_default());
                    f.blank();
                }
            }),
            Format::Table => {
                let mut table = Table::new(&["endpoint", "health", "took", "error"]);
                for h in all {
                    let error = h.error.clone().unwrap_or_default();
                    table.row(vec![h.endpoint.clone(), h.error.is_none().to_string(), go::duration(h.took), error]);
                }
                table.to_string().into_bytes()
            }
            Format::Simple | Format::Protobuf => all.iter().flat_map(simple_health).collect(),
        }
    }
}

/// A healthy endpoint's line; what is wrong with the others goes to standard error.
fn simple_health(h: &Health) -> Vec<u8> {
    match h.error {
        Some(_) => Vec::new(),
        None => line(format_args!(
            "{} is healthy: successfully committed proposal: took = {}",
            h.endpoint,
            go::duration(h.took)
        )),
    }
}

fn per_endpoint_json<T>(all: &[PerEndpoint<T>], name: &'static str, one: impl Fn(&T) -> Object) -> Vec<u8> {
    if all.is_empty() {
        return line(Json::Null);
    }
    let object = |p: &PerEndpoint<T>| {
        Object::default().with("Endpoint", Json::str(&p.endpoint)).with(name, one(&p.answer).into()).into()
    };
    line(Json::List(all.iter().map(object).collect()))
}

fn member_cells(m: &Member) -> Vec<String> {
    // A member that has not started yet has no name.
    let status = if m.name.is_empty() { "unstarted" } else { "started" };
    vec![
        format!("{:x}", m.id),
        status.to_owned(),
        m.name.clone(),
        m.peer_ur_ls.join(","),
        m.client_ur_ls.join(","),
        m.is_learner.to_string(),
    ]
}

fn member_fields(m: &Member, f: &mut Fields) {
    f.id("ID", m.id);
    f.quoted("Name", &m.name);
    m.peer_ur_ls.iter().for_each(|u| f.quoted("PeerURL", u));
    m.client_ur_ls.iter().for_each(|u| f.quoted("ClientURL", u));
    f.field("IsLearner", m.is_learner);
    f.blank();
}

fn hash_revision(h: &PerEndpoint<HashKvResponse>) -> String {
    h.answer.hash_revision.to_string()
}

const STATUS_COLUMNS: &[&str] = &[
    "endpoint",
    "ID",
    "version",
    "storage version",
    "db size",
    "in use",
    "percentage not in use",
    "quota",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
    "downgrade target version",
    "downgrade enabled",
];

fn size(bytes: i64) -> String {
    go::bytes(u64::try_from(bytes).unwrap_or(0))
}

fn status_cells(status: &PerEndpoint<StatusResponse>) -> Vec<String> {
    let r = &status.answer;
    let id = r.header.unwrap_or_default().member_id;
    let downgrade = r.downgrade_info.clone().unwrap_or_default();
    vec![
        status.endpoint.clone(),
        format!("{id:x}"),
        r.version.clone(),
        r.storage_version.clone(),
        size(r.db_size),
        size(r.db_size_in_use),
        percentage_not_in_use(r.db_size, r.db_size_in_use),
        size(r.db_size_quota),
        (r.leader == id).to_string(),
        r.is_learner.to_string(),
        r.raft_term.to_string(),
        r.raft_index.to_string(),
        r.raft_applied_index.to_string(),
        r.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

fn percentage_not_in_use(size: i64, in_use: i64) -> String {
    // Rounded up.
    let used = in_use.saturating_mul(100).checked_div(size).unwrap_or(100);
    format!("{}%", 100 - used)
}

fn status_json(r: &StatusResponse) -> Object {
    let downgrade = match &r.downgrade_info {
        None => Json::Null,
        Some(d) => Object::default()
            .with_some("enabled", Json::Bool(d.enabled))
            .with_some("targetVersion", Json::str(&d.target_version))
            .into(),
    };
    message::answer(r.header.as_ref())
        .with_some("version", Json::str(&r.version))
        .with_some("dbSize", Json::Int(r.db_size))
        .with_some("leader", Json::Uint(r.leader))
        .with_some("raftIndex", Json::Uint(r.raft_index))
        .with_some("raftTerm", Json::Uint(r.raft_term))
        .with_some("raftAppliedIndex", Json::Uint(r.raft_applied_index))
        .with_some("errors", Json::List(r.errors.iter().map(Json::str).collect()))
        .with_some("dbSizeInUse", Json::Int(r.db_size_in_use))
        .with_some("isLearner", Json::Bool(r.is_learner))
        .with_some("storageVersion", Json::str(&r.storage_version))
        .with_some("dbSizeQuota", Json::Int(r.db_size_quota))
        .with_some("downgradeInfo", downgrade)
}

fn status_fields(status: &PerEndpoint<StatusResponse>, f: &mut Fields) {
    let r = &status.answer;
    let downgrade = r.downgrade_info.clone().unwrap_or_default();
    f.header(r.header.as_ref());
    f.quoted("Version", &r.version);
    f.quoted("StorageVersion", &r.storage_version);
    f.field("DBSize", r.db_size);
    f.field("DBSizeInUse", r.db_size_in_use);
    f.field("DBSizeQuota", r.db_size_quota);
    // Decimal whatever --hex says: so does etcdctl.
    f.field("Leader", r.leader);
    f.field("IsLearner", r.is_learner);
    f.field("RaftIndex", r.raft_index);
    f.field("RaftAppliedIndex", r.raft_applied_index);
    f.field("Errors", format_args!("[{}]", r.errors.join(" ")));
    f.quoted("Endpoint", &status.endpoint);
    f.quoted("DowngradeTargetVersion", &downgrade.target_version);
    f.field("DowngradeEnabled", downgrade.enabled);
    f.blank();
}
