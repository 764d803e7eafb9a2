//! Range, Put and DeleteRange.

use rand::Rng;
use stentor_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use super::Generator;

impl Generator {
    pub(super) fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.interval();
        let mut range = RangeRequest { key, range_end, ..RangeRequest::default() };
        range.revision = if self.chance(60) { 0 } else { self.revision() };
        range.serializable = self.chance(30);
        range.keys_only = self.chance(20);
        range.count_only = self.chance(12);
        if self.chance(40) {
            range.limit = self.pick(&[1, 1, 2, 3, 5, 100, i64::MAX, -1, i64::MIN], 0);
        }
        if self.chance(45) {
            range.sort_order = self.pick(&[0, 1, 2, 1, 2, 1, 2, 3, -1], 0);
            range.sort_target = self.pick(&[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, -1], 0);
        }
        if self.old_etcd {
            range.sort_target = range.sort_target.clamp(0, 4);
        }
        if self.chance(15) {
            range.min_mod_revision = self.odd_revision();
        }
        if self.chance(15) {
            range.max_mod_revision = self.odd_revision();
        }
        if self.chance(12) {
            range.min_create_revision = self.odd_revision();
        }
        if self.chance(12) {
            range.max_create_revision = self.odd_revision();
        }
        range
    }

    pub(super) fn put(&mut self) -> PutRequest {
        let mut put = PutRequest { key: self.named_key(), value: self.value(), ..PutRequest::default() };
        put.prev_kv = self.chance(35);
        if self.chance(25) {
            put.lease = self.lease();
        }
        if self.chance(10) {
            put.ignore_value = true;
            if self.chance(80) {
                put.value.clear();
            }
        }
        if self.chance(10) {
            put.ignore_lease = true;
            if self.chance(80) {
                put.lease = 0;
            }
        }
        put
    }

    pub(super) fn delete_range(&mut self) -> DeleteRangeRequest {
        let (key, mut range_end) = self.interval();
        // Mostly a key or a few: a delete of everything leaves nothing to collide with.
        if range_end[..] == b"\0"[..] && self.chance(70) {
            range_end.clear();
        }
        DeleteRangeRequest { key, range_end, prev_kv: self.rng.random() }
    }
}
