//! Errors of the core as gRPC statuses.

use std::io::ErrorKind;

use stentor_mvcc::Error;
use stentor_mvcc::engine::EngineError;
use stentor_proto::EtcdError;
use stentor_raft::ReplicaError;
use stentor_raft::log::LogError;
use tonic::Status;
use tracing::error;

use crate::environment::Stopping;
use crate::replication::{Halt, ProposeError};

/// The status for a failed proposal or read barrier.
pub(crate) fn of_propose(error: ProposeError) -> Status {
    match error {
        ProposeError::Etcd(error) => error.into(),
        ProposeError::Halted(Halt::Store(error)) => of_store(error),
        ProposeError::Halted(Halt::Log(error)) => of_log(&error),
        ProposeError::Halted(Halt::Entry(error)) => Status::data_loss(error.to_string()),
    }
}

/// The status for an error of the store.
pub(crate) fn of_store(error: Error) -> Status {
    match error {
        Error::Refused(error) => error.into(),
        Error::Engine(EngineError::Full { .. }) => Status::resource_exhausted(error.to_string()),
        Error::Engine(EngineError::Corrupt { .. }) | Error::Record { .. } | Error::Inconsistent { .. } => {
            error!(%error, "the data can't be read");
            Status::data_loss(error.to_string())
        }
        // A retry here brings the same; the operator has to act.
        error => Status::internal(error.to_string()),
    }
}

/// The status for a log that can't go on.
fn of_log(error: &ReplicaError) -> Status {
    match error {
        ReplicaError::Log(LogError::Full(_)) => Status::resource_exhausted(error.to_string()),
        ReplicaError::Log(LogError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull => {
            Status::resource_exhausted(error.to_string())
        }
        ReplicaError::Log(LogError::Corrupt { .. }) | ReplicaError::Apart { .. } => {
            Status::data_loss(error.to_string())
        }
        // A retry here brings the same; the operator has to act.
        error => Status::internal(error.to_string()),
    }
}

/// The status for a call that was cut off by the server's end.
pub(super) fn of_stopping(_: Stopping) -> Status {
    EtcdError::Stopped.into()
}

/// The status for an operation that is not built yet.
pub(super) fn not_built(what: &str) -> Status {
    Status::unimplemented(format!("stentor: {what} is not built yet"))
}
