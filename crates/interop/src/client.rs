//! One connection to a server, with a client for each service on it.

use std::time::Duration;

use anyhow::{Context, Result};
use stentor_proto::etcdserverpb::cluster_client::ClusterClient;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::lease_client::LeaseClient;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::watch_client::WatchClient;
use tonic::transport::{Channel, Endpoint};

/// The clients of one connection.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Client {
    pub kv: KvClient<Channel>,
    pub watch: WatchClient<Channel>,
    pub lease: LeaseClient<Channel>,
    pub maintenance: MaintenanceClient<Channel>,
    pub cluster: ClusterClient<Channel>,
}

impl Client {
    /// Connects to `http://HOST:PORT`. Messages may have any size.
    ///
    /// # Errors
    /// When the address is not one or nobody answers within a minute.
    pub async fn connect(endpoint: &str) -> Result<Client> {
        let address = Endpoint::from_shared(endpoint.to_owned()).context("not an address")?;
        let channel = address.connect_timeout(Duration::from_secs(60)).connect().await;
        Ok(Client::on(channel.with_context(|| format!("cannot connect to {endpoint}"))?))
    }

    /// Connects when it is first used, and again after the server has gone.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn lazy(endpoint: &str) -> Result<Client> {
        let address = Endpoint::from_shared(endpoint.to_owned()).context("not an address")?;
        Ok(Client::on(address.connect_timeout(Duration::from_secs(1)).connect_lazy()))
    }

    fn on(channel: Channel) -> Client {
        Client {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            cluster: ClusterClient::new(channel),
        }
    }
}
