//! W5: watching again from the last seen revision + 1 continues as if never broken.

use crate::model::Model;
use crate::transcript::{Item, Watched};
use crate::{ordered, reliable, unique};

pub(crate) fn check(model: &Model, watched: &Watched) -> Result<(), String> {
    let Some(at) = watched.items.iter().position(|item| matches!(item, Item::Resumed { .. })) else { return Ok(()) };
    // What came before the break was in order by itself, and so is the whole, as of one watcher.
    let before = Watched { items: watched.items[..at].to_vec(), ..watched.clone() };
    for part in [&before, watched] {
        ordered::check(model, part)?;
        unique::check(model, part)?;
        reliable::check(model, part)?;
    }
    for item in &watched.items[at..] {
        if let (Item::Resumed { from }, Some(last)) = (item, before.last_revision())
            && *from <= last
        {
            return Err(format!("resumed from {from}, with {last} seen"));
        }
    }
    Ok(())
}
