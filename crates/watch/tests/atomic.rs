//! W4: all events of one revision come in one response, or in fragments with nothing between.

use crate::transcript::{Item, Watched, revision_of};

pub(crate) fn check(watched: &Watched) -> Result<(), String> {
    let mut before: Option<(i64, usize, bool)> = None;
    for item in &watched.items {
        let Item::Events { events, fragment, place, .. } = item else {
            if before.is_some_and(|(_, _, more)| more) {
                return Err(format!("{item:?} came between fragments"));
            }
            continue;
        };
        if *fragment && !watched.request.fragment {
            return Err("a fragment that was not asked for".into());
        }
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return Err("a response of events has none".into());
        };
        if let Some((revision, at, more)) = before {
            if more && *place != at + 1 {
                return Err(format!("{} responses between fragments", place - at - 1));
            }
            if !more && revision == revision_of(first) {
                return Err(format!("revision {revision} is in two responses"));
            }
        }
        before = Some((revision_of(last), *place, *fragment));
    }
    match before {
        Some((revision, _, true)) => Err(format!("the last fragment of revision {revision} never came")),
        _ => Ok(()),
    }
}
