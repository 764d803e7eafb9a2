//! Errors of the core as gRPC statuses.

use stentor_mvcc::Error;
use stentor_mvcc::engine::EngineError;
use stentor_proto::EtcdError;
use tonic::Status;
use tracing::error;

use crate::apply::ProposeError;
use crate::environment::Stopping;

/// The status for a failed proposal or read barrier.
pub(super) fn of_propose(error: ProposeError) -> Status {
    match error {
        ProposeError::Etcd(error) => error.into(),
        ProposeError::Store(error) => of_store(error),
    }
}

/// The status for an error of the store.
pub(super) fn of_store(error: Error) -> Status {
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

/// The status for a call that was cut off by the server's end.
pub(super) fn of_stopping(_: Stopping) -> Status {
    EtcdError::Stopped.into()
}

/// The status for an operation that is not built yet.
pub(super) fn not_built(what: &str) -> Status {
    Status::unimplemented(format!("stentor: {what} is not built yet"))
}
