use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};

use super::change::SubscriptionItem;
use super::entry::Pair;
use super::handle::Reflector;
use super::store::SubscriberId;
use crate::KeyValue;
use crate::error::Result;

/// The changes of a [`Reflector`]'s copy, each revision whole; see [`Reflector::subscribe`].
///
/// A [`Stream`] of [`SubscriptionItem`]s, and [`next`](Subscription::next) for those who need no
/// combinators. If the reflector has ended, it yields why and then ends. It keeps the reflector going.
///
/// A subscriber that does not take them slows down nobody else. When more wait than
/// [`subscriber_changes`](crate::ReflectBuilder::subscriber_changes), it gets the difference instead of the
/// single changes.
#[must_use = "what changes waits for it"]
pub struct Subscription<V: Pair = KeyValue> {
    id: SubscriberId,
    reflector: Reflector<V>,
    ended: bool,
}

impl<V: Pair> Subscription<V> {
    pub(super) fn new(id: SubscriberId, reflector: Reflector<V>) -> Subscription<V> {
        Subscription { id, reflector, ended: false }
    }

    /// The next item; `None` after the last.
    ///
    /// # Errors
    /// What the reflector has ended with, as the last item.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<SubscriptionItem<V>>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Whose changes these are.
    pub fn reflector(&self) -> &Reflector<V> {
        &self.reflector
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<SubscriptionItem<V>>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.reflector.shared().write().poll_take(self.id, cx));
        self.ended = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

impl<V: Pair> Drop for Subscription<V> {
    fn drop(&mut self) {
        self.reflector.shared().write().unsubscribe(self.id);
    }
}

impl<V: Pair> Stream for Subscription<V> {
    type Item = Result<SubscriptionItem<V>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl<V: Pair> FusedStream for Subscription<V> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<V: Pair> fmt::Debug for Subscription<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("reflector", &self.reflector).finish_non_exhaustive()
    }
}
