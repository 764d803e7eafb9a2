//! W11: nothing below the start revision, neither events nor notes; created at or below what the store is.

use crate::transcript::{Item, Watched, revision_of};

pub(crate) fn check(watched: &Watched) -> Result<(), String> {
    if let Some(event) = watched.events().find(|e| revision_of(e) < watched.start) {
        return Err(format!("{event:?} is below the start at {}", watched.start));
    }
    // A start of 0 is "after what the created response says": a note of just that is right.
    let least = if watched.request.start_revision == 0 { watched.start - 1 } else { watched.start };
    for item in &watched.items {
        match item {
            Item::Note { header, .. } if *header < least => {
                return Err(format!("a note at {header}, below the start at {}", watched.start));
            }
            Item::Events { header, events, .. } if events.iter().any(|e| revision_of(e) > *header) => {
                return Err(format!("a header at {header} with events above it"));
            }
            _ => {}
        }
    }
    Ok(())
}
