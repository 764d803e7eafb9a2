//! Stentor beside etcd, under etcd's tools, and killed. Each test names what it needs by environment
//! variable (see `stentor_interop::peers`) and says so when it is skipped.

mod differential;
