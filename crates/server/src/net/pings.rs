//! How often a client may ping.

use std::time::Duration;

use tokio::time::Instant;

/// Without an open stream a client has no reason to ping more often than this.
const IDLE_MIN_TIME: Duration = Duration::from_secs(2 * 60 * 60);
/// A ping too many is forgiven this often: clocks and networks are not exact.
const FORGIVEN: u32 = 2;

/// Judges the pings of one connection by gRPC's rule.
#[derive(Debug)]
pub(crate) struct PingRule {
    min_time: Duration,
    last: Option<Instant>,
    strikes: u32,
}

impl PingRule {
    /// A rule that wants `min_time` between two pings while streams are open.
    pub(crate) fn new(min_time: Duration) -> Self {
        PingRule { min_time, last: None, strikes: 0 }
    }

    /// The server sent headers or data: a ping may now measure the connection's bandwidth, so the count
    /// starts again.
    pub(crate) fn sent_data(&mut self) {
        self.strikes = 0;
        self.last = None;
    }

    /// A ping came. Returns whether it is one too many.
    pub(crate) fn is_too_many(&mut self, now: Instant, open_streams: usize) -> bool {
        let wanted = if open_streams == 0 { IDLE_MIN_TIME } else { self.min_time };
        if self.last.is_some_and(|last| now.duration_since(last) < wanted) {
            self.strikes += 1;
        }
        self.last = Some(now);
        self.strikes > FORGIVEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_early_ping_is_one_too_many() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rule = PingRule::new(Duration::from_secs(5));
        assert_eq!([0, 1, 2, 3].map(|second| rule.is_too_many(at(second), 1)), [false, false, false, true]);

        let mut rule = PingRule::new(Duration::from_secs(5));
        assert!([0, 5, 10, 15, 20, 25].iter().all(|second| !rule.is_too_many(at(*second), 1)), "slow enough");
        let mut rule = PingRule::new(Duration::from_secs(5));
        assert_eq!([0, 5, 10, 15].map(|second| rule.is_too_many(at(second), 0)), [false, false, false, true], "idle");
    }

    #[test]
    fn sending_data_starts_the_count_again() {
        let start = Instant::now();
        let mut rule = PingRule::new(Duration::from_secs(5));
        for round in 0..100 {
            let now = start + Duration::from_millis(round);
            assert!(!rule.is_too_many(now, 1));
            assert!(!rule.is_too_many(now, 1));
            rule.sent_data();
        }
    }
}
