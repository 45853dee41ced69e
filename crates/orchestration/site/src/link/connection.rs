//! Frames on a connection that never waits.

use std::io::{self, Read as _, Write as _};

use auth::Stream;
use serde::Serialize;
use workload::link::{Down, frame_head, parse_frame_head};

const HEAD_BYTES: usize = 8;
/// How much is read at once, and how much room is kept between frames.
const READ_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
}

/// The message is longer than a frame may be.
#[derive(Debug)]
pub(crate) struct TooLong;

impl Connection {
    /// The socket must be non-blocking.
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
        }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Leaves a message to be sent by [`flush`](Self::flush).
    pub(crate) fn send(&mut self, message: &impl Serialize, payload: &[u8]) -> Result<(), TooLong> {
        let frame = frame(message, payload).ok_or(TooLong)?;
        self.outgoing.extend(frame);
        Ok(())
    }

    /// Sends what the socket takes now. Whether all is sent.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.sent += len,
                Err(error) => return not_now(error).map(|()| false),
            }
        }
        match self.stream.flush() {
            Ok(()) => {}
            Err(error) => return not_now(error).map(|()| false),
        }
        if !self.outgoing.is_empty() {
            self.outgoing = Vec::new();
            self.sent = 0;
        }
        Ok(true)
    }

    /// The next message, if it is there. What is no message ends the connection.
    pub(crate) fn receive(&mut self) -> io::Result<Option<(Down, Vec<u8>)>> {
        loop {
            if let Some(message) = take_frame(&mut self.incoming)? {
                return Ok(Some(message));
            }
            // A frame's length is only what its sender says: room is made for what has really come.
            let len = self.incoming.len();
            self.incoming.resize(len + READ_BYTES, 0);
            let read = self.stream.read(&mut self.incoming[len..]);
            self.incoming
                .truncate(len + read.as_ref().map_or(0, |n| *n));
            match read {
                Ok(0) => return Err(io::Error::other("the controller hung up")),
                Ok(_) => {}
                Err(error) => {
                    if self.incoming.is_empty() {
                        self.incoming = Vec::new();
                    }
                    return not_now(error).map(|()| None);
                }
            }
        }
    }
}

/// A message as bytes; `None` if it is too long.
fn frame(message: &impl Serialize, payload: &[u8]) -> Option<Vec<u8>> {
    let header = serde_json::to_vec(message).expect("keys are text, and numbers finite or null");
    let mut frame = frame_head(header.len(), payload.len())?.to_vec();
    frame.extend(header);
    frame.extend(payload);
    Some(frame)
}

/// Takes the first frame out of what has come, if it is whole.
fn take_frame(incoming: &mut Vec<u8>) -> io::Result<Option<(Down, Vec<u8>)>> {
    let Some(head) = incoming.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let nonsense = |why: String| io::Error::other(format!("the controller speaks nonsense: {why}"));
    let Some((header_len, payload_len)) = parse_frame_head(*head) else {
        return Err(nonsense("a frame is longer than allowed".into()));
    };
    let payload_at = HEAD_BYTES + header_len;
    let end = payload_at + payload_len;
    if incoming.len() < end {
        return Ok(None);
    }
    let message = serde_json::from_slice(&incoming[HEAD_BYTES..payload_at])
        .map_err(|error| nonsense(error.to_string()))?;
    let payload = incoming[payload_at..end].to_vec();
    incoming.drain(..end);
    Ok(Some((message, payload)))
}

fn not_now(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

/// The same frames on a connection that waits: for joining.
pub(crate) mod blocking {
    use super::{Down, Stream, frame, io, take_frame};
    use serde::Serialize;
    use std::io::{Read as _, Write as _};

    pub(crate) fn send(stream: &mut Stream, message: &impl Serialize) -> io::Result<()> {
        let frame = frame(message, &[]).ok_or_else(|| io::Error::other("it is too long"))?;
        stream.write_all(&frame)?;
        stream.flush()
    }

    pub(crate) fn receive(stream: &mut Stream) -> io::Result<Down> {
        let mut incoming = Vec::new();
        let mut piece = [0; 4096];
        loop {
            if let Some((message, _)) = take_frame(&mut incoming)? {
                return Ok(message);
            }
            match stream.read(&mut piece)? {
                0 => return Err(io::Error::other("the controller hung up")),
                len => incoming.extend(&piece[..len]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_arrive() {
        let refused = |reason: &str| Down::Refused {
            reason: reason.into(),
        };
        let mut bytes = frame(&refused("one"), b"payload").expect("short");
        bytes.extend(frame(&refused("two"), b"").expect("short"));
        for piece in 1..=bytes.len() {
            let mut incoming = Vec::new();
            let mut got = Vec::new();
            for part in bytes.chunks(piece) {
                incoming.extend(part);
                while let Some((message, payload)) = take_frame(&mut incoming).expect("frames") {
                    let Down::Refused { reason } = message else {
                        panic!("another message");
                    };
                    got.push((reason, payload));
                }
            }
            let expected = [("one".into(), b"payload".to_vec()), ("two".into(), vec![])];
            assert_eq!(got, expected);
        }
    }

    proptest! {
        /// Whatever comes, it is a message, or nonsense, or not all there yet; and never a panic.
        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..200), head: bool) {
            if head && bytes.len() > 8 {
                let len = u32::try_from(bytes.len() - 8).expect("short");
                bytes[..4].copy_from_slice(&len.to_le_bytes());
                bytes[4..8].fill(0);
            }
            take_frame(&mut bytes).ok();
        }
    }
}
