//! Where HTTP/2 frames begin and end in a stream of bytes.
//!
//! h2 does not tell which frames pass, and two rules need to know: a client must not ping too often, and
//! a connection must get past its handshake in time.

/// What opens every HTTP/2 connection, from the client.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER_LEN: usize = 9;

/// The frame types looked at.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PING: u8 = 6;

/// The flag of a PING (and SETTINGS) that answers one.
pub(crate) const FLAG_ACK: u8 = 1;

/// The fixed part of a frame that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
}

/// Finds headers of a fixed length, each followed by a payload whose length it tells, in bytes that come in
/// pieces of any size: HTTP/2's frames, or gRPC's messages within them.
#[derive(Debug)]
pub(crate) struct Framing<const HEADER: usize> {
    header: [u8; HEADER],
    /// How much of `header` is filled.
    filled: usize,
    /// Bytes of payload still to come.
    payload: usize,
}

impl<const HEADER: usize> Default for Framing<HEADER> {
    fn default() -> Self {
        Framing { header: [0; HEADER], filled: 0, payload: 0 }
    }
}

impl<const HEADER: usize> Framing<HEADER> {
    /// Whether the bytes so far end with a whole payload.
    pub(crate) fn at_boundary(&self) -> bool {
        self.filled == 0 && self.payload == 0
    }

    /// Takes the next bytes and calls `on_header`, which returns the payload's length, for each header that
    /// they complete.
    fn feed_raw(&mut self, mut bytes: &[u8], mut on_header: impl FnMut(&[u8; HEADER]) -> usize) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let (now, rest) = bytes.split_at((HEADER - self.filled).min(bytes.len()));
            if let Some(room) = self.header.get_mut(self.filled..self.filled + now.len()) {
                room.copy_from_slice(now);
            }
            self.filled += now.len();
            bytes = rest;
            if self.filled == HEADER {
                self.filled = 0;
                self.payload = on_header(&self.header);
            }
        }
    }
}

/// HTTP/2's frames.
pub(crate) type FrameScanner = Framing<HEADER_LEN>;

impl FrameScanner {
    /// Takes the next bytes and calls `on_frame` for each frame header that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut on_frame: impl FnMut(FrameHeader)) {
        self.feed_raw(bytes, |[high, mid, low, kind, flags, ..]| {
            on_frame(FrameHeader { kind: *kind, flags: *flags });
            usize::from(*high) << 16 | usize::from(*mid) << 8 | usize::from(*low)
        });
    }
}

/// gRPC's messages: a flag and four bytes of length, then the message.
pub(crate) type MessageScanner = Framing<5>;

impl MessageScanner {
    /// Takes the next bytes and returns how many messages begin in them.
    pub(crate) fn count(&mut self, bytes: &[u8]) -> u64 {
        let mut messages = 0;
        self.feed_raw(bytes, |[_, length @ ..]| {
            messages += 1;
            usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX)
        });
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let len = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER_LEN + payload, 0xaa);
        bytes
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let bytes = [frame(4, 0, 18), frame(PING, 0, 8), frame(DATA, 1, 70_000), frame(PING, FLAG_ACK, 8)].concat();
        for piece in [1, 2, 7, 9, 10, 1_000, bytes.len()] {
            let mut scanner = FrameScanner::default();
            let mut seen = Vec::new();
            for chunk in bytes.chunks(piece) {
                scanner.feed(chunk, |frame| seen.push((frame.kind, frame.flags)));
            }
            assert_eq!(seen, [(4, 0), (PING, 0), (DATA, 1), (PING, FLAG_ACK)], "pieces of {piece}");
            assert!(scanner.at_boundary());
        }
        let mut scanner = FrameScanner::default();
        scanner.feed(&bytes[..12], |_| {});
        assert!(!scanner.at_boundary());
    }

    #[test]
    fn messages_are_counted_however_the_bytes_are_cut() {
        let bytes = [&[0, 0, 0, 0, 0][..], &[0, 0, 0, 0, 3, 1, 2, 3], &[1, 0, 0, 1, 0], &[7; 256]].concat();
        for piece in [1, 3, 5, 6, bytes.len()] {
            let mut scanner = MessageScanner::default();
            assert_eq!(bytes.chunks(piece).map(|chunk| scanner.count(chunk)).sum::<u64>(), 3, "pieces of {piece}");
            assert!(scanner.at_boundary());
        }
    }
}
