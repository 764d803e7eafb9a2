//! docs/watch-tests.md and docs/never.md say which test is for what; here is whether those tests are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The names of functions in all sources below a directory that look like tests.
fn tests_below(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(tests_in(&std::fs::read_to_string(&path).unwrap()).into_keys());
        }
    }
}

/// Functions after an attribute that makes a test of them, with what their documentation says.
fn tests_in(source: &str) -> BTreeMap<String, String> {
    let (mut is_test, mut says) = (false, String::new());
    let mut found = BTreeMap::new();
    for line in source.lines().map(str::trim_start) {
        if let Some(text) = line.strip_prefix("///") {
            says.push_str(text);
        } else if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else {
            let name = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
            if let Some(name) = name.and_then(|name| name.split('(').next()).filter(|_| is_test) {
                found.insert(name.to_owned(), std::mem::take(&mut says));
            }
            is_test = false;
            says.clear();
        }
    }
    found
}

/// The cells of each table's rows, without its head.
fn rows(document: &str) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        let is_head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        if line.starts_with("| ") && !is_head {
            rows.push(line.trim_matches(['|', ' ']).split(" | ").collect());
        }
    }
    rows
}

/// What stands in backticks.
fn named_in(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_test_that_the_document_names_is_there() {
    let mut tests = BTreeSet::new();
    for directory in ["crates/server/tests", "crates/server/src/net/tests", "crates/watch", "crates/interop/tests"] {
        tests_below(&root().join(directory), &mut tests);
    }
    let document = document("watch-tests.md");
    let rows = rows(&document);
    assert!(rows.len() > 80, "{} rows", rows.len());
    for row in rows {
        let (what, names) = (row[0], named_in(row.last().unwrap()));
        assert!(!names.is_empty(), "no test is named for {what}");
        for name in names {
            let name = name.rsplit("::").next().unwrap_or_default();
            assert!(tests.contains(name), "{name}, named for {what}, is no test");
        }
    }
}

/// Each is in the file that is named, and says by its name or in its documentation what it is for.
#[test]
fn every_known_failure_has_its_tests() {
    let document = document("never.md");
    let rows = rows(&document);
    let failures: BTreeSet<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(failures.len(), 34, "the rest is open: {failures:?}");
    for row in rows {
        let [number, _, name, file] = row[..] else { panic!("{row:?}") };
        let ([name], [file]) = (&named_in(name)[..], &named_in(file)[..]) else { panic!("{row:?}") };
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let tests = tests_in(&source);
        let says = tests.get(*name).unwrap_or_else(|| panic!("{name} is no test in {file}"));
        assert!(
            name.contains(number) || says.contains(number),
            "{name} in {file} does not say that it is for {number}"
        );
    }
}

#[test]
fn rows_and_tests_are_found() {
    let document = "| what | more | test |\n|---|---|---|\n| A | B | `c::one`, `two` |\ntext\n| x |\n";
    assert_eq!(rows(document), [vec!["A", "B", "`c::one`, `two`"], vec!["x"]]);
    assert_eq!(named_in("`c::one`, `two`"), ["c::one", "two"]);
    let source = "/// Of 7.\n#[test]\n#[ignore]\nfn one() {}\n/// No.\nfn helper() {}\n\
                  #[tokio::test(start_paused = true)]\nasync fn two() {}\n";
    let found = tests_in(source);
    assert_eq!(
        found.iter().map(|(name, says)| (&name[..], &says[..])).collect::<Vec<_>>(),
        [("one", " Of 7."), ("two", "")]
    );
}
