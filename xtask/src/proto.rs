//! Compiles `proto/` to Rust without protoc; the result is checked in.

use std::path::Path;

use anyhow::{Context, Result, bail};
use prost::Message;

use crate::machine;

/// The files that other programs speak, and our own.
const FILES: &[&str] = &[
    "mvccpb/kv.proto",
    "authpb/auth.proto",
    "etcdserverpb/rpc.proto",
    "v3lockpb/lock.proto",
    "v3electionpb/election.proto",
    "stentor/introspection/v1/introspection.proto",
    "stentor/storage/v1/storage.proto",
    "stentor/peer/v1/peer.proto",
];

/// Compile proto/ to crates/proto/src/generated.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing; fail if the checked-in code is not current
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = machine::workspace_root();
    let target = root.join("crates/proto/src/generated");
    if !args.check {
        std::fs::create_dir_all(&target)?;
        return generate(&root, &target);
    }
    let fresh = std::env::temp_dir().join(format!("stentor-proto-{}", std::process::id()));
    std::fs::create_dir_all(&fresh)?;
    let result = generate(&root, &fresh).and_then(|()| compare(&fresh, &target));
    std::fs::remove_dir_all(&fresh)?;
    result
}

fn generate(root: &Path, out: &Path) -> Result<()> {
    let descriptors = protox::compile(FILES, [root.join("proto")])?;
    // Reflection serves the file descriptors as they are, without the comments.
    let mut bare = descriptors.clone();
    bare.file.iter_mut().for_each(|f| f.source_code_info = None);
    std::fs::write(out.join("descriptors.bin"), bare.encode_to_vec())?;
    let mut prost = tonic_prost_build::Config::new();
    prost.bytes(["."]);
    tonic_prost_build::configure()
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .out_dir(out)
        .compile_fds_with_config(descriptors, prost)
        .context("cannot compile proto/")
}

fn compare(fresh: &Path, checked_in: &Path) -> Result<()> {
    let names = |dir: &Path| -> Result<Vec<_>> {
        let mut names: Vec<_> = std::fs::read_dir(dir)?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
        names.sort();
        Ok(names)
    };
    let expected = names(fresh)?;
    if names(checked_in)? != expected {
        bail!("other files in {} than proto/ gives: run `cargo xtask proto`", checked_in.display());
    }
    for name in expected {
        if std::fs::read(fresh.join(&name))? != std::fs::read(checked_in.join(&name))? {
            bail!("{} is not current: run `cargo xtask proto`", name.to_string_lossy());
        }
    }
    println!("proto: current");
    Ok(())
}
