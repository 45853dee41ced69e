//! One connection of the node protocol: its frames, over TCP or TLS.

use std::fmt;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use geds_core::{Error, Kind};
use rustix::net::sockopt;
use rustls::ConnectionCommon;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::wire::proof::{Binding, LABEL};
use crate::wire::{BODY_BYTES_MAX, HEADER_BYTES, Header, Op, Reply, describe};

const BUFFER_BYTES: usize = 64 << 10;
/// So many pieces are given to the kernel at a time.
const SLICES_MAX: usize = 64;
/// A peer that is gone without a word is found out after about half a minute.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EACH: Duration = Duration::from_secs(5);
const KEEPALIVES_MAX: u32 = 4;

/// What comes in.
pub struct Incoming(BufReader<Box<dyn AsyncRead + Send + Unpin>>);

/// What goes out.
pub struct Outgoing(Box<dyn AsyncWrite + Send + Unpin>);

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}

/// Both ends of a connection over plain TCP.
pub fn plain(socket: TcpStream) -> io::Result<(Incoming, Outgoing)> {
    set_up(&socket)?;
    let (incoming, outgoing) = socket.into_split();
    Ok((Incoming::new(incoming), Outgoing(Box::new(outgoing))))
}

/// The same within TLS.
pub fn secure(stream: TlsStream<TcpStream>) -> io::Result<(Incoming, Outgoing)> {
    set_up(stream.get_ref().0)?;
    let (incoming, outgoing) = tokio::io::split(stream);
    Ok((Incoming::new(incoming), Outgoing(Box::new(outgoing))))
}

/// What only the two ends of a TLS connection know.
pub fn binding<T>(connection: &ConnectionCommon<T>) -> io::Result<Binding> {
    let exported = connection.export_keying_material(Binding::default(), LABEL, None);
    exported.map_err(io::Error::other)
}

fn set_up(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EACH)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVES_MAX)?;
    Ok(())
}

impl Incoming {
    fn new(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self(BufReader::with_capacity(BUFFER_BYTES, Box::new(stream)))
    }

    /// Waits until there is something; `false`: there will be nothing any more. Cancel-safe.
    pub async fn wait(&mut self) -> io::Result<bool> {
        Ok(!self.0.fill_buf().await?.is_empty())
    }

    pub async fn header(&mut self) -> io::Result<[u8; HEADER_BYTES]> {
        let mut bytes = [0; HEADER_BYTES];
        self.0.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// So many, which are known to be not too many.
    pub async fn bytes(&mut self, n_bytes: usize) -> io::Result<Bytes> {
        if n_bytes == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = BytesMut::with_capacity(n_bytes).limit(n_bytes);
        while bytes.has_remaining_mut() {
            if self.0.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(bytes.into_inner().freeze())
    }

    /// Takes so many, and forgets them.
    pub async fn skip(&mut self, mut n_bytes: usize) -> io::Result<()> {
        while n_bytes > 0 {
            let n_now = self.0.fill_buf().await?.len().min(n_bytes);
            if n_now == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.0.consume(n_now);
            n_bytes -= n_now;
        }
        Ok(())
    }
}

impl Outgoing {
    /// Sends frames, without a copy of their data in this process. The kernel makes one, and so what was sent may be let go at once. With
    /// `sendfile` it would not: the pages themselves would wait in the sockets, on loopback until the other process has read them, and nobody
    /// tells when they may be used for something else.
    pub async fn send(&mut self, frames: &[Frame]) -> io::Result<()> {
        let mut slices = Vec::with_capacity(2 * frames.len());
        for frame in frames {
            slices.push(IoSlice::new(&frame.head));
            slices.extend(frame.data.iter().map(|piece| IoSlice::new(piece)));
        }
        for slices in slices.chunks_mut(SLICES_MAX) {
            let mut slices = slices;
            while !slices.is_empty() {
                let n_bytes = self.0.write_vectored(slices).await?;
                if n_bytes == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                IoSlice::advance_slices(&mut slices, n_bytes);
            }
        }
        self.0.flush().await
    }

    pub async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// A frame that goes out.
#[derive(Debug)]
pub struct Frame {
    /// Header and body.
    head: Vec<u8>,
    data: Vec<Bytes>,
}

impl Frame {
    pub fn request(request: u64, op: Op, body: &[u8], data: Vec<Bytes>) -> Self {
        Self::new(
            Header {
                op: op.code(),
                is_reply: false,
                error: None,
                request,
                body_bytes: body.len(),
                data_bytes: data.iter().map(Bytes::len).sum(),
            },
            body,
            data,
        )
    }

    pub fn reply(request: u64, op: u8, reply: &impl Reply, data: Vec<Bytes>) -> Self {
        let body = reply.encode();
        if body.len() > BODY_BYTES_MAX {
            let error = Error::new(Kind::Exhausted, "the answer is longer than a frame");
            return Self::refusal(request, op, &error);
        }
        Self::new(
            Header {
                op,
                is_reply: true,
                error: None,
                request,
                body_bytes: body.len(),
                data_bytes: data.iter().map(Bytes::len).sum(),
            },
            &body,
            data,
        )
    }

    pub fn refusal(request: u64, op: u8, error: &Error) -> Self {
        let body = describe(error);
        Self::new(
            Header {
                op,
                is_reply: true,
                error: Some(error.kind),
                request,
                body_bytes: body.len(),
                data_bytes: 0,
            },
            &body,
            Vec::new(),
        )
    }

    fn new(header: Header, body: &[u8], data: Vec<Bytes>) -> Self {
        let head = [&header.encode()[..], body].concat();
        Self { head, data }
    }

    pub fn bytes(&self) -> usize {
        self.head.len() + self.data.iter().map(Bytes::len).sum::<usize>()
    }
}
