//! Frames between the servers of a cluster.
//!
//! They come to the same ports as those of clients, and begin with a hello of their own. What they say about partitions
//! and to the control group is opaque here.

use bytes::Bytes;
use crucial_object::{Error, decode, encode_into};
use serde::{Deserialize, Serialize};

use super::decode::{malformed, take, take_u8, take_u16, take_u64};
use super::encode::write;
use super::{MAGIC, VERSION};

mod kind {
    pub const HELLO: u8 = 0x20;
    pub const MESSAGES: u8 = 0x21;
    pub const ASK: u8 = 0x22;
    pub const WELCOME: u8 = 0xa0;
    pub const ANSWER: u8 = 0xa2;
    pub const REFUSED: u8 = super::super::kind::REFUSED;
}

/// The first frame of a connection: the server that connects, and the one that it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster of the server that connects; 0: it has none yet.
    pub cluster: u64,
    /// The server that connects.
    pub from: u64,
    /// Its incarnation.
    pub incarnation: u64,
    /// The server and the incarnation that it wants to reach; `None`: any.
    pub to: Option<(u64, u64)>,
}

/// The answer to a hello: the server that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its cluster; 0: it has none yet.
    pub cluster: u64,
    /// Which server.
    pub node: u64,
    /// Its incarnation.
    pub incarnation: u64,
    /// Longest frame that it takes, in bytes after the length.
    pub frame_bytes_max: u64,
}

/// A frame between servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first of a connection.
    Hello {
        /// The protocol version of the server that connects.
        version: u16,
        /// Its contents, if the version is ours.
        hello: Option<Hello>,
    },
    /// The answer to it.
    Welcome(Welcome),
    /// The answer, if there is to be no connection.
    Refused(Error),
    /// Messages about partitions. No answer.
    Messages(Bytes),
    /// A question to the control group.
    Ask {
        /// The answer has the same.
        id: u64,
        /// The request.
        body: Bytes,
    },
    /// The answer to it.
    Answer {
        /// As it was asked.
        id: u64,
        /// The response.
        body: Bytes,
    },
}

/// Whether a frame is one between servers, and none of a client.
pub fn is_of_peer(frame: &[u8]) -> bool {
    matches!(frame.first(), Some(kind::HELLO..=kind::ASK))
}

/// Decodes a frame, of either side.
pub fn decode_frame(mut frame: Bytes) -> Result<Frame, Error> {
    match take_u8(&mut frame)? {
        kind::HELLO => {
            let magic = take(&mut frame, MAGIC.len())?;
            if magic[..] != MAGIC {
                return Err(malformed("no Crucial server".to_owned()));
            }
            let version = take_u16(&mut frame)?;
            let hello = match version == VERSION {
                true => Some(decode(&frame)?),
                false => None,
            };
            Ok(Frame::Hello { version, hello })
        }
        kind::WELCOME => Ok(Frame::Welcome(decode(&frame)?)),
        kind::REFUSED => Ok(Frame::Refused(decode(&frame)?)),
        kind::MESSAGES => Ok(Frame::Messages(frame)),
        kind::ASK => Ok(Frame::Ask {
            id: take_u64(&mut frame)?,
            body: frame,
        }),
        kind::ANSWER => Ok(Frame::Answer {
            id: take_u64(&mut frame)?,
            body: frame,
        }),
        other => Err(malformed(format!("a frame of the unknown kind {other}"))),
    }
}

/// Appends a hello.
pub fn write_hello(hello: &Hello, out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind::HELLO, |out| {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        encode_into(hello, out)
    })
}

/// Appends a welcome.
pub fn write_welcome(welcome: &Welcome, out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind::WELCOME, |out| encode_into(welcome, out))
}

/// Appends messages about partitions, which `body` encodes.
pub fn write_messages(
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    write(out, kind::MESSAGES, body)
}

/// Appends a question to the control group.
pub fn write_ask(id: u64, body: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    write_numbered(kind::ASK, id, body, out)
}

/// Appends the answer to one.
pub fn write_answer(id: u64, body: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    write_numbered(kind::ANSWER, id, body, out)
}

fn write_numbered(kind: u8, id: u64, body: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind, |out| {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(body);
        Ok(())
    })
}
