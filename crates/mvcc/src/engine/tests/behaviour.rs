//! One function for each thing that an engine promises.

use bytes::Bytes;

use super::super::{Batch, Durability, Engine, EngineError, Entry, Family, Read};

pub(super) use Family::{History, Meta};

/// Where an engine's data lies: it can be opened again and again.
pub(super) trait Host {
    fn open(&self) -> Result<Box<dyn Engine>, EngineError>;

    /// Asking what is persisted makes it so.
    fn persists_when_asked(&self) -> bool {
        false
    }
}

/// A batch of puts.
pub(super) fn puts(family: Family, entries: &[(&str, &str)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in entries {
        batch.put(family, key.to_string(), value.to_string());
    }
    batch
}

fn text(bytes: Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// All entries of a range.
pub(super) fn entries(read: &dyn Read, family: Family, from: &[u8], to: Option<&[u8]>) -> Vec<Entry> {
    read.scan(family, from, to).unwrap().map(Result::unwrap).collect()
}

/// All keys of a range, joined by blanks.
pub(super) fn keys(read: &dyn Read, family: Family, from: &str, to: Option<&str>) -> String {
    let entries = entries(read, family, from.as_bytes(), to.map(str::as_bytes));
    let keys: Vec<String> = entries.into_iter().map(|(key, _)| text(key)).collect();
    keys.join(" ")
}

fn get(read: &dyn Read, family: Family, key: &str) -> Option<String> {
    read.get(family, key.as_bytes()).unwrap().map(text)
}

pub(super) fn a_batch_changes_both_families(host: &dyn Host) {
    let engine = host.open().unwrap();
    let mut batch = puts(History, &[("a", "1"), ("b", "2")]);
    batch.put(Meta, "a", "3");
    engine.write(batch, Durability::Synced).unwrap();
    assert_eq!(get(&*engine, History, "a").as_deref(), Some("1"));
    assert_eq!(get(&*engine, History, "b").as_deref(), Some("2"));
    assert_eq!(get(&*engine, Meta, "a").as_deref(), Some("3"));
    assert_eq!(get(&*engine, Meta, "b"), None);
}

pub(super) fn the_later_change_of_a_key_counts(host: &dyn Host) {
    let engine = host.open().unwrap();
    let mut batch = puts(Meta, &[("a", "1"), ("a", "2"), ("b", "1")]);
    batch.delete(Meta, "b");
    batch.delete(Meta, "c");
    batch.put(Meta, "c", "");
    engine.write(batch, Durability::Buffered).unwrap();
    assert_eq!(entries(&*engine, Meta, b"", None), [("a".into(), "2".into()), ("c".into(), "".into())]);
}

pub(super) fn deletes_and_empty_batches(host: &dyn Host) {
    let engine = host.open().unwrap();
    engine.write(puts(History, &[("a", "1"), ("b", "2")]), Durability::Buffered).unwrap();
    let mut batch = Batch::default();
    batch.delete(History, "a");
    batch.delete(History, "never there");
    engine.write(batch, Durability::Synced).unwrap();
    engine.write(Batch::default(), Durability::Synced).unwrap();
    engine.write(Batch::default(), Durability::Buffered).unwrap();
    assert_eq!(get(&*engine, History, "a"), None);
    assert_eq!(keys(&*engine, History, "", None), "b");
}

pub(super) fn scans_keep_to_their_bounds(host: &dyn Host) {
    let engine = host.open().unwrap();
    engine.write(puts(History, &[("d", ""), ("a", ""), ("c", ""), ("b", ""), ("bb", "")]), Durability::Synced).unwrap();
    engine.write(puts(Meta, &[("b", "")]), Durability::Synced).unwrap();
    for (from, to, expected) in [
        ("", None, "a b bb c d"),
        ("b", None, "b bb c d"),
        ("b", Some("c"), "b bb"),
        ("b\0", Some("c\0"), "bb c"),
        ("b", Some("b"), ""),
        ("c", Some("b"), ""),
        ("", Some(""), ""),
        ("e", None, ""),
        ("", Some("z"), "a b bb c d"),
    ] {
        assert_eq!(keys(&*engine, History, from, to), expected, "from {from:?} to {to:?}");
        assert_eq!(keys(&*engine.view(), History, from, to), expected, "view from {from:?} to {to:?}");
    }
}

pub(super) fn long_scans_miss_nothing(host: &dyn Host) {
    let engine = host.open().unwrap();
    let expected: Vec<String> = (0..1000).map(|n| format!("{n:04}")).collect();
    let mut batch = Batch::default();
    expected.iter().rev().for_each(|key| batch.put(History, key.clone(), key.repeat(10)));
    engine.write(batch, Durability::Buffered).unwrap();
    assert_eq!(keys(&*engine, History, "", None), expected.join(" "));
    engine.flush().unwrap();
    assert_eq!(keys(&*engine, History, "", None), expected.join(" "));
    assert_eq!(keys(&*engine, History, "0100", Some("0740")), expected[100..740].join(" "));
}

pub(super) fn many_keys_in_one_call(host: &dyn Host) {
    let engine = host.open().unwrap();
    let key = |n: u32| {
        let mut key = [7; 12];
        key[8..].copy_from_slice(&n.to_be_bytes());
        key
    };
    let mut batch = Batch::default();
    (0..500u32).step_by(2).for_each(|n| batch.put(History, key(n).to_vec(), n.to_string()));
    engine.write(batch, Durability::Buffered).unwrap();
    engine.flush().unwrap();
    let wanted: Vec<[u8; 12]> = [400, 3, 0, 0, 499, 498].map(key).to_vec();
    let values = |read: &dyn Read| -> Vec<Option<String>> {
        let found = read.get_many(History, &wanted).unwrap();
        found.into_iter().map(|value| value.map(text)).collect()
    };
    let expected = [Some("400"), None, Some("0"), Some("0"), None, Some("498")].map(|v| v.map(str::to_owned));
    assert_eq!(values(&*engine), expected);
    let view = engine.view();
    let mut batch = Batch::default();
    batch.delete(History, key(400).to_vec());
    engine.write(batch, Durability::Buffered).unwrap();
    assert_eq!(values(&*view), expected);
    assert_eq!(values(&*engine)[0], None);
    assert!(engine.get_many(History, &[]).unwrap().is_empty());
}

pub(super) fn views_and_scans_stay_as_they_were(host: &dyn Host) {
    let engine = host.open().unwrap();
    engine.write(puts(History, &[("a", "1"), ("b", "1"), ("c", "1")]), Durability::Synced).unwrap();
    let view = engine.view();
    let mut open_scan = engine.scan(History, b"", None).unwrap();
    assert_eq!(open_scan.next().unwrap().unwrap(), (Bytes::from("a"), Bytes::from("1")));
    let mut batch = puts(History, &[("a", "2"), ("bb", "2")]);
    batch.delete(History, "b");
    batch.put(Meta, "m", "2");
    engine.write(batch, Durability::Synced).unwrap();
    engine.flush().unwrap();
    engine.reclaim(History, None).unwrap();
    assert_eq!(keys(&*view, History, "", None), "a b c");
    assert_eq!(get(&*view, History, "a").as_deref(), Some("1"));
    assert_eq!(get(&*view, History, "b").as_deref(), Some("1"));
    assert_eq!(get(&*view, Meta, "m"), None);
    let rest: Vec<Bytes> = open_scan.map(|entry| entry.unwrap().0).collect();
    assert_eq!(rest, ["b", "c"]);
    assert_eq!(keys(&*engine, History, "", None), "a bb c");
    assert_eq!(get(&*engine, History, "a").as_deref(), Some("2"));
}

pub(super) fn writes_survive_a_clean_reopening(host: &dyn Host) {
    let engine = host.open().unwrap();
    engine.write(puts(History, &[("a", "1")]), Durability::Synced).unwrap();
    engine.write(puts(Meta, &[("a", "2")]), Durability::Buffered).unwrap();
    drop(engine);
    let engine = host.open().unwrap();
    assert_eq!(get(&*engine, History, "a").as_deref(), Some("1"));
    assert_eq!(get(&*engine, Meta, "a").as_deref(), Some("2"));
    // What an engine finds on opening is durable: someone may rely on having read it.
    assert_eq!(engine.get_persisted(History, b"a").unwrap().map(text).as_deref(), Some("1"));
    assert_eq!(engine.get_persisted(Meta, b"a").unwrap().map(text).as_deref(), Some("2"));
}

pub(super) fn buffered_writes_are_persisted_by_sync_and_flush(host: &dyn Host) {
    let engine = host.open().unwrap();
    let at_once = host.persists_when_asked();
    let persisted = |family, key: &str| engine.get_persisted(family, key.as_bytes()).unwrap().map(text);
    engine.write(puts(Meta, &[("n", "1")]), Durability::Buffered).unwrap();
    assert_eq!(get(&*engine, Meta, "n").as_deref(), Some("1"), "seen at once");
    assert_eq!(persisted(Meta, "n").as_deref(), at_once.then_some("1"));
    engine.sync().unwrap();
    assert_eq!(persisted(Meta, "n").as_deref(), Some("1"));
    engine.write(puts(Meta, &[("n", "2")]), Durability::Buffered).unwrap();
    assert_eq!(persisted(Meta, "n").as_deref(), Some(if at_once { "2" } else { "1" }));
    engine.flush().unwrap();
    assert_eq!(persisted(Meta, "n").as_deref(), Some("2"));
    // A synced write carries all before it.
    engine.write(puts(History, &[("h", "3")]), Durability::Buffered).unwrap();
    engine.write(puts(Meta, &[("n", "3")]), Durability::Synced).unwrap();
    assert_eq!(persisted(History, "h").as_deref(), Some("3"));
    assert_eq!(persisted(Meta, "n").as_deref(), Some("3"));
    let mut batch = Batch::default();
    batch.delete(Meta, "n");
    engine.write(batch, Durability::Buffered).unwrap();
    assert_eq!(persisted(Meta, "n").as_deref(), (!at_once).then_some("3"));
    engine.sync().unwrap();
    assert_eq!(persisted(Meta, "n"), None);
}

pub(super) fn only_one_engine_at_a_time(host: &dyn Host) {
    let engine = host.open().unwrap();
    assert!(matches!(host.open().err(), Some(EngineError::Locked(_))));
    engine.write(puts(Meta, &[("a", "1")]), Durability::Synced).unwrap();
    drop(engine);
    let engine = host.open().unwrap();
    assert_eq!(get(&*engine, Meta, "a").as_deref(), Some("1"));
}

pub(super) fn sizes_follow_what_is_stored(host: &dyn Host) {
    let engine = host.open().unwrap();
    let before = engine.sizes().unwrap();
    // Random values, so that compression cannot hide them.
    let mut random = super::Random::new(1);
    let mut batch = Batch::default();
    for n in 0..1000 {
        let value: Vec<u8> = (0..1000).map(|_| random.below(256) as u8).collect();
        batch.put(History, format!("{n:04}"), value);
    }
    engine.write(batch, Durability::Synced).unwrap();
    let full = engine.sizes().unwrap();
    assert!(full.total >= before.total + 1_000_000, "{before:?} {full:?}");
    assert!(full.live >= before.live + 900_000 && full.live <= full.total, "{before:?} {full:?}");
    engine.flush().unwrap();
    let flushed = engine.sizes().unwrap();
    assert!(flushed.live >= 1_000_000 && flushed.live <= flushed.total, "{flushed:?}");
    let mut batch = Batch::default();
    (0..900).for_each(|n| batch.delete(History, format!("{n:04}")));
    engine.write(batch, Durability::Synced).unwrap();
    engine.reclaim(History, Some(b"0900")).unwrap();
    engine.flush().unwrap();
    let after = engine.sizes().unwrap();
    assert!(after.live < 200_000 && after.total < flushed.total - 700_000, "{flushed:?} {after:?}");
    assert_eq!(keys(&*engine, History, "", None).split(' ').count(), 100);
}

/// Makes a test of each of them for a kind of host.
macro_rules! behaviour {
    ($new_host:expr) => {
        behaviour!($new_host;
            a_batch_changes_both_families
            the_later_change_of_a_key_counts
            deletes_and_empty_batches
            scans_keep_to_their_bounds
            long_scans_miss_nothing
            many_keys_in_one_call
            views_and_scans_stay_as_they_were
            writes_survive_a_clean_reopening
            buffered_writes_are_persisted_by_sync_and_flush
            only_one_engine_at_a_time
            sizes_follow_what_is_stored
        );
    };
    ($new_host:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                crate::engine::tests::behaviour::$name(&$new_host);
            }
        )*
    };
}
pub(super) use behaviour;
