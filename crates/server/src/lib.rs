//! stentor-server
