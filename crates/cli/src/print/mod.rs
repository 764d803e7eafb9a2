//! What commands show, in etcdctl's shapes.

mod cluster;
mod fields;
mod kv;
mod lease;
mod message;
mod snapshot;
mod watch;
mod watchers;

pub(crate) use cluster::{Health, PerEndpoint, alarm_name};
pub(crate) use watch::event_type;
pub(crate) use watchers::Sight;

use std::io::Write as _;

use prost::Message;

use crate::failure::{Exit, Failure, Result};

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Json,
    Fields,
    Table,
    Protobuf,
}

impl Format {
    pub(crate) fn parse(text: &str) -> Result<Format> {
        match text {
            "simple" => Ok(Format::Simple),
            "json" => Ok(Format::Json),
            "fields" => Ok(Format::Fields),
            "table" => Ok(Format::Table),
            "protobuf" => Ok(Format::Protobuf),
            _ => Err(Failure::new(Exit::BadFeature, "unsupported output format")),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Simple => "simple",
            Format::Json => "json",
            Format::Fields => "fields",
            Format::Table => "table",
            Format::Protobuf => "protobuf",
        }
    }
}

/// How to show an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    /// Keys and values as escaped bytes; ids in hexadecimal.
    pub(crate) hex: bool,
}

impl Printer {
    /// Fails if the chosen format is `unsupported` by the command: before it does anything, so that no
    /// write takes effect and then fails to be shown.
    pub(crate) fn refuse(&self, unsupported: Format) -> Result<()> {
        if self.format == unsupported {
            let message = format!("{} not supported as output format", self.format.name());
            return Err(Failure::new(Exit::BadFeature, message));
        }
        Ok(())
    }

    /// A key or value as `simple` shows it.
    fn text(&self, bytes: &[u8]) -> Vec<u8> {
        if !self.hex {
            return bytes.to_vec();
        }
        bytes.iter().flat_map(|b| format!("\\x{b:02x}").into_bytes()).collect()
    }
}

/// The wire form, as `protobuf` shows it.
fn wire(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

fn line(text: impl std::fmt::Display) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

/// Writes to standard output at once. A reader that went away ends the command quietly.
pub(crate) fn show(bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::silent(Exit::Error)),
        result => Ok(result?),
    }
}
