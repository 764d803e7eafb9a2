//! The server: configuration, connections, HTTP endpoints and metrics around the gRPC services.

pub mod config;
pub mod version;
