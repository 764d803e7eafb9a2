//! stentor-client
