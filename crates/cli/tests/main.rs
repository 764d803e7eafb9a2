//! `stentorctl` against a real etcd, beside the real etcdctl.
//!
//! The programs are named by the environment: STENTOR_TEST_ETCD or STENTOR_TEST_ETCD_37 or _35 (a server),
//! STENTOR_TEST_ETCDCTL_34, _35 and _37. What is not there is said and skipped. Where versions of
//! etcdctl differ, the newest counts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alone;
mod compare;
mod harness;
mod read_only;
mod steps;
mod watches;
