//! W6: a progress note at revision R says that every matching event at or below R was delivered before;
//! it never tells a revision that the store has not reached, nor one below what was delivered.

use crate::model::Model;
use crate::transcript::{Item, Watched};

pub(crate) fn check(model: &Model, watched: &Watched) -> Result<(), String> {
    for (at, item) in watched.items.iter().enumerate() {
        let Item::Note { header, store_at } = item else { continue };
        if header > store_at {
            return Err(format!("a note at {header} while the store is at {store_at}"));
        }
        let so_far = Watched { items: watched.items[..at].to_vec(), ..watched.clone() };
        if let Some(last) = so_far.last_revision().filter(|last| header < last) {
            return Err(format!("a note at {header}, a step back from {last}"));
        }
        let due = watched.due(model, *header).len();
        let got = so_far.events().filter(|e| crate::transcript::revision_of(e) <= *header).count();
        if got != due {
            return Err(format!("a note at {header} with {got} of {due} events delivered"));
        }
    }
    Ok(())
}
