//! Ends of a server alone, under the load of the crash test.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use stentor_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, MemberAddRequest, MemberListRequest, MemberRemoveRequest, RangeRequest,
};
use tonic::{Code, Status};

use super::control::Control;
use super::{Options, REACH, Work, check_end, work_for};
use crate::client::Client;
use crate::crash::journal::Journal;
use crate::crash::{Report, after, load, store};
use crate::process::Server;

/// So many revisions are made before a point is set.
const ACKNOWLEDGED: i64 = 50;
/// A learner that never comes.
const NOBODY: &str = "http://127.0.0.1:1";
/// So old is what is compacted, in revisions.
const KEPT: i64 = 20;

/// Ends it at each point that a server alone reaches; returns the others.
pub(super) async fn run(options: &Options, report: &mut Report) -> Result<Vec<String>> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut server = Server::start(&options.server, &[])?;
    let control = Control::of(&mut server)?;
    server.restart()?;
    let points = control.names().context("is it built with failpoints?")?;
    ensure!(!points.is_empty(), "it has no failpoints");
    report.add("failpoints", points.len());
    let mut journal = Journal::default();
    load::fill(&mut Client::connect(&server.endpoint()).await?, &mut journal).await?;
    let (alone, rest): (Vec<_>, Vec<_>) =
        points.into_iter().partition(|point| !matches!(work_for(point), Work::Follow | Work::Lag));
    for (round, point) in (0..).zip(&alone) {
        one(&mut server, &control, &mut journal, report, (round, rng.random(), point))
            .await
            .with_context(|| format!("seed {}, {point}", options.seed))?;
        report.add("ends at a failpoint", 1);
    }
    Ok(rest)
}

async fn one(
    server: &mut Server,
    control: &Control,
    journal: &mut Journal,
    report: &mut Report,
    (round, seed, point): (u64, u64, &str),
) -> Result<()> {
    let mut client = Client::connect(&server.endpoint()).await?;
    let before = store::revision(&mut client).await?;
    let load = load::start(&server.endpoint(), round, seed).await?;
    // Some of it is acknowledged before the end.
    while store::revision(&mut client).await? < before + ACKNOWLEDGED {}
    control.set(point, "panic")?;
    let work = tokio::spawn(until_it_ends(client, work_for(point)));
    let (status, log) = server.ended(REACH).await?;
    check_end(point, status, &log)?;
    let compacted = work.await?;
    after(server, journal, report, load.finish().await?, compacted).await?;
    forget_learners(&mut Client::connect(&server.endpoint()).await?).await
}

/// Works until the server has gone; the highest revision that it said is compacted.
async fn until_it_ends(mut client: Client, work: Work) -> i64 {
    let mut compacted = 0;
    loop {
        let done = match work {
            Work::Compact => compact(&mut client, &mut compacted).await,
            Work::Defragment => client.maintenance.defragment(DefragmentRequest {}).await.map(drop),
            Work::Stream => stream(&mut client).await,
            Work::Members => change_members(&mut client).await,
            // The load does it.
            Work::Writes | Work::Follow | Work::Lag => return 0,
        };
        if let Err(status) = done
            && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
        {
            return compacted;
        }
    }
}

async fn compact(client: &mut Client, compacted: &mut i64) -> Result<(), Status> {
    let revision = store::revision(client).await? - KEPT;
    if revision <= *compacted {
        // The writers go on.
        return Ok(());
    }
    match client.kv.compact(CompactionRequest { revision, physical: true }).await {
        Ok(_) => *compacted = revision,
        // Others have compacted further.
        Err(status) if status.code() == Code::OutOfRange => {}
        Err(status) => return Err(status),
    }
    Ok(())
}

async fn stream(client: &mut Client) -> Result<(), Status> {
    let everything = Bytes::from_static(b"\0");
    let range = RangeRequest { key: everything.clone(), range_end: everything, ..RangeRequest::default() };
    let mut chunks = client.kv.range_stream(range).await?.into_inner();
    while chunks.message().await?.is_some() {}
    Ok(())
}

async fn change_members(client: &mut Client) -> Result<(), Status> {
    let add = MemberAddRequest { peer_ur_ls: vec![NOBODY.to_owned()], is_learner: true };
    let added = client.cluster.member_add(add).await?.into_inner();
    let id = added.member.map_or(0, |member| member.id);
    client.cluster.member_remove(MemberRemoveRequest { id }).await.map(drop)
}

/// A learner whose addition was not acknowledged may be there.
async fn forget_learners(client: &mut Client) -> Result<()> {
    let members = client.cluster.member_list(MemberListRequest::default()).await?.into_inner().members;
    for member in members.into_iter().filter(|member| member.is_learner) {
        client.cluster.member_remove(MemberRemoveRequest { id: member.id }).await?;
    }
    Ok(())
}
