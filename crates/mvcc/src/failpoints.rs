//! Where a test build can be made to end, wait or fail: see docs/testing.md.

stentor_failpoints::points! {
    /// A group of writes was evaluated and is in no engine yet. With a value, the engine fails.
    pub BEFORE_COMMIT = "beforeCommit";
    /// A group of writes is in the engine, and nobody can see it yet.
    pub AFTER_COMMIT = "afterCommit";
    /// As [`BEFORE_COMMIT`], for a group that holds a compaction.
    pub BEFORE_COMPACTION_COMMIT = "compactBeforeCommitScheduledCompact";
    /// As [`AFTER_COMMIT`], for a group that holds a compaction.
    pub AFTER_COMPACTION_COMMIT = "compactAfterCommitScheduledCompact";
    /// A step of a compaction's space work has found what to delete.
    pub BEFORE_COMPACTION_STEP = "compactBeforeCommitBatch";
    /// A step of a compaction's space work has deleted it.
    pub AFTER_COMPACTION_STEP = "compactAfterCommitBatch";
    /// No space work is left of a compaction, which is not written down yet.
    pub BEFORE_COMPACTION_FINISHED = "compactBeforeSetFinishedCompact";
    /// It is written down that no space work is left of a compaction.
    pub AFTER_COMPACTION_FINISHED = "compactAfterSetFinishedCompact";
    /// A defragmentation begins.
    pub BEFORE_DEFRAGMENT = "defragBeforeCopy";
}
