//! Reads just what must be checked from gRPC-framed answers: no message is built, nothing allocated.

/// Bytes of a gRPC message's prefix: a flag and a length.
const PREFIX: usize = 5;
/// Larger messages than this are taken for garbage.
const LARGEST: usize = 1 << 30;

/// An answer that is not what the protocol has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Compressed, though no compression was offered.
    #[error("a compressed message, though none was asked for")]
    Compressed,
    /// A length that no server sends.
    #[error("a message of {0} bytes")]
    TooLarge(usize),
    /// It ends in the middle of a field.
    #[error("a message that ends in the middle of a field")]
    Truncated,
    /// A wire type that protobuf 3 does not use.
    #[error("a field of wire type {0}")]
    WireType(u64),
}

/// Cuts a stream of bytes into gRPC messages. Only a message that arrives in pieces is copied.
#[derive(Debug, Default)]
pub struct Frames {
    /// The beginning of a message whose rest is to come, with its prefix.
    begun: Vec<u8>,
}

impl Frames {
    /// Takes the next bytes, and calls `each` with every message that they complete.
    ///
    /// # Errors
    /// [`Malformed`], its own or that of `each`. The stream is of no use afterwards.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.begun.is_empty() {
            if !self.complete(&mut bytes)? {
                return Ok(());
            }
            each(self.begun.get(PREFIX..).ok_or(Malformed::Truncated)?)?;
            self.begun.clear();
        }
        while let Some(length) = message_length(bytes)? {
            let Some(message) = bytes.get(PREFIX..PREFIX + length) else { break };
            each(message)?;
            bytes = bytes.get(PREFIX + length..).unwrap_or_default();
        }
        self.begun.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds to the begun message what belongs to it. False when that is not all of it yet.
    fn complete(&mut self, bytes: &mut &[u8]) -> Result<bool, Malformed> {
        loop {
            let length = message_length(&self.begun)?;
            let missing = length.map_or(PREFIX, |length| PREFIX + length) - self.begun.len();
            if missing == 0 && length.is_some() {
                return Ok(true);
            }
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.begun.extend_from_slice(now);
            *bytes = later;
            if now.len() < missing {
                return Ok(false);
            }
        }
    }
}

/// The length in a message's prefix, if that is all there.
fn message_length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(&[flag, a, b, c, d]) = bytes.first_chunk() else { return Ok(None) };
    if flag != 0 {
        return Err(Malformed::Compressed);
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > LARGEST { Err(Malformed::TooLarge(length)) } else { Ok(Some(length)) }
}

/// The fields of a protobuf message, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

/// A field's content.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// What a protobuf `int64` or `bool` means.
    fn number(self) -> i64 {
        match self {
            Value::Number(n) => n.cast_signed(),
            Value::Bytes(_) => 0,
        }
    }
}

impl<'a> Fields<'a> {
    /// The next field's number and content.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| Malformed::Truncated)?)?)
            }
            5 => Value::Bytes(self.take(4)?),
            other => return Err(Malformed::WireType(other)),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(Malformed::Truncated)
    }
}

/// What a `WatchResponse` says, its events aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// The header's revision.
    pub revision: i64,
    /// Which watcher it is for.
    pub watch_id: i64,
    /// It answers a create.
    pub created: bool,
    /// The watcher has ended.
    pub canceled: bool,
    /// More of the same revision follows.
    pub fragment: bool,
    /// Set when the watcher ended because of a compaction.
    pub compact_revision: i64,
    /// Why it ended.
    pub cancel_reason: &'a [u8],
    /// From the first event on.
    events: &'a [u8],
}

/// One event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The revision that it is of.
    pub mod_revision: i64,
    /// The first 8 bytes of the value, little-endian; 0 when it is shorter.
    pub stamp: u64,
    /// Whether it carries the pair before it.
    pub has_prev: bool,
}

impl<'a> Response<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(message: &'a [u8]) -> Result<Response<'a>, Malformed> {
        let mut response = Response::default();
        let mut fields = Fields { rest: message };
        loop {
            let at = fields.rest;
            let Some((number, value)) = fields.next()? else { return Ok(response) };
            match (number, value) {
                (1, Value::Bytes(header)) => response.revision = number_in(header, 3)?,
                (2, value) => response.watch_id = value.number(),
                (3, value) => response.created = value.number() != 0,
                (4, value) => response.canceled = value.number() != 0,
                (5, value) => response.compact_revision = value.number(),
                (6, Value::Bytes(text)) => response.cancel_reason = text,
                (7, value) => response.fragment = value.number() != 0,
                (11, _) if response.events.is_empty() => response.events = at,
                _ => {}
            }
        }
    }

    /// Whether it has events.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Its events, in order.
    pub fn events(&self) -> Events<'a> {
        Events { fields: Fields { rest: self.events } }
    }
}

/// The events of a response.
pub struct Events<'a> {
    fields: Fields<'a>,
}

impl Iterator for Events<'_> {
    type Item = Result<Event, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.fields.next() {
                Ok(Some((11, Value::Bytes(event)))) => return Some(read_event(event)),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn read_event(bytes: &[u8]) -> Result<Event, Malformed> {
    let mut event = Event::default();
    let mut fields = Fields { rest: bytes };
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (2, Value::Bytes(pair)) => read_pair(pair, &mut event)?,
            (3, _) => event.has_prev = true,
            _ => {}
        }
    }
    Ok(event)
}

fn read_pair(bytes: &[u8], event: &mut Event) -> Result<(), Malformed> {
    let mut fields = Fields { rest: bytes };
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (3, value) => event.mod_revision = value.number(),
            (5, Value::Bytes(value)) => {
                event.stamp = value.first_chunk().map_or(0, |stamp| u64::from_le_bytes(*stamp));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the answer of a unary call says. Its fields mean what the method says: a range's pairs and their
/// count, whether a transaction succeeded, a lease's id and TTL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Calls that were made for it.
    pub calls: u64,
    /// Bytes of all messages.
    pub bytes: u64,
    /// The header's revision, of the last message.
    pub revision: i64,
    /// Fields number 2 that hold bytes: pairs.
    pub pairs: u64,
    /// Field number 2 as a number: `succeeded`, `deleted`, `ID`.
    pub second: i64,
    /// Field number 3: `more`, `TTL`.
    pub third: i64,
    /// Field number 4: `count`.
    pub fourth: i64,
}

impl Answer {
    /// Adds a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(&mut self, message: &[u8]) -> Result<(), Malformed> {
        self.bytes += message.len() as u64;
        let mut fields = Fields { rest: message };
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(header)) => self.revision = number_in(header, 3)?,
                (2, Value::Bytes(_)) => self.pairs += 1,
                (2, value) => self.second = value.number(),
                (3, value @ Value::Number(_)) => self.third = value.number(),
                (4, value) => self.fourth = value.number(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds a message that holds another, a `RangeStreamResponse`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read_wrapped(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields { rest: message };
        while let Some((number, value)) = fields.next()? {
            if let (1, Value::Bytes(inner)) = (number, value) {
                self.read(inner)?;
            }
        }
        Ok(())
    }
}

fn number_in(message: &[u8], wanted: u64) -> Result<i64, Malformed> {
    let mut fields = Fields { rest: message };
    while let Some((number, value)) = fields.next()? {
        if number == wanted {
            return Ok(value.number());
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
