//! protox behind protoc's command line, for a dependency whose build asks for a protoc.
//!
//! This program is that protoc: [`lend`] names it in `PROTOC` and asks it, by a variable, to behave so.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

const ASKED: &str = "STENTOR_XTASK_AS_PROTOC";

/// Lets the builds that a cargo command runs use this program as protoc.
pub(crate) fn lend(command: &mut Command) -> Result<&mut Command> {
    let this = std::env::current_exe().context("cannot tell where this program is")?;
    Ok(command.env("PROTOC", this).env(ASKED, "1"))
}

/// Whether this program was started as protoc.
pub(crate) fn is_asked_for() -> bool {
    std::env::var_os(ASKED).is_some()
}

/// Does what protoc would with this program's arguments.
pub(crate) fn run() -> Result<()> {
    compile(std::env::args().skip(1))
}

/// Takes what prost-build and protobuf-build pass: `-o FILE`, `-I DIR` or `-IDIR` (or `--descriptor_set_out`,
/// `--proto_path`), files; flags without meaning here are let through.
fn compile(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut out = None;
    let mut includes = Vec::new();
    let mut files = Vec::new();
    while let Some(argument) = arguments.next() {
        if let Some(path) = argument.strip_prefix("--descriptor_set_out=") {
            out = Some(PathBuf::from(path));
        } else if let Some(path) = argument.strip_prefix("--proto_path=") {
            includes.push(PathBuf::from(path));
        } else if argument == "-o" {
            out = arguments.next().map(PathBuf::from);
        } else if argument == "-I" {
            includes.extend(arguments.next().map(PathBuf::from));
        } else if let Some(path) = argument.strip_prefix("-I") {
            includes.push(PathBuf::from(path));
        } else if argument == "--version" {
            // As versions were counted when protobuf-build began to look at them.
            println!("libprotoc 3.27.0");
            return Ok(());
        } else if !argument.starts_with('-') {
            files.push(PathBuf::from(argument));
        }
    }
    let out = out.context("no output file: pass -o FILE")?;
    let mut compiler = protox::Compiler::new(&includes)?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    // With options of others' making, which the typed set has no fields for.
    let set = compiler.encode_file_descriptor_set();
    std::fs::write(&out, set).with_context(|| format!("cannot write {}", out.display()))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::machine;

    #[test]
    fn writes_the_descriptors_of_a_file_and_what_it_imports() {
        let out = std::env::temp_dir().join(format!("stentor-protoc-{}", std::process::id()));
        let proto = machine::workspace_root().join("proto");
        let words = ["--include_imports", "-o", &out.display().to_string(), &format!("-I{}", proto.display())];
        let file = proto.join("etcdserverpb/rpc.proto").display().to_string();
        compile(words.into_iter().map(str::to_owned).chain([file])).unwrap();
        let set = FileDescriptorSet::decode(&std::fs::read(&out).unwrap()[..]).unwrap();
        let names: Vec<&str> = set.file.iter().map(|file| file.name()).collect();
        assert!(names.contains(&"etcdserverpb/rpc.proto") && names.contains(&"mvccpb/kv.proto"), "{names:?}");
        std::fs::remove_file(out).unwrap();
    }
}
