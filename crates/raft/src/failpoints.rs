//! Where a test build can be made to end, wait or fail: see docs/testing.md.

stentor_failpoints::points! {
    /// Entries or a hard state are to be appended to the log. With a value, that fails.
    pub BEFORE_SAVE = "raftBeforeSave";
    /// They are in the log, and nobody has been told.
    pub AFTER_SAVE = "raftAfterSave";
    /// A leader has messages for others, if it has any.
    pub BEFORE_LEADER_SEND = "raftBeforeLeaderSend";
    /// A member that does not lead has messages for others, if it has any: what they tell is in its log.
    pub BEFORE_FOLLOWER_SEND = "raftBeforeFollowerSend";
    /// What was handed out is done, which the library is about to hear.
    pub BEFORE_ADVANCE = "raftBeforeAdvance";
    /// A store has come from another member, which the log is to go on from.
    pub BEFORE_SNAPSHOT = "raftBeforeApplySnap";
    /// The log goes on from a store that is not in use yet.
    pub AFTER_SNAPSHOT = "raftAfterApplySnap";
    /// Frames are in the log's file and are to be synced.
    pub BEFORE_SYNC = "walBeforeSync";
    /// They are on disk.
    pub AFTER_SYNC = "walAfterSync";
}
