//! Where a test build can be made to end, wait or fail: see docs/testing.md.

#[cfg(all(feature = "failpoints", feature = "binary"))]
mod control;

#[cfg(all(feature = "failpoints", feature = "binary"))]
pub(crate) use control::start;

stentor_failpoints::points! {
    /// A store that has come from another member is to take the place of the present one.
    pub(crate) BEFORE_OPEN_SNAPSHOT = "applyBeforeOpenSnapshot";
    /// A committed change of who takes part is to be applied.
    pub(crate) BEFORE_CONF_CHANGE = "beforeApplyOneConfChange";
    /// Responses of a watch are to leave.
    pub(crate) BEFORE_WATCH_RESPONSE = "beforeSendWatchResponse";
    /// A chunk of a streamed range is to leave.
    pub(crate) BEFORE_RANGE_CHUNK = "beforeRangeStreamChunk";
}
