//! Answers of the lease calls.

use stentor_proto::etcdserverpb::{
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    ResponseHeader,
};

use super::{Format, Printer, line, message, wire};
use crate::json::{Json, Object};

/// For leases etcdctl's protobuf is the header alone.
fn header_wire(header: Option<&ResponseHeader>) -> Vec<u8> {
    header.map(wire).unwrap_or_default()
}

impl Printer {
    pub(crate) fn grant(&self, r: &LeaseGrantResponse) -> Vec<u8> {
        match self.format {
            Format::Json => line(
                message::header_fields(r.header.as_ref())
                    .with("ID", Json::Int(r.id))
                    .with("TTL", Json::Int(r.ttl))
                    .with("Error", Json::str(&r.error)),
            ),
            Format::Fields => self.fields(|f| {
                f.header(r.header.as_ref());
                f.lease("ID", r.id);
                f.field("TTL", r.ttl);
            }),
            Format::Protobuf => header_wire(r.header.as_ref()),
            Format::Simple | Format::Table => line(format_args!("lease {:016x} granted with TTL({}s)", r.id, r.ttl)),
        }
    }

    pub(crate) fn revoke(&self, id: i64, r: &LeaseRevokeResponse) -> Vec<u8> {
        match self.format {
            Format::Json => line(message::answer(r.header.as_ref())),
            Format::Fields => self.fields(|f| f.header(r.header.as_ref())),
            Format::Protobuf => wire(r),
            Format::Simple | Format::Table => line(format_args!("lease {id:016x} revoked")),
        }
    }

    pub(crate) fn keep_alive(&self, r: &LeaseKeepAliveResponse) -> Vec<u8> {
        match self.format {
            Format::Json => line(
                message::header_fields(r.header.as_ref()).with("ID", Json::Int(r.id)).with("TTL", Json::Int(r.ttl)),
            ),
            Format::Fields => self.fields(|f| {
                f.header(r.header.as_ref());
                f.lease("ID", r.id);
                f.field("TTL", r.ttl);
            }),
            Format::Protobuf => header_wire(r.header.as_ref()),
            Format::Simple | Format::Table => line(format_args!("lease {:016x} keepalived with TTL({})", r.id, r.ttl)),
        }
    }

    pub(crate) fn time_to_live(&self, r: &LeaseTimeToLiveResponse, with_keys: bool) -> Vec<u8> {
        match self.format {
            Format::Json => {
                let keys: Vec<Json> = r.keys.iter().map(|k| Json::base64(k)).collect();
                line(
                    message::header_fields(r.header.as_ref())
                        .with("id", Json::Int(r.id))
                        .with("ttl", Json::Int(r.ttl))
                        .with("granted-ttl", Json::Int(r.granted_ttl))
                        .with("keys", if keys.is_empty() { Json::Null } else { Json::List(keys) }),
                )
            }
            Format::Fields => self.fields(|f| {
                f.header(r.header.as_ref());
                f.lease("ID", r.id);
                f.field("TTL", r.ttl);
                f.field("GrantedTTL", r.granted_ttl);
                r.keys.iter().for_each(|k| f.quoted("Key", k));
            }),
            Format::Protobuf => header_wire(r.header.as_ref()),
            Format::Simple | Format::Table => simple_time_to_live(r, with_keys),
        }
    }

    pub(crate) fn leases(&self, r: &LeaseLeasesResponse) -> Vec<u8> {
        match self.format {
            Format::Json => {
                let leases = r.leases.iter().map(|l| Object::default().with("id", Json::Int(l.id)).into()).collect();
                line(message::header_fields(r.header.as_ref()).with("leases", Json::List(leases)))
            }
            Format::Fields => self.fields(|f| {
                f.header(r.header.as_ref());
                r.leases.iter().for_each(|l| f.lease("ID", l.id));
            }),
            Format::Protobuf => header_wire(r.header.as_ref()),
            Format::Simple | Format::Table => {
                let mut out = line(format_args!("found {} leases", r.leases.len()));
                out.extend(r.leases.iter().flat_map(|l| line(format_args!("{:016x}", l.id))));
                out
            }
        }
    }
}

fn simple_time_to_live(r: &LeaseTimeToLiveResponse, with_keys: bool) -> Vec<u8> {
    if r.granted_ttl == 0 && r.ttl == -1 {
        return line(format_args!("lease {:016x} already expired", r.id));
    }
    let mut out =
        format!("lease {:016x} granted with TTL({}s), remaining({}s)", r.id, r.granted_ttl, r.ttl).into_bytes();
    if with_keys {
        out.extend_from_slice(b", attached keys([");
        out.extend(r.keys.join(&b' '));
        out.extend_from_slice(b"])");
    }
    out.push(b'\n');
    out
}
