//! What the server says of its version.

/// The version of etcd whose interface is spoken, as Status, /version and `--version` give it: digits and
/// dots only, since clients parse it to switch features on.
pub const ETCD_VERSION: &str = "3.7.3";

/// [`ETCD_VERSION`] without its last number: the version of the cluster.
pub const CLUSTER_VERSION: &str = "3.7";

/// The version of the storage as Status gives it: whole, as etcd does.
pub const STORAGE_VERSION: &str = "3.7.0";

/// Stentor's own version.
pub const STENTOR_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, where the build was told of it by the variable `STENTOR_GIT_SHA`. Nothing looks for it, so
/// that the same source gives the same binary.
const GIT_SHA: Option<&str> = option_env!("STENTOR_GIT_SHA");

/// What `--version` prints.
pub fn text() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nStentor Version: {STENTOR_VERSION}\nGit SHA: {}\nOS/Arch: {}/{}\n",
        GIT_SHA.unwrap_or("unknown"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_parses_as_clients_do() {
        let numbers: Vec<u32> = ETCD_VERSION.split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 3);
        assert!(numbers >= vec![3, 6, 0]);
        assert!(ETCD_VERSION.starts_with(&format!("{CLUSTER_VERSION}.")));
        assert_eq!(STORAGE_VERSION, format!("{CLUSTER_VERSION}.0"));
        assert!(text().starts_with("etcd Version: 3.7."));
    }
}
