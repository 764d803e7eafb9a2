//! The client against members in this process. One executable, since each of them links a whole server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cancel;
mod harness;
mod interface;
mod kv;
mod lease;
mod maintenance;
mod members;
mod queue;
mod reflector;
mod stm;
