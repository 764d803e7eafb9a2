//! The tokio runtime that a call is made in.

use tokio::runtime::Handle;

use crate::error::{Error, ErrorKind, Result};

/// The runtime of the caller. Without one there are no timers, no connections and no tasks.
pub(crate) fn current() -> Result<Handle> {
    Handle::try_current().map_err(|_| Error::with(ErrorKind::Closed, "called outside of a tokio runtime"))
}
