//! W9: a watcher that can't get an event because of compaction is told so, once, and never skipped ahead;
//! one that is not told has got everything.

use crate::model::Model;
use crate::transcript::{Item, Watched};

/// `settled`: every stream was read to its end, with the store at rest.
pub(crate) fn check(model: &Model, watched: &Watched, compacted: i64, settled: bool) -> Result<(), String> {
    let cancelled: Vec<_> = watched.items.iter().filter(|i| matches!(i, Item::Cancelled { .. })).collect();
    let over = watched.items.iter().position(|i| matches!(i, Item::Cancelled { .. }));
    if let Some(at) = over
        && let Some(late) = watched.items[at + 1..].first()
    {
        return Err(format!("{late:?} came after the cancel ({} cancels)", cancelled.len()));
    }
    match cancelled.first() {
        Some(Item::Cancelled { compacted: at, reason }) if *at != 0 => {
            if *at > compacted || !reason.is_empty() {
                return Err(format!("compacted at {at}, it says; it is {compacted}; {reason}"));
            }
            if watched.next() >= *at {
                return Err(format!("told of {at}, but it only needed {}", watched.next()));
            }
        }
        Some(_) => {}
        None if settled => {
            let due = watched.due(model, model.revision()).len();
            let got = watched.events().count();
            if got != due {
                return Err(format!("{got} of {due} events and no word: skipped ahead"));
            }
        }
        None => {}
    }
    Ok(())
}
