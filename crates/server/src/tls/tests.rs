//! What cannot be seen from outside: bounds, and certificates of our own making over time.

mod bounds;
mod own;
