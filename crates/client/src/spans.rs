//! The spans of a client: all their names and fields. The crate's documentation has them as a table.

use tracing::Span;
use tracing::field::{Empty, display};

use crate::endpoint::Endpoint;
use crate::{KeyRange, Revision};

/// One unary call, with all its tries.
pub(crate) fn call<Q>() -> Span {
    let request = || std::any::type_name::<Q>().rsplit("::").next().unwrap_or_default();
    tracing::debug_span!(target: "stentor_client", "call", request = request(), endpoint = Empty, tries = Empty)
}

/// A call is sent once more.
pub(crate) fn sent(span: &Span, endpoint: &Endpoint, tries: u32) {
    span.record("endpoint", display(endpoint)).record("tries", tries);
}

/// One try to open a connection.
pub(crate) fn dial(endpoint: &Endpoint) -> Span {
    tracing::debug_span!(target: "stentor_client", "dial", %endpoint)
}

/// The life of a watch.
pub(crate) fn watch(range: &KeyRange) -> Span {
    tracing::debug_span!(
        target: "stentor_client", "watch", ?range, id = Empty, endpoint = Empty, from = Empty,
    )
}

/// The server has confirmed a watcher, and delivers from this revision on.
pub(crate) fn served(span: &Span, id: i64, endpoint: &Endpoint, from: Option<Revision>) {
    span.record("id", id).record("endpoint", display(endpoint)).record("from", from.map(Revision::get));
    span.in_scope(|| tracing::debug!(target: "stentor_client", "the watch is served"));
}

/// It is not served any more, for now.
pub(crate) fn interrupted(span: &Span, why: &dyn std::fmt::Debug) {
    span.in_scope(|| tracing::debug!(target: "stentor_client", ?why, "the watch is interrupted"));
}

/// It ends with an error.
pub(crate) fn failed(span: &Span, error: &crate::Error) {
    span.in_scope(|| tracing::debug!(target: "stentor_client", %error, "the watch ends"));
}
