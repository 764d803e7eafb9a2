use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use stentor_cli::snapshot::{SnapshotError, Summary, summarize};

use crate::failure::{Exit, Failure, Result, io_text};
use crate::print::{Format, show};
use crate::progress::Bar;
use crate::session::Session;

/// Save the whole store to a file, and start a new one from it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stentorctl snapshot save backup.snap
  stentorctl snapshot status backup.snap -w table
  stentorctl snapshot restore backup.snap --data-dir new.stentor")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetch the store of one member into a file
    Save {
        /// Where to; readable by its owner alone
        file: Vec<PathBuf>,
    },
    /// Show what a file holds
    Status {
        /// A file that `snapshot save` wrote
        file: Vec<PathBuf>,
    },
    /// Prepare a data directory from a file; the server takes it in at its first start
    Restore(Restore),
}

#[derive(Debug, clap::Args)]
struct Restore {
    /// A file that `snapshot save` wrote
    file: Vec<PathBuf>,
    /// The directory to prepare; it must not exist or be empty [default: NAME.stentor]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The name that the server will be started with
    #[arg(long, default_value = "default")]
    name: String,
    /// The members of the new cluster; more than one are not supported yet
    #[arg(long, default_value = "default=http://localhost:2380", value_name = "NAME=URL")]
    initial_cluster: String,
    /// Accepted; give it to the server when starting it
    #[arg(long, default_value = "etcd-cluster", value_name = "TOKEN")]
    initial_cluster_token: String,
    /// Accepted; give them to the server when starting it
    #[arg(long, default_value = "http://localhost:2380", value_name = "URLS")]
    initial_advertise_peer_urls: String,
    /// Do not compare the hash at the end of the file
    #[arg(long)]
    skip_hash_check: bool,
    /// Not supported yet
    #[arg(long, value_parser = crate::args::int, default_value = "0", value_name = "N")]
    bump_revision: i64,
    /// Not supported yet
    #[arg(long)]
    mark_compacted: bool,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        match self.command {
            Command::Save { file } => match file.as_slice() {
                [file] => save(file, session).await,
                _ => Err(Failure::args("snapshot save expects one argument <filename>")),
            },
            Command::Status { file } => match file.as_slice() {
                [file] => status(file, session),
                _ => Err(Failure::args("snapshot status requires exactly one argument")),
            },
            Command::Restore(restore) => restore.run(),
        }
    }
}

/// Fetches into FILE.part, which takes the file's place only when whole, verified and on disk.
async fn save(path: &Path, session: &Session) -> Result<()> {
    if session.endpoints.len() > 1 {
        let all = session.endpoints.join(" ");
        let message = format!("snapshot must be requested to one selected node, not multiple [{all}]");
        return Err(Failure::new(Exit::Interrupted, message));
    }
    let part = part_of(path);
    let version = match fetch(&part, session).await {
        Ok(version) => version,
        Err(failure) => {
            // What went wrong matters more than whether the rest could be cleared away.
            fs::remove_file(&part).ok();
            return Err(failure);
        }
    };
    fs::rename(&part, path).and_then(|()| sync_dir(path)).map_err(|e| {
        interrupted(format!("could not rename {} to {} ({})", part.display(), path.display(), io_text(&e)))
    })?;
    let mut out = format!("Snapshot saved at {}\n", path.display());
    if !version.is_empty() {
        out += &format!("Server version {version}\n");
    }
    show(out)
}

/// Fetches and verifies; returns the server's version, if it tells it.
async fn fetch(part: &Path, session: &Session) -> Result<String> {
    let failed = |what: &str, e: std::io::Error| {
        let part = part.display();
        interrupted(format!("could not {what} {part} ({what} {part}: {})", io_text(&e)))
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .map_err(|e| failed("open", e))?;
    let client = session.connect().await?;
    let mut stream = client.maintenance().snapshot().await?;
    let bar = Bar::bytes("fetching");
    let (mut version, mut written) = (String::new(), 0);
    while let Some(chunk) = stream.next().await? {
        file.write_all(&chunk.blob).map_err(|e| failed("write", e))?;
        written += chunk.blob.len() as u64;
        bar.set_total(written + chunk.remaining_bytes);
        bar.add(chunk.blob.len() as u64);
        if !chunk.version.is_empty() {
            version = chunk.version;
        }
    }
    file.sync_all().map_err(|e| failed("write", e))?;
    drop(bar);
    verify(&check(part, "verifying")?)?;
    Ok(version)
}

fn interrupted(message: String) -> Failure {
    Failure::new(Exit::Interrupted, message)
}

/// Looks at all of a file, and shows how far it is.
fn check(path: &Path, what: &'static str) -> Result<Summary> {
    let bar = Bar::bytes(what);
    let summary = || -> std::result::Result<Summary, SnapshotError> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        bar.set_total(length);
        summarize(&mut file, length, |n| bar.add(n))
    };
    summary().map_err(|error| {
        let message = match &error {
            SnapshotError::Length(_) => format!("{} is no whole snapshot: {error}", path.display()),
            _ => format!("cannot read {}: {error}", path.display()),
        };
        Failure::new(Exit::Error, message)
    })
}

fn verify(summary: &Summary) -> Result<()> {
    summary.verify().map_err(|error| Failure::new(Exit::Error, error))
}

fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

/// Makes a rename in the file's directory last.
fn sync_dir(file: &Path) -> std::io::Result<()> {
    let dir = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

fn status(path: &Path, session: &Session) -> Result<()> {
    session.printer.refuse(Format::Protobuf)?;
    let summary = check(path, "reading")?;
    verify(&summary)?;
    show(session.printer.snapshot(&summary))
}

impl Restore {
    fn run(self) -> Result<()> {
        let [file] = self.file.as_slice() else {
            return Err(Failure::args("snapshot restore requires exactly one argument"));
        };
        self.refuse_what_is_not_built()?;
        let dir = self.data_dir.clone().unwrap_or_else(|| format!("{}.stentor", self.name).into());
        if !is_free(&dir) {
            let message = format!("data-dir \"{}\" not empty or could not be read", dir.display());
            return Err(Failure::new(Exit::Error, message));
        }
        let summary = check(file, "verifying")?;
        if !self.skip_hash_check {
            verify(&summary)?;
        }
        if !summary.ours {
            let message = format!("{} is no snapshot of Stentor", file.display());
            return Err(Failure::new(Exit::Error, message));
        }
        place(file, &dir).map_err(|e| Failure::new(Exit::Error, format!("cannot prepare {}: {e}", dir.display())))?;
        show(format!(
            "Snapshot placed in {}: start the server with --data-dir={} to take it in\n",
            dir.display(),
            dir.display()
        ))
    }

    fn refuse_what_is_not_built(&self) -> Result<()> {
        let refuse = |what: &str| Err(Failure::new(Exit::BadFeature, format!("{what} is not supported yet")));
        if self.bump_revision != 0 {
            return refuse("--bump-revision");
        }
        if self.mark_compacted {
            return refuse("--mark-compacted");
        }
        if self.initial_cluster.contains(',') {
            return refuse("an --initial-cluster of several members");
        }
        Ok(())
    }
}

/// It does not exist, or is an empty directory.
fn is_free(dir: &Path) -> bool {
    match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

/// The name under which the server looks for a snapshot to take in.
const RESTORE: &str = "restore.snapshot";

/// Copies the file into the directory under a name that appears only when the copy is whole and on disk.
fn place(file: &Path, dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let target = dir.join(RESTORE);
    let part = part_of(&target);
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let mut source = File::open(file)?;
    let bar = Bar::bytes("copying");
    bar.set_total(source.metadata()?.len());
    std::io::copy(&mut source, &mut copy)?;
    copy.sync_all()?;
    fs::rename(&part, &target)?;
    sync_dir(&target)?;
    // The directory's own name may be new too.
    sync_dir(&fs::canonicalize(dir)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};
    use stentor_cli::snapshot::MAGIC;

    fn restore(file: &Path, dir: &Path) -> Restore {
        Restore {
            file: vec![file.to_owned()],
            data_dir: Some(dir.to_owned()),
            name: "default".into(),
            initial_cluster: "default=http://localhost:2380".into(),
            initial_cluster_token: "etcd-cluster".into(),
            initial_advertise_peer_urls: "http://localhost:2380".into(),
            skip_hash_check: false,
            bump_revision: 0,
            mark_compacted: false,
        }
    }

    fn snapshot(dir: &Path, begin: &[u8]) -> PathBuf {
        let mut body = begin.to_vec();
        body.resize(1024, 1);
        let hash = Sha256::digest(&body);
        let path = dir.join("file.snap");
        fs::write(&path, [&body[..], &hash[..]].concat()).unwrap();
        path
    }

    #[test]
    fn a_directory_is_prepared_once() {
        let temp = tempfile::tempdir().unwrap();
        let file = snapshot(temp.path(), MAGIC);
        let dir = temp.path().join("a/b");
        restore(&file, &dir).run().unwrap();
        assert_eq!(fs::read(dir.join(RESTORE)).unwrap(), fs::read(&file).unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        assert!(restore(&file, &dir).run().unwrap_err().message.unwrap().contains("not empty"));
    }

    #[test]
    fn damaged_and_foreign_files_leave_no_directory() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("data");
        let foreign = snapshot(temp.path(), b"etcd");
        assert!(restore(&foreign, &dir).run().unwrap_err().message.unwrap().contains("no snapshot of Stentor"));
        let file = snapshot(temp.path(), MAGIC);
        let mut bytes = fs::read(&file).unwrap();
        bytes[600] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert!(restore(&file, &dir).run().unwrap_err().message.unwrap().contains("damaged"));
        assert!(!dir.exists());
        Restore { skip_hash_check: true, ..restore(&file, &dir) }.run().unwrap();
    }

    #[test]
    fn what_is_not_built_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let file = snapshot(temp.path(), MAGIC);
        let dir = temp.path().join("data");
        let plain = || restore(&file, &dir);
        for args in [
            Restore { bump_revision: 1, ..plain() },
            Restore { mark_compacted: true, ..plain() },
            Restore { initial_cluster: "a=http://a:1,b=http://b:1".into(), ..plain() },
        ] {
            assert_eq!(args.run().unwrap_err().exit, Exit::BadFeature);
        }
        assert!(!dir.exists());
    }
}
