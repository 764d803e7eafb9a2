//! Puts responses together into frames that fill HTTP/2's.

use bytes::{Bytes, BytesMut};
use stentor_watch::Outbox;

use crate::rpc::raw::PREFIX_BYTES;

/// What a DATA frame holds unless the client asked for larger ones.
pub(super) const FRAME_BYTES: usize = 16 << 10;

/// A small response may go beyond a frame's end by so much, which begins the next frame: it is not worth
/// being kept apart.
const OVERHANG_BYTES: usize = 4 << 10;

/// What a frame begins with if the one before was no longer.
const SMALL_BYTES: usize = 512;

/// Bytes of responses, each behind its prefix, until the connection takes them.
#[derive(Default)]
pub(super) struct Packer {
    bytes: BytesMut,
    /// The length of the last frame: the next may be alike.
    last: usize,
}

impl Packer {
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FRAME_BYTES
    }

    /// The next frame; `None` if there is nothing. With nothing left, no memory is held.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.bytes.is_empty() {
            return None;
        }
        let frame = if self.is_full() { self.bytes.split_to(FRAME_BYTES) } else { std::mem::take(&mut self.bytes) };
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
        self.last = frame.len();
        Some(frame.freeze())
    }

    fn reserve(&mut self, len: usize) {
        if self.bytes.capacity() == 0 {
            let alike = if self.last > SMALL_BYTES { FRAME_BYTES + OVERHANG_BYTES } else { SMALL_BYTES };
            self.bytes.reserve(alike.max(len.min(FRAME_BYTES)));
        }
    }
}

impl Outbox for Packer {
    fn room(&self) -> usize {
        if self.is_full() { 0 } else { FRAME_BYTES + OVERHANG_BYTES - self.bytes.len() }
    }

    fn begin(&mut self, len: usize) {
        self.reserve(PREFIX_BYTES + len);
        // A response beyond 4 GiB can't be framed; history has no revision of that size.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&[0]);
        self.bytes.extend_from_slice(&len.to_be_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_full_while_there_is_more_and_hold_nothing_after() {
        let mut packer = Packer::default();
        assert!(packer.take().is_none());
        let mut sent = Vec::new();
        let mut expected = Vec::new();
        for n in 0..200u8 {
            while packer.room() == 0 {
                let frame = packer.take().unwrap();
                assert_eq!(frame.len(), FRAME_BYTES);
                sent.extend_from_slice(&frame);
            }
            let message = vec![n; 40 * usize::from(n)];
            packer.begin(message.len());
            expected.push(0);
            expected.extend_from_slice(&(message.len() as u32).to_be_bytes());
            expected.extend_from_slice(&message);
            // As a stream does: what there is no room for comes later.
            let mut rest = &message[..];
            while !rest.is_empty() {
                if packer.room() == 0 {
                    sent.extend_from_slice(&packer.take().unwrap());
                }
                let (now, later) = rest.split_at(rest.len().min(packer.room()));
                packer.put(now);
                rest = later;
            }
        }
        while let Some(frame) = packer.take() {
            sent.extend_from_slice(&frame);
        }
        assert!(sent == expected);
        assert_eq!(packer.bytes.capacity(), 0);
    }
}
