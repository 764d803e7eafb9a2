//! Locks and elections.

mod election;
mod examples;
mod lock;

use std::time::Duration;

use stentor_client::{Client, KeyRange};
use tokio::time::Instant;

use crate::harness::{Rig, until};

/// By a client of its own, on a wire that stays whole.
async fn keys(rig: &Rig, prefix: &str) -> Vec<String> {
    let list = rig.other_wire().client().list(KeyRange::prefix(prefix.to_owned())).keys_only().await.unwrap();
    list.into_iter().filter_map(|pair| pair.key_str().map(str::to_owned)).collect()
}

/// Waits until so many keys are in the queue.
async fn queued(rig: &Rig, prefix: &str, count: usize) {
    let client = rig.other_wire().client();
    let due = Instant::now() + Duration::from_secs(60);
    while client.list(KeyRange::prefix(prefix.to_owned())).await.unwrap().pairs().len() != count {
        assert!(Instant::now() < due, "not {count} keys under {prefix}");
        // A pause, since a paused clock moves on only when nothing is left to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The member has done what a client asks for meanwhile, and its answer is lost.
async fn lose_answer(rig: &Rig, before: i64) {
    until(|| rig.revision() > before).await;
    rig.wire.cut();
    rig.wire.set_deaf(false);
}

fn clients<const N: usize>(rig: &Rig) -> [Client; N] {
    std::array::from_fn(|_| rig.other_wire().client())
}
