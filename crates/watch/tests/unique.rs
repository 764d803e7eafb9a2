//! W2: an event is delivered once per watcher.

use crate::model::Model;
use crate::transcript::{Watched, places};

pub(crate) fn check(model: &Model, watched: &Watched) -> Result<(), String> {
    let mut places = places(watched, model)?;
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("change {} came twice", pair[0])),
        None => Ok(()),
    }
}
