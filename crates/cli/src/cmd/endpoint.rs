use std::time::{Duration, Instant};

use futures::future::join_all;
use stentor_client::raw::{Client, Error};
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::{HashKvRequest, RangeRequest, StatusResponse};

use super::{alarm, all_endpoints, connect_one};
use crate::args::int;
use crate::failure::{Exit, Failure, Result, text};
use crate::print::{Format, Health, PerEndpoint, alarm_name, show};
use crate::session::Session;

/// Ask endpoints one by one how they are
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// All endpoints of the cluster's members
    #[arg(long, global = true)]
    cluster: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show version, size, leader and raft positions
    #[command(after_help = "Example:\n  stentorctl endpoint status --cluster -w table")]
    Status {
        #[arg(hide = true)]
        ignored: Vec<String>,
    },
    /// Check that they serve reads
    #[command(after_help = "Example:\n  stentorctl endpoint health --cluster")]
    Health {
        #[arg(hide = true)]
        ignored: Vec<String>,
    },
    /// Show a hash of the keys, equal on members with equal history
    #[command(after_help = "Example:\n  stentorctl endpoint hashkv --cluster --rev 1200")]
    Hashkv {
        #[arg(hide = true)]
        ignored: Vec<String>,
        /// Hash up to this revision; 0 for the current one
        #[arg(long, value_parser = int, default_value = "0")]
        rev: i64,
    },
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        session.printer.refuse(Format::Protobuf)?;
        let endpoints = all_endpoints(session, self.cluster).await?;
        match self.command {
            Command::Status { .. } => status(&endpoints, session).await,
            Command::Health { .. } => health(&endpoints, session).await,
            Command::Hashkv { rev, .. } => hashkv(&endpoints, rev, session).await,
        }
    }
}

async fn status(endpoints: &[String], session: &Session) -> Result<()> {
    let ask = |endpoint: String| async move {
        let answer = async { connect_one(session, &endpoint).await?.maintenance().status().await }.await;
        PerEndpoint { endpoint, answer }
    };
    let mut answers: Vec<PerEndpoint<StatusResponse>> = Vec::new();
    let mut failed = false;
    for PerEndpoint { endpoint, answer } in join_all(endpoints.iter().cloned().map(ask)).await {
        match answer {
            Ok(answer) => answers.push(PerEndpoint { endpoint, answer }),
            Err(error) => {
                failed = true;
                eprintln!("Failed to get the status of endpoint {endpoint} ({})", text(&error));
            }
        }
    }
    show(session.printer.status(&answers))?;
    if failed { Err(Failure::silent(Exit::Error)) } else { Ok(()) }
}

async fn hashkv(endpoints: &[String], revision: i64, session: &Session) -> Result<()> {
    let mut answers = Vec::new();
    let mut failure = None;
    for endpoint in endpoints {
        let request = HashKvRequest { revision };
        let answer = async { connect_one(session, endpoint).await?.maintenance().hash_kv(request).await }.await;
        match answer {
            Ok(answer) => answers.push(PerEndpoint { endpoint: endpoint.clone(), answer }),
            Err(error) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({})", text(&error));
                failure = Some(error);
            }
        }
    }
    if failure.is_none() || !answers.is_empty() {
        show(session.printer.hashes(&answers))?;
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

async fn health(endpoints: &[String], session: &Session) -> Result<()> {
    let all = join_all(endpoints.iter().map(|e| check(e, session))).await;
    show(session.printer.health(&all))?;
    if session.printer.format == Format::Simple {
        for h in &all {
            if let Some(error) = &h.error {
                eprintln!("{} is unhealthy: failed to commit proposal: {error}", h.endpoint);
            }
        }
    }
    if all.iter().any(|h| h.error.is_some()) {
        return Err(Failure::new(Exit::Error, "unhealthy cluster"));
    }
    Ok(())
}

/// Healthy is who answers a linearizable read and has no alarm.
async fn check(endpoint: &str, session: &Session) -> Health {
    let start = Instant::now();
    let (took, error) = match connect_one(session, endpoint).await {
        Err(error) => (start.elapsed(), Some(text(&error))),
        Ok(client) => probe(&client).await,
    };
    Health { endpoint: endpoint.to_owned(), took, error }
}

async fn probe(client: &Client) -> (Duration, Option<String>) {
    let start = Instant::now();
    let read = client.kv().range(RangeRequest { key: "health".into(), ..Default::default() }).await;
    let took = start.elapsed();
    match read {
        // Whoever says no is there.
        Ok(_) | Err(Error::Etcd(EtcdError::PermissionDenied)) => {}
        Err(error) => return (took, Some(text(&error))),
    }
    let error = match alarm::list(client).await {
        Ok(answer) if answer.alarms.is_empty() => None,
        Ok(answer) => {
            let names: String = answer.alarms.iter().map(|a| alarm_name(a) + " ").collect();
            Some(format!("Active Alarm(s): {names}"))
        }
        Err(error) => Some(format!("Unable to fetch the alarm list: {}", text(&error))),
    };
    (took, error)
}
