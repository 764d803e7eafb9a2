//! Election: named elections, won by a lease.

use std::pin::Pin;

use futures::Stream;
use stentor_proto::v3electionpb::election_server::Election;
use stentor_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse, ResignRequest,
    ResignResponse,
};
use tonic::{Request, Response, Status};

use super::status::not_built;

/// The service Election.
#[derive(Clone, Copy, Debug, Default)]
pub struct ElectionService;

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(&self, _: Request<CampaignRequest>) -> Result<Response<CampaignResponse>, Status> {
        Err(not_built("Election.Campaign"))
    }

    async fn proclaim(&self, _: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        Err(not_built("Election.Proclaim"))
    }

    async fn leader(&self, _: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        Err(not_built("Election.Leader"))
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

    async fn observe(&self, _: Request<LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        Err(not_built("Election.Observe"))
    }

    async fn resign(&self, _: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        Err(not_built("Election.Resign"))
    }
}
