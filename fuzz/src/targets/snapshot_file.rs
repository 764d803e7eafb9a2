//! A snapshot file as the command line client looks at it.

use stentor_cli::snapshot::{Summary, summarize};
use stentor_mvcc::snapshot::Trailer;

use super::snapshot;
use crate::{Outcome, Target};

/// Input: a file. Its hash and checksums are put right afterwards, and it is looked at once more.
pub const SNAPSHOT_FILE: Target = Target { name: "snapshot_file", decode, samples, refuses: true, cost: 1 };

fn decode(bytes: &[u8]) -> Outcome {
    let as_it_came = summary(bytes);
    let mut repaired = snapshot::with_right_checksums(bytes);
    let Some(found) = summary(&repaired) else {
        assert!(as_it_came.is_none(), "its length is the same");
        return Outcome::Refused;
    };
    let size = repaired.len() - found.actual.len();
    repaired[size..].copy_from_slice(&found.actual);
    let Some(whole) = summary(&repaired) else { unreachable!("only its hash is another") };
    assert!(whole.verify().is_ok());
    assert_eq!((whole.size, whole.ours, &whole.head), (size as u64, found.ours, &found.head));
    assert!(whole.ours || whole.head.is_none(), "a head of what is no snapshot of ours");
    if whole.head.is_some() { Outcome::Accepted } else { Outcome::Refused }
}

fn summary(bytes: &[u8]) -> Option<Summary> {
    let mut seen = 0;
    let summary = summarize(&mut &bytes[..], bytes.len() as u64, |piece| seen += piece).ok()?;
    assert_eq!(summary.size, seen);
    // Without a head nothing is known of it but this.
    assert_eq!(summary.verify().is_ok(), summary.actual == summary.stated);
    Some(summary)
}

fn samples() -> Vec<Vec<u8>> {
    let with_hash = |mut file: Vec<u8>| {
        let mut trailer = Trailer::default();
        trailer.update(&file);
        file.extend_from_slice(&trailer.finish());
        file
    };
    snapshot::samples().into_iter().map(with_hash).collect()
}
