//! W7: with a filter, the rest is as without it.

use crate::model::Model;
use crate::transcript::Watched;

pub(crate) fn check(model: &Model, watched: &Watched) -> Result<(), String> {
    let filters = &watched.request.filters;
    if let Some(event) = watched.events().find(|e| filters.contains(&e.r#type)) {
        return Err(format!("{event:?} should be filtered out"));
    }
    let Some(last) = watched.last_revision() else { return Ok(()) };
    let mut unfiltered = watched.clone();
    unfiltered.request.filters.clear();
    let all = unfiltered.due(model, last).into_iter().map(|at| &model.changes[at]);
    let rest: Vec<_> = all.filter(|c| !filters.contains(&i32::from(c.delete))).collect();
    let got: Vec<_> = watched.events().collect();
    let same = rest.len() == got.len() && rest.iter().zip(&got).all(|(change, event)| change.is(event));
    if same { Ok(()) } else { Err(format!("{} events of {}", got.len(), rest.len())) }
}
