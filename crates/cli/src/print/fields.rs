//! The `fields` format: one quoted field a line.

use std::fmt::{Display, Write as _};

use stentor_proto::etcdserverpb::ResponseHeader;
use stentor_proto::mvccpb::KeyValue;

use crate::go;

/// Collects fields.
#[derive(Debug)]
pub(super) struct Fields {
    out: String,
    hex: bool,
}

impl Fields {
    pub(super) fn new(hex: bool) -> Fields {
        Fields { out: String::new(), hex }
    }

    pub(super) fn field(&mut self, name: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "\"{name}\" : {value}");
    }

    pub(super) fn quoted(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.field(name, go::quote(value.as_ref()));
    }

    /// A cluster's or member's id.
    pub(super) fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    pub(super) fn lease(&mut self, name: &str, id: i64) {
        if self.hex { self.field(name, format_args!("{id:016x}")) } else { self.field(name, id) }
    }

    pub(super) fn header(&mut self, header: Option<&ResponseHeader>) {
        let header = header.copied().unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        // Some answers have no revision.
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    pub(super) fn pair(&mut self, prefix: &str, kv: &KeyValue) {
        self.quoted(&format!("{prefix}Key"), &kv.key);
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.quoted(&format!("{prefix}Value"), &kv.value);
        self.lease(&format!("{prefix}Lease"), kv.lease);
    }

    pub(super) fn blank(&mut self) {
        self.out.push('\n');
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out.into_bytes()
    }
}
