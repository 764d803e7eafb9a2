//! From a host's name to a connection, by one of the addresses that the name has now.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long an address is waited for, at most, before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Looks up the addresses of `host:port`. Nothing is kept: each connection asks anew.
#[derive(Clone)]
pub(crate) struct Names(Arc<dyn Fn(String) -> Found + Send + Sync>);

impl Names {
    /// By the system's resolver.
    pub(crate) fn of_the_system() -> Names {
        Names::by(async |name: String| Ok(tokio::net::lookup_host(name).await?.collect()))
    }

    fn by<F, Fut>(look_up: F) -> Names
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Names(Arc::new(move |name| Box::pin(look_up(name))))
    }

    /// Connects to an address of the name. Try number `number` begins with another address than the one before:
    /// one that takes connections and then serves nothing is left for the next.
    ///
    /// Within `patience` all addresses are tried.
    pub(super) async fn connect(&self, name: &str, number: usize, patience: Duration) -> io::Result<TcpStream> {
        let mut addresses = (self.0)(name.to_owned()).await?;
        let count = addresses.len().max(1);
        addresses.rotate_left(number % count);
        // A name has few addresses: the count fits.
        let head_start = HEAD_START.min(patience / (count as u32 + 1));
        first_of(addresses, head_start, TcpStream::connect).await
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

/// The first connection that is made to one of the addresses. Each is tried when the one before has failed, or has
/// had its head start.
async fn first_of<S, Fut>(
    addresses: Vec<SocketAddr>,
    head_start: Duration,
    connect: impl Fn(SocketAddr) -> Fut,
) -> io::Result<S>
where
    S: Send + 'static,
    Fut: Future<Output = io::Result<S>> + Send + 'static,
{
    let several = addresses.len() > 1;
    let mut waiting = addresses.into_iter();
    let mut tries = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.next() {
            let trying = connect(address);
            tries.spawn(async move {
                trying.await.map_err(|error| match several {
                    true => io::Error::new(error.kind(), format!("{address}: {error}")),
                    false => error,
                })
            });
        }
        tokio::select! {
            biased;
            tried = tries.join_next() => match tried {
                Some(Ok(Ok(connection))) => return Ok(connection),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(lost)) => failure = io::Error::other(lost),
                None => return Err(failure),
            },
            () = tokio::time::sleep(head_start), if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;
    use crate::endpoint::dial::{Dial, DialOptions, Line, Opened};
    use crate::endpoint::{Endpoint, KeepAlive};
    use crate::fault::Fault;
    use crate::observe::Observer;

    fn address(last: u8) -> SocketAddr {
        ([127, 0, 0, last], 1).into()
    }

    fn refused() -> io::Error {
        io::ErrorKind::ConnectionRefused.into()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_tried_when_the_one_before_fails_or_takes_long() {
        let tried = Arc::new(Mutex::new(Vec::new()));
        let seen = tried.clone();
        let connect = move |to: SocketAddr| {
            seen.lock().unwrap().push(to);
            async move {
                match to {
                    to if to == address(1) => Err(refused()),
                    to if to == address(2) => std::future::pending().await,
                    to => Ok(to),
                }
            }
        };
        let begun = Instant::now();
        let all = (1..=4).map(address).collect();
        assert_eq!(first_of(all, HEAD_START, &connect).await.unwrap(), address(3));
        assert_eq!(begun.elapsed(), HEAD_START, "only the silent one was waited for");
        assert_eq!(*tried.lock().unwrap(), [1, 2, 3].map(address));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_longer_than_its_head_start_is_not_given_up() {
        let connect = |to| async move {
            let silent = to == address(2);
            tokio::time::sleep(HEAD_START * if silent { 1000 } else { 2 }).await;
            Ok(to)
        };
        assert_eq!(first_of(vec![address(1), address(2)], HEAD_START, connect).await.unwrap(), address(1));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_connection_the_last_failure_is_told() {
        let connect = |_| async { Err::<(), _>(refused()) };
        let told = async |addresses| first_of(addresses, HEAD_START, connect).await.unwrap_err().to_string();
        assert_eq!(told(vec![address(1)]).await, refused().to_string());
        assert_eq!(told(vec![address(1), address(2)]).await, format!("127.0.0.2:1: {}", refused()));
        assert!(told(vec![]).await.contains("no address"));
    }

    /// Speaks HTTP/2, and serves no call.
    struct Host {
        address: SocketAddr,
        /// One for each connection.
        came: mpsc::UnboundedReceiver<()>,
        accepting: JoinHandle<()>,
    }

    impl Host {
        async fn start() -> Host {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (tell, came) = mpsc::unbounded_channel();
            let accepting = tokio::spawn(async move {
                let mut served = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    tell.send(()).ok();
                    served.spawn(async move {
                        let mut connection = h2::server::handshake(stream).await?;
                        while let Some(call) = connection.accept().await {
                            drop(call?);
                        }
                        Ok::<_, h2::Error>(())
                    });
                }
            });
            Host { address, came, accepting }
        }

        async fn came(&mut self) {
            tokio::time::timeout(Duration::from_secs(60), self.came.recv()).await.expect("a connection").unwrap();
        }

        /// Ends its connections and takes no more.
        async fn stop(self) {
            self.accepting.abort();
            self.accepting.await.ok();
        }
    }

    /// A zone of one name, whose addresses the test sets.
    #[derive(Clone, Default)]
    struct Zone {
        addresses: Arc<Mutex<Vec<SocketAddr>>>,
        asked: Arc<Mutex<VecDeque<String>>>,
    }

    impl Zone {
        fn set(&self, hosts: &[&Host]) {
            *self.addresses.lock().unwrap() = hosts.iter().map(|host| host.address).collect();
        }

        fn options(&self) -> DialOptions {
            let zone = self.clone();
            let names = Names::by(move |name| {
                zone.asked.lock().unwrap().push_back(name);
                let found = zone.addresses.lock().unwrap().clone();
                async { Ok(found) }
            });
            DialOptions {
                dial: Dial::tcp(names),
                #[cfg(feature = "tls")]
                tls: None,
                connect_timeout: Duration::from_secs(60),
                keep_alive: None::<KeepAlive>,
                observer: Observer::default(),
            }
        }
    }

    async fn open(options: &DialOptions, line: &Arc<Line>) -> Result<Opened, Fault> {
        options.open(&Endpoint::parse("db.example:2379").unwrap(), line).await
    }

    #[tokio::test]
    async fn a_name_is_looked_up_for_each_connection() {
        let (zone, line) = (Zone::default(), Arc::default());
        let options = zone.options();
        let mut old = Host::start().await;
        zone.set(&[&old]);
        let opened = open(&options, &line).await.unwrap();
        old.came().await;
        assert_eq!(zone.asked.lock().unwrap().pop_front().unwrap(), "db.example:2379");

        // The member moves. A connection that is used again after a break finds it, and so does a new one.
        let mut new = Host::start().await;
        zone.set(&[&new]);
        old.stop().await;
        let mut stub = stentor_proto::etcdserverpb::kv_client::KvClient::new(opened.channel.clone());
        let found = async {
            while new.came.try_recv().is_err() {
                // The break is noticed by a call that fails.
                stub.compact(stentor_proto::etcdserverpb::CompactionRequest::default()).await.unwrap_err();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found).await.unwrap();
        open(&options, &line).await.unwrap();
        new.came().await;

        // It is away, and the name with it.
        zone.set(&[]);
        let error = open(&options, &line).await.unwrap_err();
        assert!(matches!(&error, Fault::Unreachable { reason, .. } if reason.contains("no address")), "{error}");
    }

    #[tokio::test]
    async fn the_next_connection_begins_with_the_next_address() {
        let (zone, line) = (Zone::default(), Arc::default());
        let options = zone.options();
        let (mut first, mut second, gone) = (Host::start().await, Host::start().await, Host::start().await);
        zone.set(&[&first, &second, &gone]);
        gone.stop().await;
        open(&options, &line).await.unwrap();
        first.came().await;
        open(&options, &line).await.unwrap();
        second.came().await;
        // The third refuses: the one after it is taken.
        open(&options, &line).await.unwrap();
        first.came().await;
        assert!(second.came.try_recv().is_err());
        // Connections for something else begin at the first, so that one client talks to one member.
        open(&options, &Arc::default()).await.unwrap();
        first.came().await;
    }
}
