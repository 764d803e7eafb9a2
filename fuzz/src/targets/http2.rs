//! Frames of HTTP/2 and gRPC, for samples.

const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
/// Bytes of a frame's header.
pub(super) const FRAME_HEAD: usize = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(super) fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

pub(super) fn headers(stream: u32, fields: &[(&str, &str)], is_last: bool) -> Vec<u8> {
    // Literals that are not indexed, the simplest form: lengths and text.
    let literal = |(name, value): &(&str, &str)| {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    let block: Vec<u8> = fields.iter().flat_map(literal).collect();
    frame(HEADERS, END_HEADERS | last(is_last), stream, &block)
}

pub(super) fn data(stream: u32, payload: &[u8], is_last: bool) -> Vec<u8> {
    frame(DATA, last(is_last), stream, payload)
}

/// A message as gRPC has it in the data.
pub(super) fn message(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn last(is_last: bool) -> u8 {
    if is_last { END_STREAM } else { 0 }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, mid, low] = (payload.len() as u32).to_be_bytes();
    [&[high, mid, low, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}
