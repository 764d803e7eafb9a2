use stentor_proto::KeyRange;

use super::super::lag::Lag;
use super::super::survey::{Order, Query, States, Survey, Totals, survey};
use super::*;

const ALL: Query = Query { keys: None, states: States::ALL, limit: 100, order: Order::Revisions, streams_only: false };

fn rows(survey: &Survey) -> Vec<(u64, i64)> {
    survey.watchers.iter().map(|row| (row.stream_id, row.report.id)).collect()
}

/// Three streams: all synced, one catching up, one stalled; and one without watchers.
fn some() -> Fake {
    Fake::of([
        (1, vec![synced(0, "/a"), synced(1, "/b")]),
        (2, vec![watcher(5, "/a/1", WatcherState::Unsynced, (900, 30)), synced(3, "/a")]),
        (
            3,
            vec![
                watcher(0, "/b/1", WatcherState::Victim, (12, 4_000)),
                watcher(1, "/b", WatcherState::Victim, (12, 70)),
            ],
        ),
        (4, vec![]),
    ])
}

#[test]
fn the_furthest_behind_come_first() {
    let found = survey(&some(), &ALL, NOW);
    assert_eq!(rows(&found), [(2, 5), (3, 0), (3, 1), (1, 0), (1, 1), (2, 3)]);
    let lags: Vec<_> = found.watchers.iter().take(4).map(|row| (row.lag.revisions, row.lag.ms)).collect();
    assert_eq!(lags, [(900, 30), (12, 4_000), (12, 70), (0, 0)]);
    let streams: Vec<_> = found.streams.iter().map(|row| row.report.id).collect();
    assert_eq!(streams, [1, 2, 3], "those of the rows");
    assert_eq!(
        found.totals,
        Totals {
            streams: 4,
            synced: 3,
            unsynced: 1,
            victims: 2,
            matching: 6,
            slowest: Lag { revisions: 900, ms: 4_000 },
            held_bytes: 4711,
            compacted: Some(revision(7)),
        }
    );
    let by_time = survey(&some(), &Query { order: Order::Time, ..ALL }, NOW);
    assert_eq!(rows(&by_time)[..3], [(3, 0), (3, 1), (2, 5)]);
}

#[test]
fn filters_leave_the_totals_whole() {
    let keys = |prefix: &str| Query { keys: Some(KeyRange::prefix(prefix.to_owned())), ..ALL };
    let found = survey(&some(), &keys("/a/"), NOW);
    assert_eq!((rows(&found), found.totals.matching, found.totals.synced), (vec![(2, 5)], 1, 3));
    // A range that begins before the prefix and ends in it can hold such a key too.
    let wide = KeyRange::interval("/", "/a/5");
    let range = Fake::of([(9, vec![WatcherReport { range: wide, ..synced(1, "") }])]);
    assert_eq!(rows(&survey(&range, &keys("/a/"), NOW)), [(9, 1)]);
    assert_eq!(rows(&survey(&range, &keys("/b"), NOW)), []);

    let victims = States { synced: false, unsynced: false, victims: true };
    let found = survey(&some(), &Query { states: victims, ..ALL }, NOW);
    assert_eq!((rows(&found), found.totals.matching), (vec![(3, 0), (3, 1)], 2));
    let found = survey(&some(), &Query { states: victims, ..keys("/b/") }, NOW);
    assert_eq!((rows(&found), found.totals.matching), (vec![(3, 0)], 1));
}

#[test]
fn streams_can_be_the_rows() {
    let streams = |query: &Query| {
        let found = survey(&some(), query, NOW);
        assert!(found.watchers.is_empty());
        found.streams.iter().map(|row| (row.report.id, row.lag.revisions, row.matching)).collect::<Vec<_>>()
    };
    let only = Query { streams_only: true, ..ALL };
    assert_eq!(streams(&only), [(2, 900, 2), (3, 12, 2), (1, 0, 2), (4, 0, 0)]);
    assert_eq!(streams(&Query { limit: 1, ..only.clone() }), [(2, 900, 2)]);
    assert_eq!(streams(&Query { keys: Some(KeyRange::prefix("/b")), ..only }), [(3, 12, 2), (1, 0, 1)]);
}

/// A million watchers on 1,000 streams, of which a few are behind.
#[test]
fn a_million_watchers_give_as_many_rows_as_asked_for() {
    let behind = |stream: u64, id: i64| match (stream, id) {
        (500, 7) => watcher(7, "k", WatcherState::Unsynced, (999, 1)),
        (17, 3) => watcher(3, "k", WatcherState::Victim, (2, 9)),
        _ => synced(id, "k"),
    };
    let fake = Fake::of((0..1_000).map(|stream| (stream, (0..1_000).map(|id| behind(stream, id)).collect())));
    let found = survey(&fake, &Query { limit: 5, ..ALL }, NOW);
    assert_eq!(rows(&found), [(500, 7), (17, 3), (0, 0), (0, 1), (0, 2)]);
    assert_eq!((found.totals.matching, found.totals.synced), (1_000_000, 999_998));
    assert_eq!(fake.visited(), 3_000, "streams that can't add a row are left alone");
    let found = survey(&fake, &Query { limit: 5, keys: Some(KeyRange::prefix("k")), ..ALL }, NOW);
    assert_eq!((rows(&found).len(), found.totals.matching), (5, 1_000_000));
}
