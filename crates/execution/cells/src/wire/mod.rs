//! What travels between the coordinator and the hosts of a world, and between its hosts.
//!
//! Every connection is mutual TLS under the world's own authority and begins with a [`Hello`]. After the handshakes it carries bytes in
//! one direction only, but for a [`transfer`](crate::host), which alternates: so plain blocking reads and writes do, and no connection
//! needs a lock that both directions share. What a host and its coordinator say to each other survives its connections: [`session`].

pub(crate) mod link;
pub(crate) mod messages;
pub(crate) mod session;
pub(crate) mod socket;

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

pub(crate) use auth::{Identity, Stream, Tls};
pub(crate) use messages::{Hello, Purpose};

/// The longest message, bytes. Modules and snapshots travel in pieces below it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 72 << 20;

/// Writes one message: its length as u32, then its postcard encoding.
pub(crate) fn send<T: Serialize>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    stream.write_all(&encode(message)?)?;
    stream.flush()
}

/// The bytes of a message.
pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let len = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MESSAGE_BYTES_MAX);
    let len = len.ok_or_else(|| io::Error::other("message too long"))?;
    let mut framed = Vec::with_capacity(body.len() + 4);
    framed.extend_from_slice(&len.to_le_bytes());
    framed.extend_from_slice(&body);
    Ok(framed)
}

/// Reads one message.
pub(crate) fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = usize::try_from(u32::from_le_bytes(len)).map_err(invalid)?;
    if len > MESSAGE_BYTES_MAX {
        return Err(invalid(format!("a message of {len} bytes is too long")));
    }
    // The buffer grows with what really arrives: a length alone claims no memory.
    let mut body = Vec::with_capacity(len.min(1 << 20));
    if stream.by_ref().take(len as u64).read_to_end(&mut body)? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&body).map_err(invalid)
}

pub(crate) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
