//! What must be so once all faults are mended and nothing more is written.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use stentor_checks::history::{Checked, Keys, Pairs};
use stentor_checks::log::Log;
use stentor_checks::perform::{pairs, range};
use stentor_proto::etcdserverpb::{HashKvRequest, RangeRequest};

use super::cluster::{Cluster, PATIENCE};
use super::load::{Load, Shared};
use super::watches;
use crate::client::Client;
use crate::crash::Report;

/// What was reached so far, beside the faults.
fn effects(shared: &Shared, cluster: &Cluster) -> Result<Vec<(&'static str, u64)>> {
    let reached = &shared.reached;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(vec![
        ("acknowledged writes", count(&reached.writes)),
        ("calls not answered", count(&reached.unanswered)),
        ("linearizable reads", count(&reached.reads)),
        ("serializable reads", count(&reached.serializable_reads)),
        ("transactions refused", count(&reached.refused_txns)),
        ("leases kept alive", count(&reached.renewals)),
        ("leases ended by their holders", count(&reached.revocations)),
        ("compactions", count(&reached.compactions)),
        ("watch streams opened again", count(&reached.resumed)),
        ("progress notes", count(&reached.notes)),
        ("messages that links kept back", cluster.links.disturbed()),
        ("changes of the leader", cluster.leaders.len().saturating_sub(1) as u64),
        ("snapshots received", cluster.logged("a store was received and is in use")?),
        ("handed over", cluster.logged("the office was handed over")?),
    ])
}

/// What should have been reached and was not.
pub(super) fn missing(shared: &Shared, cluster: &Cluster) -> Result<Vec<&'static str>> {
    let zero = effects(shared, cluster)?.into_iter().filter(|(_, count)| *count == 0);
    Ok(zero.map(|(name, _)| name).collect())
}

/// Stops the load and compares all that was told with what the members have published and hold.
pub(super) async fn check(cluster: &Cluster, load: Load, mut report: Report) -> Result<Report> {
    let shared = load.finish().await?;
    let compacted = {
        let state = shared.lock();
        for record in &state.records {
            record.check(&state.log).context("a watch")?;
        }
        let Checked { wrong, expiries } = state.history.check(&state.log);
        ensure!(wrong.is_empty(), "what clients were answered is not linearizable:\n{}", wrong.join("\n"));
        ensure!(expiries > 0, "no lease has ended by itself");
        report.add("leases that ended by themselves", expiries as usize);
        report.add("operations", state.history.operations.len());
        report.add("revisions", usize::try_from(state.log.revision)?);
        report.add("watches", state.records.len());
        report.add("events of watches", state.records.iter().map(watches::Record::events).sum());
        state.log.compacted()
    };
    let mut hashes = Vec::new();
    for (n, member) in cluster.members.iter().enumerate() {
        let held = read(&member.client).await?;
        let name = &member.name;
        same(&held, &shared.lock().log).context(name.clone())?;
        let replayed = watches::replay(&shared, n, compacted + 1, PATIENCE).await.context(name.clone())?;
        report.add("events replayed at the end", replayed);
        let request = HashKvRequest { revision: held.0 };
        let hash = member.client.maintenance.clone().hash_kv(request).await?.into_inner();
        hashes.push((hash.hash, hash.compact_revision));
    }
    ensure!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "HashKV differs: {hashes:?}");
    for (name, count) in effects(&shared, cluster)? {
        report.add(name, count as usize);
    }
    Ok(report)
}

/// A member's revision and pairs, by its own word alone.
async fn read(client: &Client) -> Result<(i64, Pairs)> {
    let (key, range_end) = range(Keys::Prefix(String::new()));
    let request = RangeRequest { key, range_end, serializable: true, ..RangeRequest::default() };
    let told = client.kv.clone().range(request).await?.into_inner();
    Ok((told.header.context("no header")?.revision, pairs(&told.kvs)?))
}

/// Whether a member holds what was published.
fn same((revision, held): &(i64, Pairs), log: &Log) -> Result<()> {
    ensure!(*revision == log.revision, "it is at revision {revision}, and {} was published", log.revision);
    let keys = held.keys().chain(log.pairs().keys());
    for key in keys {
        let (found, due) = (held.get(key), log.pairs().get(key));
        ensure!(found == due, "{key} is {found:?}, by history it is {due:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stentor_checks::log::{Pair, Published};

    use super::*;

    #[test]
    fn a_member_that_holds_something_else_is_found() {
        let pair = |value: &str| Pair { value: value.to_owned().into(), created: 2, modified: 2, version: 1, lease: 0 };
        let mut log = Log::new();
        let change = Published { revision: 2, key: "a".to_owned(), after: Some(pair("1.")) };
        log.publish(2, &[change], Duration::ZERO).unwrap();
        let held = |pairs: &[(&str, Pair)]| pairs.iter().map(|(key, pair)| ((*key).to_owned(), pair.clone())).collect();
        same(&(2, held(&[("a", pair("1."))])), &log).unwrap();
        assert!(same(&(1, held(&[("a", pair("1."))])), &log).is_err(), "behind");
        assert!(same(&(2, held(&[])), &log).is_err(), "lost");
        assert!(same(&(2, held(&[("a", pair("2."))])), &log).is_err(), "another value");
        assert!(same(&(2, held(&[("a", pair("1.")), ("b", pair("1."))])), &log).is_err(), "more than there was");
    }
}
