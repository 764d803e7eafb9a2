//! The same random requests to an etcd and to Stentor: 3,000 of them per etcd, seeds fixed.
//! `STENTOR_INTEROP_REQUESTS` and `STENTOR_SEED` change that.

use anyhow::Result;
use stentor_interop::differential::{ENOUGH, Options, document, document_matches, run};
use stentor_interop::peers::{ETCDS, SERVER, number, required};

/// How often a run is repeated that differs on a machine that stood still.
const ATTEMPTS: usize = 5;

async fn against(variable: &str, test: &str) -> Result<()> {
    let (Some(subject), Some(reference)) = (required(SERVER, test), required(variable, test)) else { return Ok(()) };
    let requests = number("STENTOR_INTEROP_REQUESTS", 3000);
    let seed = number("STENTOR_SEED", 1);
    let options = Options { reference, subject, seed, requests, keep_going: false, trace: false };
    let mut report = run(&options).await?;
    for _ in 1..ATTEMPTS {
        if report.differences.is_empty() || !report.stalled {
            break;
        }
        println!("once more, since the machine stood still: {}", report.differences[0]);
        report = run(&options).await?;
    }
    assert!(report.differences.is_empty(), "{}", report.differences[0]);
    assert!(report.coverage.requests() >= requests, "{}", report.coverage);
    if requests >= ENOUGH {
        assert_eq!(report.coverage.missing(), Vec::<String>::new(), "never reached");
    }
    Ok(())
}

#[tokio::test]
async fn answers_and_events_are_those_of_etcd_3_5() -> Result<()> {
    against(ETCDS[1], "differential test against etcd 3.5").await
}

#[tokio::test]
async fn answers_and_events_are_those_of_etcd_3_7() -> Result<()> {
    against(ETCDS[2], "differential test against etcd 3.7").await
}

#[test]
fn the_document_lists_the_known_differences() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/differences.md");
    let file = std::fs::read_to_string(path).expect("docs/differences.md");
    assert!(document_matches(&file), "docs/differences.md is not current; its made part should be:\n{}", document());
}
