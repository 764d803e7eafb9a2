//! A member that starts compares itself with the others, before it serves anybody.

use stentor_proto::Revision;
use tracing::{info, warn};

use super::compare::{Kind, kind_of};
use super::{ask_others, held, others};
use crate::node::Node;

/// Why a member does not serve what it has.
#[derive(Debug, thiserror::Error)]
pub enum InitialCheckError {
    /// Others have something else.
    #[error(
        "found data inconsistency with peers: up to revision {} this member's history is not that of {}; if it is \
         this member that is corrupt, remove it from its cluster and add it anew with an empty directory",
        .at.get(), .members.join(", ")
    )]
    Differs {
        /// Up to here they were compared.
        at: Revision,
        /// Who differs, in hexadecimal.
        members: Vec<String>,
    },
    /// What is here can't be read.
    #[error("this member's history can't be compared with that of others: {0}")]
    Store(#[from] stentor_mvcc::Error),
}

/// Compares what this member has with what those have that answer.
///
/// # Errors
/// [`InitialCheckError`]. That others are not there, have compacted more or are behind is none.
pub(crate) async fn check(node: &Node) -> Result<(), InitialCheckError> {
    // One that has joined and got nothing yet has nothing to compare.
    if others(node).is_empty() || node.store.view().applied().index == 0 {
        return Ok(());
    }
    info!("starting initial corruption check");
    let own = held(node, None).await?;
    let mut differ = Vec::new();
    let mut compared = 0;
    for (id, answer) in ask_others(node, &own).await {
        let member = format!("{id:x}");
        match kind_of(&own, &answer) {
            Ok(kind) if Some(kind) == own.hash.map(Kind::Hash) => compared += 1,
            Ok(_) => differ.push(member),
            Err(why) => warn!(member, %why, "a member's hash is not compared"),
        }
    }
    if !differ.is_empty() {
        return Err(InitialCheckError::Differs { at: own.at, members: differ });
    }
    info!(compared, revision = own.at.get(), "initial corruption checking passed; no corruption");
    Ok(())
}
