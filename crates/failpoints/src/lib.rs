//! Failpoints: named places in the code at which a test build ends, waits or fails on command.
//!
//! A crate declares its points with [`points!`] and passes them with [`Point::hit`]. Without the feature
//! `active` both are nothing: no code, no memory. With it a point does what its *terms* say, which are set
//! by HTTP or by a variable of the environment, in the protocol of Go's gofail: see docs/testing.md.
//!
//! ```
//! mod failpoints {
//!     stentor_failpoints::points! {
//!         /// What is to be saved is not on disk yet.
//!         pub BEFORE_SAVE = "beforeSave";
//!     }
//! }
//!
//! fn save() -> Result<(), String> {
//!     // Something to fail with, should a test ask for it.
//!     if let Some(why) = failpoints::BEFORE_SAVE.hit_value() {
//!         return Err(why);
//!     }
//!     Ok(())
//! }
//! assert_eq!(save(), Ok(()));
//! ```

#[cfg(any(test, feature = "active"))]
mod duration;
#[cfg(any(test, feature = "active"))]
mod error;
#[cfg(any(test, feature = "active"))]
mod http;
#[cfg(not(any(test, feature = "active")))]
mod idle;
#[cfg(any(test, feature = "active"))]
mod point;
#[cfg(any(test, feature = "active"))]
mod registry;
#[cfg(any(test, feature = "active"))]
mod terms;

#[cfg(any(test, feature = "active"))]
pub use error::Error;
#[cfg(any(test, feature = "active"))]
pub use http::serve;
#[cfg(not(any(test, feature = "active")))]
pub use idle::Point;
#[cfg(any(test, feature = "active"))]
pub use point::{Point, sleep_by};
#[cfg(any(test, feature = "active"))]
pub use registry::Registry;

/// Declares the points of a crate, and `ALL`, a list of them. It says of each how far it can be seen; `ALL` is
/// seen within the crate and by those above it, if its module is.
#[macro_export]
macro_rules! points {
    ($($(#[$attribute:meta])* $visibility:vis $name:ident = $text:literal;)*) => {
        $($(#[$attribute])* $visibility static $name: $crate::Point = $crate::Point::new($text);)*

        /// All points of this crate.
        // Only a build in which points act asks for it.
        #[allow(dead_code, unreachable_pub)]
        pub static ALL: &[&$crate::Point] = &[$(&$name),*];
    };
}
