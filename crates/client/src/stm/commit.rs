use crate::Revision;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::stm::sets::{Pairs, Sets};
use crate::txn::{Nested, OpResult, Settled, Txn, get};

/// How a run has ended.
pub(super) enum Ending {
    /// Committed, at this revision.
    Done(Revision),
    /// Others were faster. The next run begins with what is known from this one.
    Conflict(Sets),
}

/// Writes everything at once, if what was read is still so.
pub(super) async fn commit(client: &Client, sets: Sets) -> Result<Ending> {
    if sets.is_settled() {
        return Ok(Ending::Done(sets.first.unwrap_or(Revision::ZERO)));
    }
    let keys = sets.keys();
    let body = Nested::default()
        .when_all(sets.conditions())
        .then_all(sets.steps())
        .or_else_all(keys.iter().map(|key| get(key.clone())));
    let txn = Txn::of(client, body);
    let sent = if sets.at_most_once() { txn.send_guarded().await } else { txn.send_once().await };
    let Settled { outcome, unsure, endpoint } = sent?;
    if outcome.succeeded {
        return Ok(Ending::Done(outcome.revision));
    }
    let pairs = outcome.results.into_iter().map(|result| match result {
        OpResult::Get(pair) => pair,
        _ => None,
    });
    let now: Pairs = keys.into_iter().zip(pairs).collect();
    if unsure && !sets.surely_failed(&now) {
        let text = "what was read is changed: by a commit without an answer, or by somebody else";
        return Err(Error::with(ErrorKind::Ambiguous, text).at(&endpoint));
    }
    Ok(Ending::Conflict(Sets::after_conflict(sets.isolation(), now, outcome.revision)))
}
