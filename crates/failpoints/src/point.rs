//! Points that act.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::http;
use crate::terms::{Action, Terms};

/// How threads wait at a point.
static SLEEP: OnceLock<fn(Duration)> = OnceLock::new();

/// Says how threads wait at points, if not by sleeping: where tasks share threads, one that waits must not
/// hold up others. Only the first call counts.
pub fn sleep_by(sleep: fn(Duration)) {
    // A process has one way to wait.
    let _ = SLEEP.set(sleep);
}

/// A place in the code at which a test build can be told to do something.
#[derive(Debug)]
pub struct Point {
    name: &'static str,
    /// Whether there are terms. All that passing a point costs while there are none.
    is_set: AtomicBool,
    terms: Mutex<Option<Terms>>,
}

impl Point {
    /// A point of this name, which does nothing yet.
    pub const fn new(name: &'static str) -> Point {
        Point { name, is_set: AtomicBool::new(false), terms: Mutex::new(None) }
    }

    /// Passes the point.
    pub fn hit(&self) {
        if self.hit_value().is_some() {
            tracing::warn!(failpoint = self.name, "nothing fails here by a value: `return` does nothing");
        }
    }

    /// Passes the point; with a value, whoever passes fails for the reason it gives.
    pub fn hit_value(&self) -> Option<String> {
        if !self.is_set.load(Ordering::Relaxed) {
            return None;
        }
        // Others may pass, and change the terms, while this one waits.
        let action = self.terms.lock().as_mut().and_then(|terms| terms.pass(&mut rand::random::<f64>));
        match action? {
            Action::Off => None,
            Action::Print => {
                tracing::info!(failpoint = self.name, "a failpoint was passed");
                None
            }
            Action::Sleep(time) => {
                SLEEP.get().unwrap_or(&(std::thread::sleep as fn(Duration)))(time);
                None
            }
            Action::Return(value) => Some(value),
            Action::Panic(why) => self.end_process(&why),
        }
    }

    fn end_process(&self, why: &str) -> ! {
        // Whoever has just set the terms hears that it was done.
        let _answered = http::ANSWERING.lock();
        tracing::error!(failpoint = self.name, why, "a failpoint ends the process");
        std::process::abort()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn set(&self, terms: Option<Terms>) {
        let mut present = self.terms.lock();
        self.is_set.store(terms.is_some(), Ordering::Relaxed);
        *present = terms;
    }

    /// Its terms as they were written, and how often one of them has acted.
    pub(crate) fn terms(&self) -> Option<(String, u64)> {
        self.terms.lock().as_ref().map(|terms| (terms.text().to_owned(), terms.acted()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(point: &Point, terms: &str) {
        point.set(Some(Terms::parse(terms).unwrap()));
    }

    #[test]
    fn a_point_acts_while_it_has_terms() {
        let point = Point::new("a");
        assert_eq!((point.hit_value(), point.terms()), (None, None));
        set(&point, r#"1*off->1*print->return("x")"#);
        let values: Vec<_> = (0..4).map(|_| point.hit_value()).collect();
        assert_eq!(values, [None, None, Some("x".to_owned()), Some("x".to_owned())]);
        // Where no value is of use, it does nothing.
        point.hit();
        assert_eq!(point.terms(), Some((r#"1*off->1*print->return("x")"#.to_owned(), 5)));
        point.set(None);
        assert_eq!((point.hit_value(), point.terms()), (None, None));
    }

    #[test]
    fn waiting_is_left_to_who_knows_how_and_holds_up_nobody() {
        static WAITED: Mutex<Vec<Duration>> = Mutex::new(Vec::new());
        static POINT: Point = Point::new("a");
        sleep_by(|time| {
            // While it waits, others pass.
            set(&POINT, "off");
            POINT.hit();
            WAITED.lock().push(time);
        });
        set(&POINT, r#"sleep("1h")"#);
        POINT.hit();
        assert_eq!(*WAITED.lock(), [Duration::from_secs(3600)]);
    }
}
