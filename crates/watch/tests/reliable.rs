//! W3: between the start revision and any delivered revision, every matching event was delivered.

use crate::model::Model;
use crate::transcript::{Watched, places};

pub(crate) fn check(model: &Model, watched: &Watched) -> Result<(), String> {
    let Some(last) = watched.last_revision() else { return Ok(()) };
    let due = watched.due(model, last);
    let got = places(watched, model)?;
    match due.iter().find(|place| !got.contains(place)) {
        Some(&place) => Err(format!("it has revision {last}, but not {:?}", model.changes[place])),
        None => Ok(()),
    }
}
