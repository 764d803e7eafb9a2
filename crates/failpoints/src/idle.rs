//! Points that are nothing.

/// A place in the code at which a test build can be told to do something. In this build it does nothing.
#[derive(Debug)]
pub struct Point;

impl Point {
    /// A point of this name.
    pub const fn new(_: &'static str) -> Point {
        Point
    }

    /// Passes the point.
    #[inline(always)]
    pub fn hit(&self) {}

    /// Passes the point; with a value, whoever passes fails for the reason it gives.
    #[inline(always)]
    pub fn hit_value(&self) -> Option<String> {
        None
    }
}
