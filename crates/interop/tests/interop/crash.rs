//! kill -9 under load: 10 rounds, or `STENTOR_CRASH_ROUNDS`; the seed is fixed, or `STENTOR_SEED`.
//!
//! A third of the rounds kill during a compaction (etcd issue 17780) and a third during a
//! defragmentation (14685); all look for lost writes (14370) and for an index and data that disagree
//! (13766).

use anyhow::Result;
use stentor_interop::crash::{Options, run};
use stentor_interop::peers::{SERVER, number, required};

/// etcd 13766, 14370, 14685 and 17780.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() -> Result<()> {
    let Some(server) = required(SERVER, "kill -9 under load") else { return Ok(()) };
    let rounds = number("STENTOR_CRASH_ROUNDS", 10);
    let report = run(&Options { server, rounds, seed: number("STENTOR_SEED", 1) }).await?;
    assert_eq!(report.count("rounds"), rounds);
    let mut reached = vec!["acknowledged writes", "unacknowledged writes", "events of history checked", "leases found"];
    if rounds >= 10 {
        reached.extend(["killed in compaction", "killed in defragment", "hashes compared"]);
    }
    for what in reached {
        assert!(report.count(what) > 0, "{what} never reached:\n{report}");
    }
    Ok(())
}
