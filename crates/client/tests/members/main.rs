//! The client against members in this process: memory engine, pipes for a network, tokio's clock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod credentials;
mod endpoints;
mod harness;
mod pings;
mod scripted;
#[cfg(all(feature = "tls-ring", feature = "tls-native-roots", feature = "rustls-0_23", feature = "dangerous"))]
mod tls;
