//! Stentor beside etcd, under etcd's tools, and killed. Each test names what it needs by environment
//! variable (see `stentor_interop::peers`) and says so when it is skipped.

mod bugs;
mod crash;
mod differential;
#[cfg(feature = "etcd-client")]
mod etcd_client;
mod etcdctl;
mod launch;
mod log;
mod session;
mod snapshot;
mod tls;
mod tool;
mod watch;

#[cfg(not(feature = "etcd-client"))]
#[test]
fn tests_with_the_crate_etcd_client() {
    stentor_interop::peers::skipped("tests with the crate etcd-client: built without the feature of that name");
}
