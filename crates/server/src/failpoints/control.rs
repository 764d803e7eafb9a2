//! Failpoints as the environment of the process sets and serves them.

use std::io;
use std::time::Duration;

use stentor_failpoints::Registry;
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::warn;

/// What is set from the start: `name=terms;name=terms`.
const SET: &str = "GOFAIL_FAILPOINTS";
/// Where they are served: `host:port`.
const SERVE: &str = "GOFAIL_HTTP";

/// Sets the failpoints that the environment names, and serves all of them where it says.
///
/// # Errors
/// What it says can't be read or names what there is not; the address can't be listened on.
pub(crate) fn start() -> io::Result<()> {
    stentor_failpoints::sleep_by(wait);
    let points = Registry::new(&[stentor_mvcc::failpoints::ALL, stentor_raft::failpoints::ALL, super::ALL]);
    if let Some(text) = variable(SET)? {
        points.set_all(&text).map_err(|error| invalid(SET, &error))?;
    }
    let address = variable(SERVE)?.map(|address| {
        let served = stentor_failpoints::serve(points, &address);
        served.map_err(|error| io::Error::new(error.kind(), format!("{SERVE}={address}: {error}")))
    });
    let address = address.transpose()?.map(|address| address.to_string());
    warn!(address, "this build is for tests: it has failpoints, and whoever reaches them can end it");
    Ok(())
}

fn variable(name: &'static str) -> io::Result<Option<String>> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    value.into_string().map(Some).map_err(|_| invalid(name, &"not a text"))
}

fn invalid(name: &str, why: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: {why}"))
}

/// A task that waits hands the other tasks of its thread over.
fn wait(time: Duration) {
    let is_shared = Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_shared {
        tokio::task::block_in_place(|| std::thread::sleep(time));
    } else {
        std::thread::sleep(time);
    }
}
