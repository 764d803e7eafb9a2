//! The server in this process, on the memory engine, as clients meet it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod serving;

mod watch;
