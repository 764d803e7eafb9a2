//! `log dump`: what a member's log holds, for programs that check what was really persisted.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions, Value};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use serde::{Serialize, Serializer};
use stentor_proto::FILE_DESCRIPTORS;
use stentor_proto::log_entry::{LogEntryError, split};
use stentor_raft::log::{Entry, LogError, ReadError, Reading, SystemDisk};
use stentor_raft::{Change, Payload, ReplicaError};

use crate::failure::{Exit, Failure, Result, io_text};

/// Look into the log of a member that is not running
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stentorctl log dump --data-dir default.stentor
  stentorctl log dump --data-dir default.stentor --wal-dir /fast/log | jq -r 'select(.type == \"put\") | .request.key'")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print every entry of the log as a line of JSON, in order; nothing is changed
    Dump(Dump),
}

#[derive(Debug, clap::Args)]
struct Dump {
    /// The member's data directory
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Where its log is, if the member was given a --wal-dir
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
}

/// Where a server keeps its log, in the data directory.
const LOG: &str = "log";
/// How the directories of its stores begin.
const STORE: &str = "store";
/// A file in a store that is locked while the store is open.
const LOCK: &str = "LOCK";
/// Entries are read in pieces of so many bytes.
const READ_BYTES: u64 = 4 << 20;
/// The message that an entry is.
const LOG_ENTRY: &str = "stentor.storage.v1.LogEntry";

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let Command::Dump(dump) = self.command;
        dump.run()
    }
}

impl Dump {
    fn run(self) -> Result<()> {
        let _locked = lock(&self.data_dir)?;
        let path = self.wal_dir.unwrap_or_else(|| self.data_dir.join(LOG));
        let failed = |error: DumpError| Failure::new(Exit::Error, format!("cannot dump {}: {error}", path.display()));
        if !path.is_dir() {
            return Err(failed(DumpError::NoLog));
        }
        let reading = Reading::of(Arc::new(SystemDisk::read_only(&path)));
        let reading = reading.map_err(|error| failed(error.into()))?.ok_or_else(|| failed(DumpError::NoLog))?;
        let mut out = BufWriter::new(std::io::stdout().lock());
        match dump(&reading, &mut out).and_then(|()| Ok(out.flush()?)) {
            Err(DumpError::Out(error)) if error.kind() == ErrorKind::BrokenPipe => {
                return Err(Failure::silent(Exit::Error));
            }
            result => result.map_err(failed)?,
        }
        eprintln!("{}", summary(&reading));
        Ok(())
    }
}

/// Why a log can't be dumped.
#[derive(Debug, thiserror::Error)]
enum DumpError {
    /// There is none.
    #[error("there is no log; if the server was given a --wal-dir, give it here too")]
    NoLog,
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] LogError),
    /// It can't be read to the end.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It holds a change of the membership that can't be read.
    #[error(transparent)]
    Change(#[from] ReplicaError),
    /// It holds something else that can't be read.
    #[error("entry {index}: {cause}")]
    Entry {
        /// Which one.
        index: u64,
        /// What is wrong with it.
        cause: LogEntryError,
    },
    /// Nobody takes what is printed.
    #[error("cannot write: {0}")]
    Out(#[from] std::io::Error),
}

/// Keeps a server from opening the directory as long as the files are held; refuses one that is open.
fn lock(data_dir: &Path) -> Result<Vec<File>> {
    let failed = |error: &std::io::Error| {
        Failure::new(Exit::Error, format!("cannot read {}: {}", data_dir.display(), io_text(error)))
    };
    let mut held = Vec::new();
    for entry in fs::read_dir(data_dir).map_err(|error| failed(&error))? {
        let entry = entry.map_err(|error| failed(&error))?;
        if !entry.file_name().to_string_lossy().starts_with(STORE) {
            continue;
        }
        let file = match File::open(entry.path().join(LOCK)) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            file => file.map_err(|error| failed(&error))?,
        };
        match fcntl_lock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => held.push(file),
            Err(Errno::AGAIN | Errno::ACCESS) => {
                let path = data_dir.display();
                let text = format!("{path} is in use by a running server: stop it, or dump a copy of its directories");
                return Err(Failure::new(Exit::Error, text));
            }
            Err(errno) => return Err(failed(&errno.into())),
        }
    }
    if held.is_empty() {
        let text = format!("{} is no data directory of a server", data_dir.display());
        return Err(Failure::new(Exit::Error, text));
    }
    Ok(held)
}

fn dump(reading: &Reading, out: &mut impl Write) -> std::result::Result<(), DumpError> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTORS);
    let message = pool.ok().and_then(|pool| pool.get_message_by_name(LOG_ENTRY));
    let message = message.ok_or_else(|| std::io::Error::other("this program lacks the description of an entry"))?;
    let end = reading.last().index + 1;
    let mut next = reading.start().index + 1;
    while next < end {
        for entry in reading.entries(next, end, READ_BYTES)? {
            next = entry.position.index + 1;
            let line = line(entry, reading.hard_state().commit, &message)?;
            serde_json::to_writer(&mut *out, &line).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// What there was, for standard error.
fn summary(reading: &Reading) -> String {
    let (first, last) = (reading.start().index + 1, reading.last().index);
    let mut text = match last < first {
        true => format!("no entries; the log goes on at {first}"),
        false => format!("entries {first} to {last}"),
    };
    text += &format!("; known here to be committed: up to {}", reading.hard_state().commit);
    if let Some((file, offset)) = reading.torn() {
        text += &format!("; the log ends with an append that was not completed: {file}, byte {offset}");
    }
    text
}

/// An entry, as it is printed.
#[derive(Serialize)]
struct Line {
    index: u64,
    term: u64,
    /// Whether this log says that a majority has it. The newest may be committed though it does not say so yet.
    committed: bool,
    #[serde(rename = "type")]
    kind: String,
    /// It was applied without any effect.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_effect: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    proposal: Option<Proposal>,
    /// What it does to the members that take part in Raft.
    #[serde(skip_serializing_if = "Option::is_none")]
    raft_change: Option<RaftChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Request>,
}

/// Where it comes from.
#[derive(Serialize)]
struct Proposal {
    /// The member that was asked for it.
    proposed_by: String,
    /// Which of that member's proposals it is.
    proposal: String,
    /// That member's clock then.
    time_unix_ms: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum RaftChange {
    AddVoter(String),
    AddLearner(String),
    Remove(String),
}

/// A request, as etcd's gateway writes it: names as in the protocol, bytes in base64, 64 bits as text.
struct Request(DynamicMessage);

impl Serialize for Request {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let options = SerializeOptions::new().use_proto_field_name(true);
        self.0.serialize_with_options(serializer, &options)
    }
}

fn line(entry: Entry, commit: u64, message: &MessageDescriptor) -> std::result::Result<Line, DumpError> {
    let position = entry.position;
    let (change, data) = match Payload::of(entry)? {
        Payload::Nothing => (None, None),
        Payload::Entry(data) => (None, Some(data)),
        Payload::Change(change, beside) => (Some(change), Some(beside).filter(|beside| !beside.is_empty())),
    };
    let mut line = Line {
        index: position.index,
        term: position.term,
        committed: position.index <= commit,
        kind: "empty".to_owned(),
        no_effect: false,
        proposal: None,
        raft_change: change.map(raft_change),
        request: None,
    };
    let Some(data) = data else { return Ok(line) };
    let malformed = |cause| DumpError::Entry { index: position.index, cause };
    let (id, rest) = split(data).map_err(malformed)?;
    let decoded = DynamicMessage::decode(message.clone(), rest)
        .map_err(|error| malformed(LogEntryError::Malformed(error.to_string())))?;
    let number = |name| decoded.get_field_by_name(name).and_then(|value| value.as_u64()).unwrap_or_default();
    line.proposal = Some(Proposal {
        proposed_by: format!("{:x}", id.member_id),
        proposal: id.number.to_string(),
        time_unix_ms: number("time_unix_ms"),
        user: decoded.get_field_by_name("user").and_then(|user| Some(user.as_str()?.to_owned())).unwrap_or_default(),
    });
    let only_in_term = number("only_in_term");
    line.no_effect = only_in_term != 0 && only_in_term != position.term;
    let request = decoded.fields().find(|(field, _)| field.containing_oneof().is_some());
    if let Some((field, Value::Message(request))) = request {
        line.kind = field.name().to_owned();
        line.request = Some(Request(request.clone()));
    }
    Ok(line)
}

fn raft_change(change: Change) -> RaftChange {
    let id = format!("{:x}", change.id());
    match change {
        Change::AddVoter(_) => RaftChange::AddVoter(id),
        Change::AddLearner(_) => RaftChange::AddLearner(id),
        Change::Remove(_) => RaftChange::Remove(id),
    }
}

#[cfg(test)]
mod tests;
