//! Ids that members agree on without a word, made as etcd makes them: from names, URLs and token.

use sha1::{Digest, Sha1};

/// The id of a member with these peer URLs. `now`, in seconds since 1970, tells one that is added from one that
/// had the same URLs before; those that a cluster begins with have none.
pub(crate) fn member_id(peer_urls: &[String], token: &str, now: Option<u64>) -> u64 {
    let mut urls: Vec<_> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url));
    hash.update(token);
    if let Some(now) = now {
        hash.update(now.to_string());
    }
    first_bytes(hash)
}

/// The id of a cluster that begins with these members.
pub(crate) fn cluster_id(members: impl IntoIterator<Item = u64>) -> u64 {
    let mut members: Vec<_> = members.into_iter().collect();
    members.sort_unstable();
    let mut hash = Sha1::new();
    members.iter().for_each(|id| hash.update(id.to_be_bytes()));
    first_bytes(hash)
}

/// The id of a cluster of these members that begins with what a snapshot of this SHA-256 holds, so many revisions
/// later: another one than that of a cluster of the same members before, and than that of members who begin with
/// something else.
#[cfg(any(test, all(feature = "binary", feature = "rocksdb")))]
pub(crate) fn restored_cluster_id(members: impl IntoIterator<Item = u64>, sha256: &[u8], bump: u64) -> u64 {
    let mut hash = Sha1::new();
    hash.update(cluster_id(members).to_be_bytes());
    hash.update(sha256);
    hash.update(bump.to_be_bytes());
    first_bytes(hash)
}

/// Never 0, which means nobody.
fn first_bytes(hash: Sha1) -> u64 {
    let bytes = hash.finalize();
    bytes.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What etcd 3.5 prints for a cluster of one with its defaults: `8e9e05c52164694d` and `cdf818194e3a8c32`.
    #[test]
    fn ids_are_etcds() {
        let id = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster", None);
        assert_eq!(id, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id([id]), 0xcdf8_1819_4e3a_8c32);
    }

    #[test]
    fn a_restored_cluster_is_another_one() {
        let id = |members, sha256| restored_cluster_id(members, sha256, 7);
        let ids = [cluster_id([1, 2]), id([1, 2], b"one"), id([1, 2], b"two"), restored_cluster_id([1, 2], b"one", 8)];
        assert_eq!(std::collections::BTreeSet::from(ids).len(), ids.len(), "{ids:?}");
        assert_eq!(ids[1], id([2, 1], b"one"));
    }

    #[test]
    fn order_does_not_matter_and_time_does() {
        let urls = ["http://b:1".to_owned(), "http://a:1".to_owned()];
        let swapped = [urls[1].clone(), urls[0].clone()];
        assert_eq!(member_id(&urls, "t", None), member_id(&swapped, "t", None));
        assert_ne!(member_id(&urls, "t", None), member_id(&urls, "t", Some(1)));
        assert_ne!(member_id(&urls, "t", Some(2)), member_id(&urls, "t", Some(1)));
        assert_eq!(cluster_id([2, 1]), cluster_id([1, 2]));
    }
}
