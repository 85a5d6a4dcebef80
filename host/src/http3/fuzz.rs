//! Entrances for the fuzz target: the parsers of this module, by pieces of input.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "to panic is what a target is for"
)]

use bytes::Bytes;

use super::capsule::{Capsules, Malformed};
use super::data::DataFrames;
use super::qpack::{self, Unreadable};
use super::request::{RequestStart, Start};
use super::uni::{Critical, UniStream};
use super::{Code, MAX_HEAD, datagram, message, varint};

/// A kind of stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Uni,
    Request,
    Data,
    Body,
    Capsules,
    Datagram,
}

/// Reads a stream in pieces of at most `piece` bytes. Gives the content that was found, or the code of its error.
pub(crate) fn read(stream: Stream, bytes: &[u8], piece: usize) -> Result<Vec<u8>, Code> {
    match stream {
        Stream::Uni => uni(bytes, piece),
        Stream::Request => request(bytes, piece),
        Stream::Data => data(DataFrames::of_tunnel(), bytes, piece),
        Stream::Body => data(DataFrames::of_request(), bytes, piece),
        Stream::Capsules => Ok(capsules(bytes, piece)),
        Stream::Datagram => datagram(bytes),
    }
}

fn uni(bytes: &[u8], piece: usize) -> Result<Vec<u8>, Code> {
    let (mut stream, mut critical) = (UniStream::new(), Critical::default());
    for part in bytes.chunks(piece) {
        stream.read(part, |kind| critical.take(kind))?;
    }
    stream.end().map(|()| Vec::new())
}

fn request(mut bytes: &[u8], piece: usize) -> Result<Vec<u8>, Code> {
    let mut start = RequestStart::new();
    while !bytes.is_empty() {
        let (next, rest) = bytes.split_at(start.wants().min(piece).min(bytes.len()));
        assert!(!next.is_empty(), "it wants nothing, and has not ended");
        bytes = rest;
        match start.read(next)? {
            None => {}
            Some(Start::Fields(section)) => {
                assert!(section.len() <= MAX_HEAD);
                check_fields(&section);
                return Ok([&section, bytes].concat());
            }
            Some(Start::TooLarge | Start::OfSession(_)) => return Ok(bytes.to_vec()),
        }
    }
    Ok(Vec::new())
}

fn data(mut frames: DataFrames, bytes: &[u8], piece: usize) -> Result<Vec<u8>, Code> {
    let mut data = Vec::new();
    for part in bytes.chunks(piece) {
        let mut part = part.to_vec();
        let length = frames.take_apart(&mut part)?;
        data.extend_from_slice(&part[..length]);
    }
    data.push(frames.is_whole().into());
    Ok(data)
}

/// A datagram that is read is the same when it is written anew.
fn datagram(bytes: &[u8]) -> Result<Vec<u8>, Code> {
    let read = datagram::read(Bytes::copy_from_slice(bytes));
    let (stream, payload) = read.ok_or(Code::Datagram)?;
    let mut again = Vec::new();
    varint::put(&mut again, stream / 4);
    let again = Bytes::from([&again[..], &payload].concat());
    assert_eq!(datagram::read(again), Some((stream, payload.clone())));
    Ok(payload.into())
}

fn capsules(bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut capsules = Capsules::default();
    for part in bytes.chunks(piece) {
        match capsules.read(part) {
            Ok(None) => {}
            Ok(Some(close)) => return format!("{close:?}").into(),
            Err(Malformed) => return b"malformed".to_vec(),
        }
    }
    Vec::new()
}

/// A field section is within its bound, reads the same when it is written anew, and gives a head or none.
pub(crate) fn check_fields(section: &[u8]) {
    match qpack::decode(section, MAX_HEAD) {
        Err(Unreadable::Malformed | Unreadable::TooLarge) => {}
        Ok(fields) => {
            let size = fields
                .iter()
                .map(|(name, value)| name.len() + value.len() + 32);
            assert!(size.sum::<usize>() <= MAX_HEAD);
            let again = qpack::encode(fields.iter().map(|(name, value)| (&**name, &**value)));
            assert_eq!(qpack::decode(&again, MAX_HEAD).as_ref(), Ok(&fields));
            if let Some(parts) = message::request(fields) {
                assert!(
                    parts
                        .uri
                        .authority()
                        .is_none_or(|host| !host.as_str().is_empty())
                );
            }
        }
    }
}
