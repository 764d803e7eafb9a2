//! Encrypted connections, by rustls with ring: of clients, and between members.
//!
//! Whatever is read from files is read again for each handshake, so that certificates can be replaced under a
//! running member. What cannot be used then is named once in the log, and what was read before stays.

mod accepting;
mod addresses;
mod connector;
mod error;
mod listener;
mod material;
mod protocols;
mod reloading;
mod rules;
mod self_signed;
#[cfg(test)]
mod tests;
mod verify;

pub use accepting::{Acceptor, Refused};
pub use connector::PeerConnector;
pub use error::TlsError;
pub use listener::{MaybeTls, TlsListener};
