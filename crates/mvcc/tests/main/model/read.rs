//! Range reads.

use bytes::Bytes;
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::RangeRequest;
use stentor_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use stentor_proto::mvccpb::KeyValue;

use super::{Model, State};

/// What a range read finds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub kvs: Vec<KeyValue>,
    pub more: bool,
    pub count: i64,
}

impl Model {
    /// A range read outside of transactions.
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<Found, EtcdError> {
        let at = if request.revision <= 0 { self.revision() } else { request.revision };
        if at > self.revision() {
            return Err(EtcdError::FutureRev);
        } else if at < self.compacted {
            return Err(EtcdError::Compacted);
        }
        Ok(range(self.state(at), request))
    }
}

/// Whether a key is in the range of a request.
pub(crate) fn in_range(key: &Bytes, start: &Bytes, end: &Bytes) -> bool {
    match &end[..] {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

/// Reads a state. Ties of a sort stay in key order.
pub(crate) fn range(state: &State, request: &RangeRequest) -> Found {
    let r = request;
    let mut kvs: Vec<KeyValue> = state.values().filter(|p| in_range(&p.key, &r.key, &r.range_end)).cloned().collect();
    let count = kvs.len() as i64;
    if r.count_only {
        return Found { kvs: Vec::new(), more: false, count };
    }
    let (order, target) = (r.sort_order(), r.sort_target());
    let bounds = [r.min_mod_revision, r.max_mod_revision, r.min_create_revision, r.max_create_revision];
    let limit = if r.limit > 0 { r.limit as usize } else { usize::MAX };
    // With no order and no filter, the limit cuts before the sort.
    if order == SortOrder::None && bounds == [0; 4] {
        kvs.truncate(limit.saturating_add(1));
    }
    let [min_mod, max_mod, min_create, max_create] = bounds;
    kvs.retain(|p| {
        (min_mod == 0 || p.mod_revision >= min_mod)
            && (max_mod == 0 || p.mod_revision <= max_mod)
            && (min_create == 0 || p.create_revision >= min_create)
            && (max_create == 0 || p.create_revision <= max_create)
    });
    kvs.sort_by(|a, b| {
        let ascending = match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if order == SortOrder::Descend { ascending.reverse() } else { ascending }
    });
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if r.keys_only {
        for pair in &mut kvs {
            pair.value = Bytes::new();
            if target != SortTarget::Value {
                pair.lease = 0;
            }
        }
    }
    Found { kvs, more, count }
}
