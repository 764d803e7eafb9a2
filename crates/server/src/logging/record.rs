//! One line's content.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::time;

/// The names that every line has; a field of an event called so gets a suffix.
const RESERVED: [&str; 4] = ["level", "ts", "caller", "msg"];

#[derive(Debug)]
pub(super) struct Record {
    level: &'static str,
    ts: String,
    caller: String,
    msg: String,
    fields: Vec<(String, Value)>,
}

impl Record {
    pub(super) fn new(level: &'static str, caller: String, msg: &str) -> Record {
        Record { level, ts: time::now(), caller, msg: msg.to_owned(), fields: Vec::new() }
    }

    pub(super) fn of(event: &Event<'_>) -> Record {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let caller = caller(metadata.file().unwrap_or("unknown"), metadata.line().unwrap_or(0));
        let mut record = Record::new(level, caller, "");
        event.record(&mut record);
        record
    }

    pub(super) fn with(mut self, name: &str, value: String) -> Record {
        self.add(name, Value::String(value));
        self
    }

    fn add(&mut self, name: &str, value: Value) {
        let name = if RESERVED.contains(&name) { format!("{name}_") } else { name.to_owned() };
        self.fields.push((name, value));
    }

    /// The line for machines, with its end.
    pub(super) fn json(&self) -> String {
        let mut out = String::with_capacity(256);
        // By hand for the order, which people read by.
        let _ = write!(
            out,
            "{{\"level\":\"{}\",\"ts\":\"{}\",\"caller\":{},\"msg\":{}",
            self.level,
            self.ts,
            Value::from(self.caller.as_str()),
            Value::from(self.msg.as_str())
        );
        for (name, value) in &self.fields {
            let _ = write!(out, ",{}:{value}", Value::from(name.as_str()));
        }
        out.push_str("}\n");
        out
    }

    /// The line for people, with its end.
    pub(super) fn console(&self) -> String {
        let msg = self.msg.replace('\n', " ");
        let mut out = format!("{}\t{}\t{}\t{msg}", self.ts, self.level, self.caller);
        if !self.fields.is_empty() {
            let fields: Map<String, Value> = self.fields.iter().cloned().collect();
            let _ = write!(out, "\t{}", Value::Object(fields));
        }
        out.push('\n');
        out
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.msg = text;
        } else {
            self.add(field.name(), Value::String(text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.msg = value.to_owned();
        } else {
            self.add(field.name(), value.into());
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field.name(), Value::String(value.to_string()));
    }
}

/// The last folder that says something and the name of a file, with the line: a path of the machine it was
/// built on says nothing.
pub(super) fn caller(file: &str, line: u32) -> String {
    let mut parts = file.rsplit(['/', '\\']);
    let name = parts.next().unwrap_or_default();
    match parts.find(|folder| *folder != "src") {
        Some(folder) => format!("{folder}/{name}:{line}"),
        None => format!("{name}:{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::caller;

    #[test]
    fn callers_are_short() {
        assert_eq!(caller("crates/server/src/process.rs", 7), "server/process.rs:7");
        assert_eq!(caller("crates/server/src/net/mod.rs", 7), "net/mod.rs:7");
        assert_eq!(caller("build.rs", 7), "build.rs:7");
    }
}
