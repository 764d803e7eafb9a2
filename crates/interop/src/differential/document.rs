//! docs/differences.md, made from the table in the code.

use std::fmt::Write;

use super::differences::{Between, KNOWN, Seen};

const BEGIN: &str = "<!-- Made by `cargo xtask interop --document`; a test checks that it is current. -->\n";
const END: &str = "<!-- End of what is made. -->\n";

/// The made part of docs/differences.md.
pub fn document() -> String {
    let mut text = String::from(BEGIN);
    let kept = |known: &&super::differences::Known| known.between == Between::EtcdAndStentor;
    section(&mut text, "Stentor and etcd", KNOWN.iter().filter(kept));
    section(&mut text, "Older etcd and Stentor", KNOWN.iter().filter(|known| !kept(known)));
    text.push_str(END);
    text
}

fn section<'a>(text: &mut String, title: &str, known: impl Iterator<Item = &'a super::differences::Known>) {
    // Writing to a String does not fail.
    let _ = write!(text, "\n## {title}\n\n");
    for known in known {
        let _ = writeln!(text, "- **{}**{}: {}", known.id, age(known.between), known.what);
        let seen = if matches!(known.seen, Seen::Outside) { " *Not reached by the differential test.*" } else { "" };
        let _ = writeln!(text, "  Why: {}{seen}", known.reason);
    }
    text.push('\n');
}

fn age(between: Between) -> String {
    match between {
        Between::EtcdBefore(major, minor, patch) => format!(" (etcd before {major}.{minor}.{patch})"),
        Between::EtcdAndStentor => String::new(),
    }
}

/// Whether the made part stands in this text of docs/differences.md as it should.
pub fn document_matches(file: &str) -> bool {
    file.contains(&document())
}
