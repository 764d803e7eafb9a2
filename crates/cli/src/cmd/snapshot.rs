use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use stentor_cli::snapshot::{SnapshotError, Summary, summarize};
use stentor_proto::snapshot::encode_restore;
use stentor_proto::storagepb::MemberRecord;

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
  stentorctl snapshot restore backup.snap --data-dir new.stentor
  stentorctl snapshot restore backup.snap --data-dir m0.stentor --name m0 \\
    --initial-cluster m0=http://10.0.0.1:2380,m1=http://10.0.0.2:2380,m2=http://10.0.0.3:2380")]
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
    /// The name of the member whose directory this is
    #[arg(long, default_value = "default")]
    name: String,
    /// The members of the new cluster, of which each is restored from the same file; without it, the flags that the
    /// server is started with say who they are
    #[arg(long, value_name = "NAME=URL,...")]
    initial_cluster: Option<String>,
    /// What tells the members' ids from those of other clusters
    #[arg(long, default_value = "etcd-cluster", value_name = "TOKEN")]
    initial_cluster_token: String,
    /// The peer URLs of this member; if given, as in --initial-cluster
    #[arg(long, value_name = "URLS")]
    initial_advertise_peer_urls: Option<String>,
    /// Do not compare the hash at the end of the file
    #[arg(long)]
    skip_hash_check: bool,
    /// Move revisions up by this, and mark all before as compacted: whoever has followed the old store notices. 0 leaves
    /// revisions and history as they are
    #[arg(long, default_value_t = BUMP, value_name = "N")]
    bump_revision: u64,
    /// What a --bump-revision above 0 does anyway
    #[arg(long)]
    mark_compacted: bool,
}

/// More than a cluster writes between two backups.
const BUMP: u64 = 1_000_000_000;

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
        let members = self.members()?;
        if self.mark_compacted && self.bump_revision == 0 {
            return Err(Failure::args("--mark-compacted needs a --bump-revision above 0"));
        }
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
        let restore = stentor_proto::storagepb::Restore {
            bump_revision: self.bump_revision,
            mark_compacted: self.bump_revision > 0,
            skip_hash_check: self.skip_hash_check,
            sha256: summary.actual.to_vec().into(),
            members,
            token: self.initial_cluster_token,
            name: self.name,
        };
        place(&restore, file, &dir)
            .map_err(|e| Failure::new(Exit::Error, format!("cannot prepare {}: {e}", dir.display())))?;
        show(format!(
            "Snapshot placed in {}: start the server with --data-dir={} to take it in\n",
            dir.display(),
            dir.display()
        ))
    }

    /// Who the members of the new cluster are; nobody if that was not said.
    fn members(&self) -> Result<Vec<MemberRecord>> {
        let urls = self.initial_advertise_peer_urls.as_deref().map(|urls| sorted(urls.split(',')));
        let Some(cluster) = &self.initial_cluster else {
            let own = urls.map(|peer_urls| MemberRecord { name: self.name.clone(), peer_urls, ..Default::default() });
            return Ok(own.into_iter().collect());
        };
        let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for item in cluster.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let Some((name, url)) = item.split_once('=') else {
                return Err(Failure::args(format!("--initial-cluster: {item:?} is not NAME=URL")));
            };
            members.entry(name).or_default().push(url);
        }
        let Some(own) = members.get(self.name.as_str()) else {
            let name = &self.name;
            return Err(Failure::args(format!(
                "couldn't find local name {name:?} in the initial cluster configuration"
            )));
        };
        if urls.is_some_and(|urls| urls != sorted(own.iter().copied())) {
            let text = "--initial-cluster has other URLs for this member than --initial-advertise-peer-urls";
            return Err(Failure::args(text));
        }
        let record = |(name, urls): (&str, Vec<&str>)| MemberRecord {
            name: name.to_owned(),
            peer_urls: sorted(urls.into_iter()),
            ..MemberRecord::default()
        };
        Ok(members.into_iter().map(record).collect())
    }
}

fn sorted<'a>(urls: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut urls: Vec<_> = urls.map(|url| url.trim().trim_end_matches('/').to_owned()).collect();
    urls.sort();
    urls
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

/// Copies the file into the directory, behind what is to be done with it, under a name that appears only when the copy
/// is whole and on disk.
fn place(restore: &stentor_proto::storagepb::Restore, file: &Path, dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let target = dir.join(RESTORE);
    let part = part_of(&target);
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let mut source = File::open(file)?;
    let bar = Bar::bytes("copying");
    bar.set_total(source.metadata()?.len());
    copy.write_all(&encode_restore(restore))?;
    std::io::copy(&mut source, &mut copy)?;
    copy.sync_all()?;
    fs::rename(&part, &target)?;
    sync_dir(&target)?;
    // The directory's own name may be new too.
    sync_dir(&fs::canonicalize(dir)?)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use sha2::{Digest as _, Sha256};
    use stentor_cli::snapshot::MAGIC;
    use stentor_proto::snapshot::read_restore;

    fn restore(file: &Path, dir: &Path) -> Restore {
        Restore {
            file: vec![file.to_owned()],
            data_dir: Some(dir.to_owned()),
            name: "default".into(),
            initial_cluster: None,
            initial_cluster_token: "etcd-cluster".into(),
            initial_advertise_peer_urls: None,
            skip_hash_check: false,
            bump_revision: BUMP,
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
        let placed = fs::read(dir.join(RESTORE)).unwrap();
        let mut rest = Cursor::new(&placed[..]);
        let restore_of = read_restore(&mut rest).unwrap().unwrap();
        assert_eq!((restore_of.bump_revision, restore_of.mark_compacted), (BUMP, true));
        assert_eq!(restore_of.members, []);
        assert_eq!(placed[rest.position() as usize..], fs::read(&file).unwrap());
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
    fn the_members_of_a_new_cluster_go_along() {
        let temp = tempfile::tempdir().unwrap();
        let file = snapshot(temp.path(), MAGIC);
        let dir = temp.path().join("data");
        let args = Restore {
            name: "b".into(),
            initial_cluster: Some("b=http://b:1/, a=http://a:2,a=http://a:1".into()),
            initial_advertise_peer_urls: Some("http://b:1".into()),
            bump_revision: 0,
            ..restore(&file, &dir)
        };
        args.run().unwrap();
        let placed = read_restore(&mut File::open(dir.join(RESTORE)).unwrap()).unwrap().unwrap();
        let members: Vec<_> = placed.members.iter().map(|m| (m.name.as_str(), m.peer_urls.join(" "))).collect();
        assert_eq!(members, [("a", "http://a:1 http://a:2".to_owned()), ("b", "http://b:1".to_owned())]);
        assert_eq!((placed.name.as_str(), placed.bump_revision, placed.mark_compacted), ("b", 0, false));
        assert_eq!(placed.sha256[..], summarize_file(&file).actual);
    }

    fn summarize_file(file: &Path) -> Summary {
        summarize(&mut File::open(file).unwrap(), fs::metadata(file).unwrap().len(), |_| {}).unwrap()
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let file = snapshot(temp.path(), MAGIC);
        let dir = temp.path().join("data");
        let plain = || restore(&file, &dir);
        for args in [
            Restore { mark_compacted: true, bump_revision: 0, ..plain() },
            Restore { initial_cluster: Some("a=http://a:1,b=http://b:1".into()), ..plain() },
            Restore { initial_cluster: Some("http://a:1".into()), ..plain() },
            Restore {
                initial_cluster: Some("default=http://a:1".into()),
                initial_advertise_peer_urls: Some("http://b:1".into()),
                ..plain()
            },
        ] {
            assert_eq!(args.run().unwrap_err().exit, Exit::BadArgs);
        }
        assert!(!dir.exists());
    }
}
