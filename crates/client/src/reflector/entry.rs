use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::KeyValue;

/// What a [`Reflector`](crate::Reflector) keeps of each key: the pair itself, or an [`Entry`]. Not to be
/// implemented outside of this crate.
pub trait Pair: sealed::Sealed + Send + Sync + 'static {
    /// The pair as the store has it.
    fn pair(&self) -> &KeyValue;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::KeyValue {}
    impl<T> Sealed for super::Entry<T> {}
}

/// A pair and what its value means; see [`ReflectBuilder::decode`](crate::ReflectBuilder::decode). It can be
/// used as the decoded value itself.
pub struct Entry<T> {
    pair: KeyValue,
    value: T,
}

/// A pair whose value means nothing to the program; see
/// [`Reflector::undecodable`](crate::Reflector::undecodable).
pub struct Undecodable {
    pair: KeyValue,
    reason: Reason,
}

/// Why a value could not be decoded.
pub(super) type Reason = Box<dyn Error + Send + Sync>;

/// What the copy has of one key.
pub(super) enum Slot<V> {
    Good(Arc<V>),
    Bad(Arc<Undecodable>),
}

/// What becomes of a pair that is read.
pub(super) type Decode<V> = dyn Fn(KeyValue) -> Slot<V> + Send + Sync;

impl Pair for KeyValue {
    fn pair(&self) -> &KeyValue {
        self
    }
}

impl<T: Send + Sync + 'static> Pair for Entry<T> {
    fn pair(&self) -> &KeyValue {
        &self.pair
    }
}

impl<T> Entry<T> {
    /// The pair as the store has it.
    pub fn pair(&self) -> &KeyValue {
        &self.pair
    }

    /// What its value means.
    pub fn value(&self) -> &T {
        &self.value
    }
}

impl<T> Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl Undecodable {
    /// The pair as the store has it.
    pub fn pair(&self) -> &KeyValue {
        &self.pair
    }

    /// What the decoder said.
    pub fn reason(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.reason
    }
}

impl<V: Pair> Slot<V> {
    pub(super) fn pair(&self) -> &KeyValue {
        match self {
            Slot::Good(value) => value.pair(),
            Slot::Bad(bad) => bad.pair(),
        }
    }

    pub(super) fn good(&self) -> Option<&Arc<V>> {
        match self {
            Slot::Good(value) => Some(value),
            Slot::Bad(_) => None,
        }
    }
}

impl<T> Slot<Entry<T>> {
    pub(super) fn decoded(pair: KeyValue, decoded: Result<T, Reason>) -> Slot<Entry<T>> {
        match decoded {
            Ok(value) => Slot::Good(Arc::new(Entry { pair, value })),
            Err(reason) => Slot::Bad(Arc::new(Undecodable { pair, reason })),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Entry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("pair", &self.pair).field("value", &self.value).finish()
    }
}

impl fmt::Debug for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undecodable").field("pair", &self.pair).field("reason", &self.reason).finish()
    }
}
