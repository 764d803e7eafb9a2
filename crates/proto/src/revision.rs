use std::fmt;

/// A point in the store's history: 1 is the empty store, and every transaction that changes
/// something takes the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(i64);

impl Revision {
    /// Before everything; no store is ever at it.
    pub const ZERO: Revision = Revision(0);
    /// What an empty store is at.
    pub const FIRST: Revision = Revision(1);
    /// Above every revision.
    pub const MAX: Revision = Revision(i64::MAX);

    /// The revision `n`, or `None` if it is negative.
    ///
    /// ```
    /// use stentor_proto::Revision;
    /// assert_eq!(Revision::new(7).unwrap().get(), 7);
    /// assert_eq!(Revision::new(-1), None);
    /// ```
    pub const fn new(n: i64) -> Option<Revision> {
        if n < 0 { None } else { Some(Revision(n)) }
    }

    /// The number as it goes over the wire; never negative.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }

    /// The one before it, or [`Revision::ZERO`].
    #[must_use]
    pub const fn previous(self) -> Revision {
        Revision(if self.0 > 0 { self.0 - 1 } else { 0 })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
