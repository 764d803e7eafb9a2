//! What `stentorctl` decodes from disk, apart from the program, so that anything can be tried on it.

pub mod snapshot;
