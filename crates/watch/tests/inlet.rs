//! What a client's connection takes of a stream: so many bytes at a time, and at most one response.

use prost::Message;
use stentor_proto::etcdserverpb::WatchResponse;
use stentor_watch::Outbox;

#[derive(Default)]
pub(crate) struct Inlet {
    /// Bytes taken at a time; 0 for a whole response.
    pub(crate) room: usize,
    left: usize,
    len: Option<usize>,
    bytes: Vec<u8>,
    moved: bool,
}

impl Inlet {
    pub(crate) fn of_room(room: usize) -> Inlet {
        Inlet { room, ..Inlet::default() }
    }

    /// Ready to take as much as it does at a time.
    pub(crate) fn open(&mut self) -> &mut Inlet {
        self.left = if self.room == 0 { usize::MAX } else { self.room };
        self.moved = false;
        self
    }

    /// The response, once it is there whole.
    pub(crate) fn take(&mut self) -> Option<WatchResponse> {
        let len = self.len.filter(|len| self.bytes.len() == *len)?;
        self.len = None;
        let response = WatchResponse::decode(&self.bytes[..]).unwrap();
        assert_eq!(response.encoded_len(), len, "it is not as prost encodes it: {response:?}");
        self.bytes.clear();
        Some(response)
    }

    pub(crate) fn has_moved(&self) -> bool {
        self.moved
    }
}

impl Outbox for Inlet {
    fn room(&self) -> usize {
        self.len.map_or(self.left, |len| (len - self.bytes.len()).min(self.left))
    }

    fn begin(&mut self, len: usize) {
        assert!(self.len.is_none() && self.left > 0, "a response begins in another, or without room");
        self.len = Some(len);
    }

    fn put(&mut self, bytes: &[u8]) {
        let missing = self.len.expect("bytes of no response") - self.bytes.len();
        assert!(bytes.len() <= missing.min(self.left), "more than there is room for");
        self.bytes.extend_from_slice(bytes);
        self.left -= bytes.len();
        self.moved |= !bytes.is_empty();
    }
}
