//! Ports for servers that are told theirs by a flag.

use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that systems hand out by themselves (from 32768 on), so that no connection of somebody
/// else gets one between its choice and its use.
const PORTS: Range<u16> = 12_000..32_000;

/// A port that nobody listens on, and that no other call here returns soon.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(RandomState::new().hash_one(()) as u16));
    let mut ports = PORTS.map(|_| PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start));
    // By connecting: a listener of ours would live on for a moment in a process that is just being started.
    ports.find(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()).unwrap()
}
