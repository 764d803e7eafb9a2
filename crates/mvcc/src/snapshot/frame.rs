//! Frames: entries with a checksum.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{decode_varint, encode_varint};

use super::{RestoreError, damaged};
use crate::engine::Family;

/// A frame of entries is closed once it has this many bytes.
pub(super) const FRAME_BYTES: usize = 64 << 10;
/// No frame is longer: one entry of the largest size that a request can have, with room.
const MAX_FRAME: u32 = 1 << 30;
/// Kind and length before the payload.
pub(super) const HEAD: usize = 5;
/// The checksum behind it.
pub(super) const CHECKSUM: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Entries,
    End,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Entries => b'E',
            Kind::End => b'Z',
        }
    }
}

/// A frame being filled.
pub(super) struct Frame(BytesMut);

impl Frame {
    pub(super) fn new(kind: Kind) -> Frame {
        let mut bytes = BytesMut::with_capacity(1024);
        bytes.put_u8(kind.byte());
        bytes.put_u32(0);
        Frame(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == HEAD
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= FRAME_BYTES
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }

    pub(super) fn entry(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.0.put_u8(match family {
            Family::History => 0,
            Family::Meta => 1,
        });
        encode_varint(key.len() as u64, &mut self.0);
        encode_varint(value.len() as u64, &mut self.0);
        self.put(key);
        self.put(value);
    }

    pub(super) fn finish(mut self) -> Bytes {
        let len = (self.0.len() - HEAD) as u32;
        if let Some(place) = self.0.get_mut(1..HEAD) {
            place.copy_from_slice(&len.to_be_bytes());
        }
        let crc = crc32c::crc32c(&self.0);
        self.0.put_u32(crc);
        self.0.freeze()
    }
}

/// Kind and payload length from the bytes before a payload.
pub(super) fn parse_head(head: [u8; HEAD]) -> Result<(Kind, u32), RestoreError> {
    let [kind, length @ ..] = head;
    let kind = match kind {
        b'E' => Kind::Entries,
        b'Z' => Kind::End,
        _ => return Err(damaged("a frame of an unknown kind")),
    };
    match u32::from_be_bytes(length) {
        len if len > MAX_FRAME => Err(damaged("a frame that is too long")),
        len => Ok((kind, len)),
    }
}

pub(super) fn check(head: [u8; HEAD], payload: &[u8], sum: [u8; CHECKSUM]) -> Result<(), RestoreError> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head), payload);
    if crc == u32::from_be_bytes(sum) { Ok(()) } else { Err(damaged("the checksum of a frame is wrong")) }
}

/// Takes the first entry of a payload.
pub(super) fn take_entry(payload: &mut Bytes) -> Result<(Family, Bytes, Bytes), RestoreError> {
    let short = || damaged("an entry is cut short");
    let family = match payload.try_get_u8() {
        Ok(0) => Family::History,
        Ok(1) => Family::Meta,
        _ => return Err(damaged("an entry of an unknown family")),
    };
    let key_len = decode_varint(payload).map_err(|_| short())?;
    let value_len = decode_varint(payload).map_err(|_| short())?;
    let mut take = |len: u64| {
        let len = usize::try_from(len).ok().filter(|len| *len <= payload.len()).ok_or_else(short)?;
        Ok::<Bytes, RestoreError>(payload.split_to(len))
    };
    Ok((family, take(key_len)?, take(value_len)?))
}
