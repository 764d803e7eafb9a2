//! Panics that nobody would see: those of tasks, which end their task alone.

use std::cell::Cell;
use std::panic;
use std::sync::Once;

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// How many panics there were on this thread since the first call.
pub(crate) fn panics() -> u64 {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            SEEN.set(SEEN.get() + 1);
            before(panic);
        }));
    });
    SEEN.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_is_counted() {
        let before = panics();
        assert!(panic::catch_unwind(|| panic!("on purpose")).is_err());
        assert_eq!(panics(), before + 1);
    }
}
