//! A member served on a free port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_proto::etcdserverpb::PutRequest;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_server::config::{self, Command};
use stentor_server::environment::{Environment, Workers};
use stentor_server::member::Member;
use stentor_server::metrics::Metrics;
use stentor_server::net::{Listener as _, Server, TcpAcceptor};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// For what should take milliseconds, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Serving {
    pub(crate) metrics: Metrics,
    address: SocketAddr,
    member: Member,
    server: Server,
}

impl Serving {
    /// With further flags of the command line.
    pub(crate) async fn start(flags: &[&str]) -> Serving {
        let Command::Run { config, .. } = config::load(flags.iter().map(Into::into), []).unwrap() else {
            panic!("{flags:?} are no flags to run with");
        };
        let metrics = Metrics::new(config.metrics);
        let stop = CancellationToken::new();
        let engine = Arc::new(MemoryEngine::open(&Disk::new()).unwrap());
        let environment = Environment { workers: Workers::Tasks, ..Environment::system() };
        let member = Member::start(engine, &config, environment, metrics.clone(), &stop).unwrap();
        let server = Server::new(&config, metrics.clone(), stop);
        let listener = TcpAcceptor::bind_to((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr();
        server.serve(listener, member.app());
        member.set_serving(true).await;
        Serving { metrics, address, member, server }
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// Puts a pair; its revision.
    pub(crate) async fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> i64 {
        let put = PutRequest { key: key.to_owned().into(), value: value.into().into(), ..PutRequest::default() };
        let answer = KvClient::new(self.connect().await).put(put).await.unwrap();
        answer.into_inner().header.unwrap().revision
    }

    pub(crate) async fn stop(self) {
        self.server.shutdown(PATIENCE).await;
        self.member.ended().await;
    }
}
