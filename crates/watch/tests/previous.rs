//! W8: with prev_kv, each event that is no creation carries the key's pair as of revision - 1.

use crate::model::Model;
use crate::transcript::{Watched, places};

pub(crate) fn check(model: &Model, watched: &Watched) -> Result<(), String> {
    for (event, place) in watched.events().zip(places(watched, model)?) {
        let change = &model.changes[place];
        let owed = watched.request.prev_kv && !change.is_creation();
        let expected = if owed { change.before.as_ref() } else { None };
        if event.prev_kv.as_ref() != expected {
            return Err(format!("{event:?} should have {expected:?} before it"));
        }
    }
    Ok(())
}
