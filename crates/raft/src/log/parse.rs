//! For the fuzz targets: a log that is nothing but bytes.

use std::sync::Arc;

use super::disk::Disk as _;
use super::files::segment_name;
use super::format::{ALIGNMENT, FIRST_FRAME, FRAME_HEADER, Mark, SegmentHeader, begins, with_right_crc};
use super::{Log, LogError, Options, memory};

/// Opens a log of which this is the only segment.
///
/// # Errors
/// As [`Log::open`].
pub fn open(segment: &[u8], options: Options) -> Result<(memory::Disk, Option<Log>), LogError> {
    let disk = memory::Disk::new();
    let name = SegmentHeader::decode(segment).map_or(1, |header| header.number);
    let write = || {
        disk.create(&segment_name(name))?.write(segment, 0)?;
        disk.sync()
    };
    write().unwrap_or_else(|e| unreachable!("memory can be written: {e}"));
    let log = Log::open(Arc::new(disk.clone()), options)?;
    Ok((disk, log))
}

/// The segments of a log, oldest first.
pub fn segments(disk: &memory::Disk) -> Vec<Vec<u8>> {
    let read = |name: &String| {
        let file = disk.open(name)?;
        let mut bytes = vec![0; file.bytes()? as usize];
        file.read(&mut bytes, 0)?;
        Ok(bytes)
    };
    let names = disk.list().unwrap_or_default().into_iter().filter(|name| name.ends_with(".log"));
    let read = names.map(|name| read(&name)).collect::<std::io::Result<_>>();
    read.unwrap_or_else(|e| unreachable!("memory can be read: {e}"))
}

/// The segment with the checksums that its header and frames should have.
pub fn with_right_checksums(segment: &[u8]) -> Vec<u8> {
    let mut segment = segment.to_vec();
    super::format::correct_header(&mut segment);
    let Ok(header) = SegmentHeader::decode(&segment) else { return segment };
    let mark: Mark = header.mark();
    let mut at = FIRST_FRAME;
    while let Some(rest) = segment.get_mut(at..).filter(|rest| rest.len() >= FRAME_HEADER && begins(rest, mark)) {
        match with_right_crc(rest) {
            Some(length) => at += length.next_multiple_of(ALIGNMENT),
            None => break,
        }
    }
    segment
}
