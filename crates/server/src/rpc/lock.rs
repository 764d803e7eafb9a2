//! Lock: named locks held by a lease.

use stentor_proto::v3lockpb::lock_server::Lock;
use stentor_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status};

use super::status::not_built;

/// The service Lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct LockService;

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, _: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        Err(not_built("Lock.Lock"))
    }

    async fn unlock(&self, _: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        Err(not_built("Lock.Unlock"))
    }
}
