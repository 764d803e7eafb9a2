//! stentor-watch
