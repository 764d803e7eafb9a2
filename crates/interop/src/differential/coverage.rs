//! What a run has reached, and what it must.

use std::collections::BTreeMap;
use std::fmt;

use stentor_proto::EtcdError;

use super::answer::Answer;
use super::request::Request;

/// Requests from which on a run must have reached everything.
pub const ENOUGH: u64 = 3000;

/// How often each thing was reached.
#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    /// Counts one more.
    pub(crate) fn add(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    /// Counts a request and the reference's answer.
    pub(crate) fn count(&mut self, request: &Request, answer: &Answer) {
        self.add(format!("request {}", request.kind()));
        match answer {
            Answer::Failed { text, .. } if text.starts_with("grpc: received message larger") => {
                self.add("error grpc: received message larger");
            }
            Answer::Failed { text, .. } => self.add(format!("error {text}")),
            Answer::Range(range) | Answer::RangeStream(range) if range.more => self.add("range more"),
            Answer::Txn(txn) => self.add(if txn.succeeded { "txn succeeded" } else { "txn failed" }),
            Answer::TimeToLive(lease) if !lease.keys.is_empty() => self.add("lease with keys"),
            Answer::TimeToLive(lease) if lease.ttl == -1 => self.add("lease missing"),
            Answer::KeepAlive(lease) => self.add(if lease.ttl > 0 { "lease renewed" } else { "lease not renewed" }),
            Answer::Watch(answers) => {
                for answer in answers {
                    self.add(match (answer.created, answer.canceled, answer.compact_revision > 0) {
                        (true, false, _) => "watch created".into(),
                        (true, true, _) => format!("watch refused {}", answer.cancel_reason),
                        (_, _, true) => "watch compacted".into(),
                        _ => "watch canceled".to_owned(),
                    });
                }
            }
            _ => {}
        }
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Coverage) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_default() += count;
        }
    }

    /// How many requests were made.
    pub fn requests(&self) -> u64 {
        self.0.iter().filter(|(what, _)| what.starts_with("request ")).map(|(_, count)| count).sum()
    }

    /// What a run must reach and has not.
    pub fn missing(&self) -> Vec<String> {
        let left_out = |what: &String| self.0.contains_key(OLD_ETCD) && not_sent_to_old().contains(what);
        required().into_iter().filter(|what| !self.0.contains_key(what) && !left_out(what)).collect()
    }
}

/// Counted once by a run against an etcd that is not sent everything.
pub(crate) const OLD_ETCD: &str = "run against an etcd before 3.7";

/// What an etcd before 3.7 does not refuse, but does not bear either.
fn not_sent_to_old() -> [String; 2] {
    [format!("error {}", EtcdError::InvalidSortOption), format!("watch refused {}", EtcdError::Compacted)]
}

fn required() -> Vec<String> {
    const REACHED: &[&str] = &[
        "request Range",
        "request RangeStream",
        "request Put",
        "request DeleteRange",
        "request Txn",
        "request Compact",
        "request LeaseGrant",
        "request LeaseRevoke",
        "request LeaseTimeToLive",
        "request LeaseLeases",
        "request LeaseKeepAlive",
        "request HashKV",
        "request expiry",
        "request Watch create",
        "request Watch cancel",
        "request Watch progress",
        "request Watch nothing",
        "error grpc: received message larger",
        "range more",
        "txn succeeded",
        "txn failed",
        "lease with keys",
        "lease missing",
        "lease renewed",
        "lease not renewed",
        "watch created",
        "watch canceled",
        "watch compacted",
        "watch refused mvcc: watcher range is empty",
        "watch refused mvcc: duplicate watch ID provided on the WatchStream",
        "watch note",
        "event put",
        "event delete",
        "event with prev_kv",
        "event replayed",
        "event replayed at the compacted revision",
        "event of a key changed twice in a revision",
        "watcher with filters",
        "watcher in the future",
    ];
    let errors = [
        EtcdError::EmptyKey,
        EtcdError::KeyNotFound,
        EtcdError::ValueProvided,
        EtcdError::LeaseProvided,
        EtcdError::TooManyOps,
        EtcdError::DuplicateKey,
        EtcdError::InvalidSortOption,
        EtcdError::Compacted,
        EtcdError::FutureRev,
        EtcdError::LeaseNotFound,
        EtcdError::LeaseExist,
        EtcdError::LeaseTTLTooLarge,
        EtcdError::RequestTooLarge,
    ];
    let errors = errors.iter().map(|error| format!("error {error}"));
    let refused = format!("watch refused {}", EtcdError::Compacted);
    REACHED.iter().map(ToString::to_string).chain(errors).chain([refused]).collect()
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.0 {
            writeln!(f, "{count:>8}  {what}")?;
        }
        Ok(())
    }
}
