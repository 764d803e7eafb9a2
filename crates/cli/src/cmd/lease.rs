use std::time::Duration;

use stentor_client::raw::Client;
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest};

use super::lease_id;
use crate::failure::{Exit, Failure, Result};
use crate::go;
use crate::print::{Format, show};
use crate::session::Session;

/// Leases: keys that live as long as somebody says so
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a lease
    #[command(after_help = "Example:\n  stentorctl lease grant 60")]
    Grant {
        /// Seconds that the lease lives without being renewed
        ttl: Vec<String>,
    },
    /// End a lease and delete its keys
    #[command(after_help = "Example:\n  stentorctl lease revoke 694d5765fc71500b")]
    Revoke {
        /// In hexadecimal
        id: Vec<String>,
    },
    /// Show what is left of a lease
    #[command(after_help = "Example:\n  stentorctl lease timetolive 694d5765fc71500b --keys")]
    Timetolive {
        /// In hexadecimal
        id: Vec<String>,
        /// Show the keys attached to it too
        #[arg(long)]
        keys: bool,
    },
    /// List all leases
    List {
        #[arg(hide = true)]
        ignored: Vec<String>,
    },
    /// Renew a lease, again and again until interrupted
    #[command(after_help = "Example:\n  stentorctl lease keep-alive --once 694d5765fc71500b")]
    KeepAlive {
        /// In hexadecimal
        id: Vec<String>,
        /// Renew it once only
        #[arg(long)]
        once: bool,
    },
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        session.printer.refuse(Format::Table)?;
        match self.command {
            Command::Grant { ttl } => grant(&ttl, session).await,
            Command::Revoke { id } => revoke(&id, session).await,
            Command::Timetolive { id, keys } => time_to_live(&id, keys, session).await,
            Command::List { .. } => list(session).await,
            Command::KeepAlive { id, once } => keep_alive(&id, once, session).await,
        }
    }
}

async fn grant(args: &[String], session: &Session) -> Result<()> {
    let [ttl] = args else { return Err(Failure::args("lease grant command needs TTL argument")) };
    let ttl = go::parse_int(ttl, 10).map_err(|cause| Failure::args(format!("bad TTL ({cause})")))?;
    let call = async {
        let client = session.connect().await?;
        Ok(client.lease().grant(LeaseGrantRequest { ttl, id: 0 }).await?)
    };
    let response = call.await.map_err(|f: Failure| f.within("failed to grant lease"))?;
    show(session.printer.grant(&response))
}

async fn revoke(args: &[String], session: &Session) -> Result<()> {
    let [id] = args else { return Err(Failure::args("lease revoke command needs 1 argument")) };
    let id = lease_id(id, "arg ")?;
    let call = async {
        let client = session.connect().await?;
        Ok(client.lease().revoke(LeaseRevokeRequest { id }).await?)
    };
    let response = call.await.map_err(|f: Failure| f.within("failed to revoke lease"))?;
    show(session.printer.revoke(id, &response))
}

async fn time_to_live(args: &[String], keys: bool, session: &Session) -> Result<()> {
    let [id] = args else { return Err(Failure::args("lease timetolive command needs lease ID as argument")) };
    let request = LeaseTimeToLiveRequest { id: lease_id(id, "arg ")?, keys };
    let response = session.connect().await?.lease().time_to_live(request).await?;
    show(session.printer.time_to_live(&response, keys))
}

async fn list(session: &Session) -> Result<()> {
    let response = session.connect().await?.lease().leases().await?;
    show(session.printer.leases(&response))
}

async fn keep_alive(args: &[String], once: bool, session: &Session) -> Result<()> {
    let [id] = args else { return Err(Failure::args("lease keep-alive command needs lease ID as argument")) };
    let id = lease_id(id, "arg ")?;
    let client = session.connect().await?;
    if once {
        // etcdctl's exit code for all that goes wrong here.
        let bad = |f: Failure| Failure { exit: Exit::BadConnection, ..f };
        let response = client.lease().keep_alive().renew(id).await.map_err(|e| bad(e.into()))?;
        if response.ttl <= 0 {
            return Err(Failure::new(Exit::BadConnection, EtcdError::LeaseNotFound));
        }
        return show(session.printer.keep_alive(&response));
    }
    renew_until_gone(&client, id, session).await
}

/// Renews every third of the TTL; a stream that breaks is opened again.
async fn renew_until_gone(client: &Client, id: i64, session: &Session) -> Result<()> {
    let mut stream = client.lease().keep_alive();
    loop {
        match stream.renew(id).await {
            Ok(response) if response.ttl <= 0 => {
                // etcdctl says this in its simple format alone.
                return match session.printer.format {
                    Format::Simple => show(format!("lease {id:016x} expired or revoked.\n")),
                    _ => Ok(()),
                };
            }
            Ok(response) => {
                show(session.printer.keep_alive(&response))?;
                let ttl = Duration::from_secs(response.ttl.unsigned_abs());
                tokio::time::sleep(ttl / 3).await;
            }
            Err(error) if error.is_retryable() => {
                eprintln!("{error}; trying again");
                tokio::time::sleep(Duration::from_millis(500)).await;
                stream = client.lease().keep_alive();
            }
            Err(error) => return Err(error.into()),
        }
    }
}
