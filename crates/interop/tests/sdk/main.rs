//! `stentor-client` against real servers, Stentor and each etcd there is, killed and cut off: every watch's
//! history is the store's, or it ends with the error that is due.

mod breaks;
mod ends;
mod locks;
mod reflector;
mod rig;
mod task_agent;
mod thousands;
