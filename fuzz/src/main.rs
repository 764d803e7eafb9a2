//! Writes every target's samples below a directory, as a corpus to start from: `TARGET/NUMBER`.
//! Prints the targets' names.

use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let Some(root) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: stentor-fuzz DIRECTORY"));
    };
    for target in stentor_fuzz::targets::ALL {
        let dir = root.join(target.name);
        std::fs::create_dir_all(&dir)?;
        for (number, sample) in (target.samples)().iter().enumerate() {
            std::fs::write(dir.join(format!("sample-{number}")), sample)?;
        }
        println!("{}", target.name);
    }
    Ok(())
}
