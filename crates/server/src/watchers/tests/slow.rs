use std::time::Duration;

use super::super::lag::Now;
use super::super::slow::{Change, SlowWatchers};
use super::*;

/// Looks at streams every second.
struct Looks {
    slow: SlowWatchers,
    seconds: u64,
}

impl Looks {
    fn new(limit_seconds: u64) -> Looks {
        Looks { slow: SlowWatchers::new(Duration::from_secs(limit_seconds)), seconds: 0 }
    }

    /// A second later: how many are slow, and what has changed.
    fn next(&mut self, fake: &Fake) -> (u64, Vec<String>) {
        self.seconds += 1;
        let mut look = self.slow.look(Now { revision: revision(REVISION), unix_ms: NOW }, self.seconds * 1_000);
        for stream in fake.streams() {
            look.at(&stream, &stream.report());
        }
        let (count, changes) = look.end();
        let text = |change| match change {
            Change::Slow { stream, count, worst, lag } => {
                format!("{} slow: {count}, worst {} by {} ms", stream.id, worst.id, lag.ms)
            }
            Change::Recovered { stream, episode } => {
                format!(
                    "{} recovered: {} by {} ms for {} ms",
                    stream.id, episode.count, episode.lag.ms, episode.lasted_ms
                )
            }
            Change::Ended { stream, episode } => format!("{} ended: {}", stream.id, episode.count),
        };
        (count, changes.into_iter().map(text).collect())
    }
}

#[test]
fn a_stall_is_told_once_and_so_is_its_end() {
    let mut looks = Looks::new(10);
    let mut told = Vec::new();
    for second in 1..=30 {
        let (count, changes) = looks.next(&Fake::of([stalled(1, 0..10_000, second), stalled(2, 0..1, 0)]));
        assert_eq!(count, if second < 10 { 0 } else { 10_000 }, "{second}");
        told.extend(changes.into_iter().map(|change| (second, change)));
    }
    assert_eq!(told, [(10, "1 slow: 10000, worst 0 by 10001 ms".to_owned())]);
    // Above half the limit it goes on.
    assert_eq!(looks.next(&Fake::of([stalled(1, 0..10_000, 6)])), (10_000, vec![]));
    let (count, changes) = looks.next(&Fake::of([stalled(1, 0..10_000, 0)]));
    assert_eq!((count, changes), (0, vec!["1 recovered: 10000 by 30001 ms for 21000 ms".to_owned()]));
    assert_eq!(looks.next(&Fake::of([stalled(1, 0..10_000, 0)])), (0, vec![]));
}

#[test]
fn an_end_is_told_where_the_beginning_was() {
    let mut looks = Looks::new(2);
    for second in 1..=3 {
        looks.next(&Fake::of([stalled(1, 0..3, second), stalled(2, 0..1, 1)]));
    }
    let (count, changes) = looks.next(&Fake::default());
    assert_eq!((count, changes), (0, vec!["1 ended: 3".to_owned()]));
    assert!(looks.slow.is_empty(), "nothing is kept of streams that are gone");
}

/// By commit times who replays old history is hours behind, but each such watcher is so for a moment only.
#[test]
fn short_replays_of_old_history_are_not_slow() {
    let mut looks = Looks::new(10);
    for second in 0..100 {
        let replaying = stalled(1, second..second + 3, 3_600);
        assert_eq!(looks.next(&Fake::of([replaying])), (0, vec![]), "{second}");
    }
    let mut slow_at = Vec::new();
    for second in 0..20 {
        let (count, changes) = looks.next(&Fake::of([stalled(1, 200..201, 3_600)]));
        assert_eq!(count, u64::from(second >= 9));
        slow_at.extend(changes.iter().map(|_| second));
    }
    assert_eq!(slow_at, [9], "the one that stays is");
}

#[test]
fn who_is_busy_but_keeps_up_is_not_slow() {
    let mut looks = Looks::new(10);
    let fake = Fake::of([(1, vec![watcher(1, "k", WatcherState::Victim, (900, 900))])]);
    for _ in 0..100 {
        assert_eq!(looks.next(&fake), (0, vec![]));
    }
    assert_eq!(fake.visited(), 0, "a stream that is hardly behind is not visited");
}
