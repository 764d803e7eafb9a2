//! Leases.

use rand::Rng;
use stentor_proto::etcdserverpb::{LeaseGrantRequest, LeaseTimeToLiveRequest};

use super::Generator;
use crate::differential::request::Request;

/// The longest TTL that is granted, in seconds.
const LONGEST: i64 = 9_000_000_000;

impl Generator {
    /// A lease's id: mostly a live one.
    pub(super) fn lease(&mut self) -> i64 {
        let live = self.world.leases.clone();
        match self.rng.random_range(0..100) {
            0..75 => self.pick(&live, 5),
            75..80 => 0,
            80..95 => self.rng.random_range(1..12),
            _ => -3,
        }
    }

    pub(super) fn grant(&mut self) -> Request {
        let id = match self.rng.random_range(0..100) {
            0..45 => 0,
            45..70 => self.rng.random_range(1..12),
            70..80 => self.lease(),
            80..90 => self.rng.random_range(-4..0),
            _ => {
                self.world.next_lease += 1;
                self.world.next_lease
            }
        };
        // Short ones are few, since they must be revoked before they expire.
        let ttl = match self.rng.random_range(0..100) {
            0..70 => self.rng.random_range(6_000..7_000),
            70..76 => LONGEST,
            76..82 => LONGEST + 1,
            82..84 => i64::MAX,
            84..90 => 0,
            90..95 => -1,
            95 => i64::MIN,
            _ => 1,
        };
        Request::Grant(LeaseGrantRequest { ttl, id })
    }

    pub(super) fn revoke(&mut self) -> Request {
        Request::Revoke(self.lease())
    }

    pub(super) fn time_to_live(&mut self) -> Request {
        Request::TimeToLive(LeaseTimeToLiveRequest { id: self.lease(), keys: self.rng.random() })
    }

    pub(super) fn keep_alive(&mut self) -> Request {
        Request::KeepAlive(self.lease())
    }

    pub(super) fn expire(&mut self) -> Request {
        self.world.next_lease += 1;
        Request::Expire(self.world.next_lease)
    }
}
