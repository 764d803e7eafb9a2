//! Endpoints, who the client is, pings and TLS.

mod credentials;
mod endpoints;
mod monotonic;
mod pings;
pub(crate) mod scripted;
#[cfg(all(feature = "tls-ring", feature = "tls-native-roots", feature = "rustls-0_23", feature = "dangerous"))]
mod tls;
mod version;
