use std::fmt;

use bytes::Bytes;
use stentor_proto::etcdserverpb::Compare as Wire;
use stentor_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use crate::error::{Error, ErrorKind, Result};
use crate::namespace::Namespace;
use crate::{KeyRange, LeaseId, Revision};

/// A condition of a [`Txn`](crate::txn::Txn): made by [`key`] or [`each`].
#[derive(Clone, PartialEq)]
pub struct Compare {
    range: KeyRange,
    result: CompareResult,
    with: TargetUnion,
}

/// What a [`Compare`] is about: one key, or every key of a range.
#[derive(Clone, Debug)]
#[must_use = "it is no condition yet: say what is compared, and with what"]
pub struct Subject(KeyRange);

/// One side of a [`Compare`]: `T` is what it is compared with.
#[derive(Clone)]
#[must_use = "it is no condition yet: say what it is compared with"]
pub struct Operand<T> {
    range: KeyRange,
    with: fn(T) -> TargetUnion,
}

/// A condition on a key. Of a key that does not exist the version, the revisions and the lease are 0, and
/// none of the comparisons with its value holds.
pub fn key(key: impl Into<Bytes>) -> Subject {
    Subject(KeyRange::key(key))
}

/// A condition that must hold for every key of a range. If there is none, it is tested once, as that of a
/// [`key`] that does not exist. A [segment](KeyRange::segment) is refused: it is two ranges.
pub fn each(range: impl Into<KeyRange>) -> Subject {
    Subject(range.into())
}

impl Subject {
    /// How many times it was put since it was created; 0 if it does not exist.
    pub fn version(self) -> Operand<u64> {
        Operand { range: self.0, with: |n| TargetUnion::Version(i64::try_from(n).unwrap_or(i64::MAX)) }
    }

    /// The revision that created it.
    pub fn create_revision(self) -> Operand<Revision> {
        Operand { range: self.0, with: |revision| TargetUnion::CreateRevision(revision.get()) }
    }

    /// The revision of its last change.
    pub fn mod_revision(self) -> Operand<Revision> {
        Operand { range: self.0, with: |revision| TargetUnion::ModRevision(revision.get()) }
    }

    /// Its value, compared byte by byte.
    pub fn value(self) -> Operand<Bytes> {
        Operand { range: self.0, with: TargetUnion::Value }
    }

    /// The lease it ends with.
    pub fn lease(self) -> Operand<Option<LeaseId>> {
        Operand { range: self.0, with: |lease| TargetUnion::Lease(lease.map_or(0, LeaseId::get)) }
    }

    /// It exists.
    pub fn exists(self) -> Compare {
        self.version().ne(0)
    }

    /// It does not exist.
    pub fn is_missing(self) -> Compare {
        self.version().eq(0)
    }
}

/// The comparisons, with what each kind of operand takes.
macro_rules! comparisons {
    ($of:ty, $other:ty) => {
        // Named as the operators, whose traits return a truth value and not a condition.
        #[allow(clippy::should_implement_trait)]
        impl Operand<$of> {
            /// Is equal to this.
            pub fn eq(self, other: $other) -> Compare {
                self.compare(CompareResult::Equal, other.into())
            }

            /// Is not equal to this.
            pub fn ne(self, other: $other) -> Compare {
                self.compare(CompareResult::NotEqual, other.into())
            }

            /// Is greater than this.
            pub fn gt(self, other: $other) -> Compare {
                self.compare(CompareResult::Greater, other.into())
            }

            /// Is less than this.
            pub fn lt(self, other: $other) -> Compare {
                self.compare(CompareResult::Less, other.into())
            }
        }
    };
}

// A number has to be of one type for a literal to be one.
comparisons!(u64, u64);
comparisons!(Revision, Revision);
comparisons!(Bytes, impl Into<Bytes>);
comparisons!(Option<LeaseId>, impl Into<Option<LeaseId>>);

impl<T> Operand<T> {
    fn compare(self, result: CompareResult, other: T) -> Compare {
        Compare { range: self.range, result, with: (self.with)(other) }
    }
}

impl Compare {
    pub(super) fn to_wire(&self, namespace: &Namespace) -> Result<Wire> {
        let parts = self.range.parts();
        let [part] = parts.as_slice() else {
            return Err(Error::with(ErrorKind::InvalidArgument, "a segment is two ranges: compare them one by one"));
        };
        let (key, range_end) = namespace.to_wire(part)?;
        let target = match &self.with {
            TargetUnion::Version(_) => CompareTarget::Version,
            TargetUnion::CreateRevision(_) => CompareTarget::Create,
            TargetUnion::ModRevision(_) => CompareTarget::Mod,
            TargetUnion::Value(_) => CompareTarget::Value,
            TargetUnion::Lease(_) => CompareTarget::Lease,
        };
        let (result, target) = (self.result as i32, target as i32);
        Ok(Wire { result, target, key, range_end, target_union: Some(self.with.clone()) })
    }
}

impl fmt::Debug for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = match self.result {
            CompareResult::Equal => "==",
            CompareResult::NotEqual => "!=",
            CompareResult::Greater => ">",
            CompareResult::Less => "<",
        };
        write!(f, "{:?} ", self.range)?;
        match &self.with {
            // A value may be a secret.
            TargetUnion::Value(_) => write!(f, "value {result} .."),
            TargetUnion::Version(n) => write!(f, "version {result} {n}"),
            TargetUnion::CreateRevision(n) => write!(f, "create_revision {result} {n}"),
            TargetUnion::ModRevision(n) => write!(f, "mod_revision {result} {n}"),
            TargetUnion::Lease(id) => write!(f, "lease {result} {id:x}"),
        }
    }
}

impl<T> fmt::Debug for Operand<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operand").field("range", &self.range).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_what_it_says_on_the_wire() {
        let none = Namespace::default();
        let wire = key("a").version().eq(0).to_wire(&none).unwrap();
        assert_eq!((wire.result, wire.target), (CompareResult::Equal as i32, CompareTarget::Version as i32));
        assert_eq!((&wire.key[..], &wire.range_end[..]), (&b"a"[..], &b""[..]));
        assert_eq!(wire.target_union, Some(TargetUnion::Version(0)));

        let wire = each(KeyRange::prefix("a")).value().lt("x").to_wire(&none).unwrap();
        assert_eq!((wire.result, wire.target), (CompareResult::Less as i32, CompareTarget::Value as i32));
        assert_eq!((&wire.key[..], &wire.range_end[..]), (&b"a"[..], &b"b"[..]));

        let wire = key("a").lease().ne(LeaseId::new(7)).to_wire(&none).unwrap();
        assert_eq!(wire.target_union, Some(TargetUnion::Lease(7)));
        let wire = key("a").lease().gt(None).to_wire(&none).unwrap();
        assert_eq!(wire.target_union, Some(TargetUnion::Lease(0)));
    }

    #[test]
    fn a_segment_is_no_range_to_compare() {
        let error = each(KeyRange::segment("a")).exists().to_wire(&Namespace::default()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn values_stay_out_of_debug() {
        let text = format!("{:?}", key("a").value().eq("s3cret"));
        assert_eq!(text, "\"a\" value == ..");
    }
}
