//! W1: events come in ascending revision, and within one in the order of its changes.

use crate::model::Model;
use crate::transcript::{Watched, places};

pub(crate) fn check(model: &Model, watched: &Watched) -> Result<(), String> {
    let places = places(watched, model)?;
    match places.windows(2).find(|pair| pair[0] > pair[1]) {
        Some(pair) => Err(format!("change {} came after change {}", pair[1], pair[0])),
        None => Ok(()),
    }
}
