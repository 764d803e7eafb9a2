//! The head of a snapshot, so that a file can be told from others without the store's code.
//!
//! It is the line [`MAGIC`], the length of the header as 4 bytes (the most significant first), the
//! [`SnapshotHeader`], and the CRC-32C of all that in 4 bytes.

use std::io::{self, Read as _};

use prost::Message;

use crate::storagepb::{Restore, SnapshotHeader};

/// How a snapshot begins.
pub const MAGIC: &[u8] = b"STENTORSNAP1\n";
/// How a file begins that says how the snapshot behind it is to be restored.
const RESTORE_MAGIC: &[u8] = b"STENTORRESTORE1\n";
/// How a snapshot of any version begins.
const ANY_VERSION: &[u8] = b"STENTORSNAP";
/// The format that this version writes, and the latest that it reads.
pub const FORMAT: u32 = 1;
/// What follows the header's end frame is filled up with zeros to a multiple of this, in bytes.
pub const BLOCK: u64 = 512;
/// Bytes of the SHA-256 that a file, or a Maintenance.Snapshot stream, ends with.
pub const HASH: u64 = 32;
/// No header is longer.
const MAX_HEADER: u32 = 64 << 10;

/// The head of a snapshot can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// It begins otherwise.
    #[error("this is no snapshot of Stentor: use a file that `stentorctl snapshot save` wrote")]
    NotASnapshot,
    /// A later version made it.
    #[error(
        "the snapshot has format {found}, this version knows formats up to {supported}: use the version that wrote it"
    )]
    TooNew {
        /// The format of the snapshot.
        found: u32,
        /// The latest format that this version knows.
        supported: u32,
    },
    /// It is not what was once written.
    #[error("the snapshot is damaged ({0}): fetch it again")]
    Damaged(&'static str),
    /// Reading failed.
    #[error("reading the snapshot failed: {0}")]
    Io(#[source] io::Error),
}

/// The head of a snapshot, as it is written.
pub fn encode_header(header: &SnapshotHeader) -> Vec<u8> {
    encode(MAGIC, header)
}

/// Reads the head of a snapshot, and not a byte more.
///
/// # Errors
/// What is no snapshot, is of a later format, or is damaged; what reading meets.
///
/// ```
/// use stentor_proto::snapshot::{FORMAT, encode_header, read_header};
/// use stentor_proto::storagepb::SnapshotHeader;
/// let header = SnapshotHeader { format: FORMAT, revision: 7, ..Default::default() };
/// assert_eq!(read_header(&mut &encode_header(&header)[..])?, header);
/// assert!(read_header(&mut &b"SQLite format 3"[..]).is_err());
/// # Ok::<(), stentor_proto::snapshot::HeaderError>(())
/// ```
pub fn read_header(reader: &mut impl io::Read) -> Result<SnapshotHeader, HeaderError> {
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => HeaderError::NotASnapshot,
        _ => HeaderError::Io(e),
    })?;
    check_magic(&magic)?;
    let header: SnapshotHeader = decode(&magic, reader)?;
    match header.format {
        FORMAT => Ok(header),
        0 => Err(HeaderError::Damaged("its header names no format")),
        found => Err(HeaderError::TooNew { found, supported: FORMAT }),
    }
}

/// What is put in front of a snapshot that is to be restored.
pub fn encode_restore(restore: &Restore) -> Vec<u8> {
    encode(RESTORE_MAGIC, restore)
}

/// Reads what stands in front of a snapshot that is to be restored, and not a byte more; `None`, and nothing read,
/// if nothing does.
///
/// # Errors
/// What is damaged; what reading meets.
///
/// ```
/// use std::io::Cursor;
/// use stentor_proto::snapshot::{MAGIC, encode_restore, read_restore};
/// use stentor_proto::storagepb::Restore;
/// let restore = Restore { bump_revision: 7, ..Default::default() };
/// let mut file = Cursor::new([&encode_restore(&restore)[..], MAGIC].concat());
/// assert_eq!(read_restore(&mut file)?, Some(restore));
/// assert_eq!(read_restore(&mut file)?, None);
/// # Ok::<(), stentor_proto::snapshot::HeaderError>(())
/// ```
pub fn read_restore(reader: &mut (impl io::Read + io::Seek)) -> Result<Option<Restore>, HeaderError> {
    let begin = reader.stream_position().map_err(HeaderError::Io)?;
    let mut magic = Vec::new();
    reader.by_ref().take(RESTORE_MAGIC.len() as u64).read_to_end(&mut magic).map_err(HeaderError::Io)?;
    if magic != RESTORE_MAGIC {
        reader.seek(io::SeekFrom::Start(begin)).map_err(HeaderError::Io)?;
        return Ok(None);
    }
    decode(&magic, reader).map(Some)
}

/// A message between a magic word with its length, and a checksum of all that.
fn encode(magic: &[u8], message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut bytes = [magic, &(message.len() as u32).to_be_bytes(), &message].concat();
    bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

/// What follows the magic word.
fn decode<M: Message + Default>(magic: &[u8], reader: &mut impl io::Read) -> Result<M, HeaderError> {
    let mut length = [0; 4];
    read(reader, &mut length)?;
    let len = u32::from_be_bytes(length);
    if len > MAX_HEADER {
        return Err(HeaderError::Damaged("its header is too long"));
    }
    let mut message = vec![0; len as usize];
    read(reader, &mut message)?;
    let mut sum = [0; 4];
    read(reader, &mut sum)?;
    let crc = [magic, &length, &message].iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
    if crc != u32::from_be_bytes(sum) {
        return Err(HeaderError::Damaged("the checksum of its header is wrong"));
    }
    M::decode(&message[..]).map_err(|_| HeaderError::Damaged("its header is malformed"))
}

fn check_magic(magic: &[u8]) -> Result<(), HeaderError> {
    if magic == MAGIC {
        return Ok(());
    }
    let found = magic.strip_prefix(ANY_VERSION).and_then(|rest| rest.first()).filter(|byte| byte.is_ascii_digit());
    match found {
        // Two digits or more are of a later format too.
        Some(digit) => Err(HeaderError::TooNew { found: u32::from(digit - b'0').max(FORMAT + 1), supported: FORMAT }),
        None => Err(HeaderError::NotASnapshot),
    }
}

fn read(reader: &mut impl io::Read, into: &mut [u8]) -> Result<(), HeaderError> {
    reader.read_exact(into).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => HeaderError::Damaged("it ends within its header"),
        _ => HeaderError::Io(e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SnapshotHeader {
        SnapshotHeader {
            format: FORMAT,
            revision: 12,
            compacted_revision: -1,
            total_keys: 3,
            logical_bytes: 400,
            created_unix_ms: 1_700_000_000_000,
            server_version: "0.1.0".into(),
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_seen() {
        let good = encode_header(&header());
        assert_eq!(read_header(&mut &good[..]).unwrap(), header());
        for at in 0..good.len() {
            assert!(read_header(&mut &good[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(read_header(&mut &bad[..]).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn what_stands_in_front_is_whole_or_refused() {
        let restore = Restore { bump_revision: 7, token: "t".into(), ..Restore::default() };
        let good = [&encode_restore(&restore)[..], MAGIC].concat();
        let read = |bytes: &[u8]| {
            let mut file = io::Cursor::new(bytes.to_vec());
            let found = read_restore(&mut file).map_err(|error| error.to_string())?;
            Ok::<_, String>((found, file.position() as usize))
        };
        let len = good.len() - MAGIC.len();
        assert_eq!(read(&good), Ok((Some(restore), len)));
        for at in 0..len {
            let cut = read(&good[..at]);
            // Before the magic word is whole it is no such thing, which is what a snapshot is, too.
            assert!(cut == Ok((None, 0)) && at < RESTORE_MAGIC.len() || cut.is_err(), "cut at {at}: {cut:?}");
            let mut bad = good.clone();
            bad[at] ^= 1;
            let changed = read(&bad);
            assert!(changed == Ok((None, 0)) && at < RESTORE_MAGIC.len() || changed.is_err(), "byte {at}: {changed:?}");
        }
    }

    #[test]
    fn a_later_format_is_named() {
        let later = encode_header(&SnapshotHeader { format: 2, ..header() });
        let error = read_header(&mut &later[..]).unwrap_err();
        assert!(matches!(error, HeaderError::TooNew { found: 2, supported: FORMAT }), "{error}");
        let error = read_header(&mut &b"STENTORSNAP2\nand whatever follows"[..]).unwrap_err();
        assert!(matches!(error, HeaderError::TooNew { found: 2, .. }), "{error}");
        assert!(error.to_string().contains("use the version that wrote it"));
        let error = read_header(&mut &b"STENTORSNAPS of something else"[..]).unwrap_err();
        assert!(matches!(error, HeaderError::NotASnapshot), "{error}");
    }
}
