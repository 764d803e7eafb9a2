//! The program runs a seed, the same way twice, and refuses what it does not know.

use std::io;
use std::process::{Command, Output};

fn program(args: &[&str]) -> io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_stentor-simulation")).args(args).output()
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    if !cfg!(tokio_unstable) {
        println!("SKIPPED: without --cfg tokio_unstable no run repeats itself; `cargo xtask test` sets it");
        return;
    }
    let output = program(&["--seeds", "1", "--from", "3", "--twice", "1"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("1 runs, 0 failed"), "{text}");
}

#[test]
fn an_unknown_flag_is_refused() {
    assert!(!program(&["--sedes", "1"]).unwrap().status.success());
}
