//! The directory that a log lives in: the seam between the log and the file system.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A directory of files, without subdirectories. What it is asked to change survives a loss of power only
/// once it is synced: names with [`Disk::sync`], content with [`File::sync`].
pub trait Disk: fmt::Debug + Send + Sync {
    /// The names of all files, in any order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// When it is not there or cannot be opened.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Creates an empty file.
    ///
    /// # Errors
    /// When it is there already or cannot be created.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, that of no file. Handles of it go on to work.
    ///
    /// # Errors
    /// When it cannot be renamed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Handles of it go on to work.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all creations, renamings and removals durable.
    ///
    /// # Errors
    /// When it fails; what is durable is unknown then.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is read and written at offsets in bytes.
pub trait File: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// When it cannot be found out.
    fn bytes(&self) -> io::Result<u64>;

    /// Fills the buffer from an offset on.
    ///
    /// # Errors
    /// When reading fails, or the file ends before.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of it at an offset; the file becomes longer where needed.
    ///
    /// # Errors
    /// When it fails; any part may have been written then.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the content durable, and the length as far as needed to read it.
    ///
    /// # Errors
    /// When it fails; what is durable is unknown then, and remains so however often this is called again.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct SystemDisk {
    path: PathBuf,
    is_writable: bool,
}

impl SystemDisk {
    /// Uses a directory, which is created if it is not there.
    ///
    /// # Errors
    /// When it is not there and cannot be created.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<SystemDisk> {
        let path = path.into();
        if !path.is_dir() {
            fs::create_dir_all(&path)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::File::open(parent)?.sync_all()?;
            }
        }
        Ok(SystemDisk { path, is_writable: true })
    }

    /// Uses a directory that is there, for a [`Reading`](super::Reading): its files are opened for reading alone.
    pub fn read_only(path: impl Into<PathBuf>) -> SystemDisk {
        SystemDisk { path: path.into(), is_writable: false }
    }

    fn opened(&self, name: &str, options: &mut fs::OpenOptions) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SystemFile(options.read(true).write(self.is_writable).open(self.path.join(name))?)))
    }
}

impl Disk for SystemDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for file in fs::read_dir(&self.path)? {
            // A name that is no text is none of the log's.
            names.extend(file?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.opened(name, &mut fs::OpenOptions::new())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.opened(name, fs::OpenOptions::new().create_new(true))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }
}

#[derive(Debug)]
struct SystemFile(fs::File);

impl File for SystemFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
