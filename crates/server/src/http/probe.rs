//! What the health endpoints ask the server.

use std::pin::Pin;

/// An alarm that is raised on some member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The space quota is used up.
    NoSpace,
    /// A member's data differs from the others'.
    Corrupt,
}

impl Alarm {
    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Alarm::NoSpace => "NOSPACE",
            Alarm::Corrupt => "CORRUPT",
        }
    }
}

/// A result that comes later: why not, in a few words.
pub type ProbeFuture<'p> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'p>>;

/// The server as its health endpoints see it.
pub trait Probe: Send + Sync + 'static {
    /// Whether the process itself works: it has come up and its workers run. Never a matter of quorum,
    /// alarms, a full disk or a slow read.
    ///
    /// # Errors
    /// What has stopped working.
    fn alive(&self) -> Result<(), String>;

    /// The alarms raised.
    fn alarms(&self) -> Vec<Alarm>;

    /// Whether a leader is known.
    fn has_leader(&self) -> bool;

    /// Whether this member is a learner.
    fn is_learner(&self) -> bool;

    /// A read of this member's own state.
    fn serializable_read(&self) -> ProbeFuture<'_>;

    /// A read that waits at the barrier.
    fn linearizable_read(&self) -> ProbeFuture<'_>;

    /// Sets the gauges that are measured rather than followed, before /metrics is answered.
    fn measure(&self) {}
}
