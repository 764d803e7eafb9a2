//! protox behind protoc's command line, for crates whose build asks for a protoc.
//!
//! Takes what prost-build passes: `-o FILE`, `-I DIR` (or `--descriptor_set_out`, `--proto_path`),
//! files; flags without meaning here are let through.

use std::path::PathBuf;

use anyhow::{Context, Result};
use prost::Message;

fn main() -> Result<()> {
    let mut out = None;
    let mut includes = Vec::new();
    let mut files = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if let Some(path) = argument.strip_prefix("--descriptor_set_out=") {
            out = Some(PathBuf::from(path));
        } else if let Some(path) = argument.strip_prefix("--proto_path=") {
            includes.push(PathBuf::from(path));
        } else if argument == "-o" {
            out = arguments.next().map(PathBuf::from);
        } else if argument == "-I" {
            includes.extend(arguments.next().map(PathBuf::from));
        } else if argument == "--version" {
            println!("libprotoc 27.0");
            return Ok(());
        } else if !argument.starts_with('-') {
            files.push(PathBuf::from(argument));
        }
    }
    let out = out.context("no output file: pass -o FILE")?;
    let mut compiler = protox::Compiler::new(&includes)?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let set = compiler.file_descriptor_set().encode_to_vec();
    std::fs::write(&out, set).with_context(|| format!("cannot write {}", out.display()))
}
