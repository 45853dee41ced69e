//! Frames between ranks, and their acknowledgements, as bytes on a link between two hosts.
//!
//! ```text
//! item   = head_len u8 · payload_len u32 · head (postcard of Head) · payload
//! ```
//! The payload stands outside the head, so that message contents are neither copied into nor out of an encoder.

use std::io::{self, Read, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::messages::{Epoch, Rank};
use super::{MESSAGE_BYTES_MAX, invalid};
use crate::core::endpoint::frame::{Body, Frame};

/// One item of a link.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A frame, with the epochs of its sender and of its receiver as the sending host knows them.
    Frame {
        frame: Frame,
        from_epoch: Epoch,
        to_epoch: Epoch,
    },
    /// `by` has accepted the first `upto` frames of `of`.
    Ack { by: Rank, of: Rank, upto: u64 },
}

#[derive(Serialize, Deserialize)]
enum Head {
    Frame(FrameHead),
    Ack { by: u32, of: u32, upto: u64 },
}

/// A frame but for its payload.
#[derive(Serialize, Deserialize)]
struct FrameHead {
    from: u32,
    to: u32,
    from_epoch: u32,
    to_epoch: u32,
    seq: u64,
    ack: u64,
    body: BodyHead,
}

/// The fields of a [`Body`], in its order.
#[derive(Serialize, Deserialize)]
enum BodyHead {
    Eager(u32, i32),
    Rts(u32, i32, u32, u32),
    Cts(u32, u32, u32),
    Data(u32),
    Credit(u64, u32),
}

const HEAD_BYTES_MAX: usize = 96;

/// Writes one item; the caller buffers and flushes.
pub(crate) fn write(out: &mut impl Write, item: &Item) -> io::Result<()> {
    let (head, payload) = split(item);
    let mut buffer = [0; HEAD_BYTES_MAX];
    let head = postcard::to_slice(&head, &mut buffer).map_err(io::Error::other)?;
    let head_len = u8::try_from(head.len()).map_err(io::Error::other)?;
    let payload_len = u32::try_from(payload.len()).map_err(io::Error::other)?;
    out.write_all(&[head_len])?;
    out.write_all(&payload_len.to_le_bytes())?;
    out.write_all(head)?;
    out.write_all(payload)
}

/// Reads one item from an untrusted peer.
pub(crate) fn read(input: &mut impl Read) -> io::Result<Item> {
    let mut lens = [0; 5];
    input.read_exact(&mut lens)?;
    let head_len = usize::from(lens[0]);
    let payload_len = u32::from_le_bytes(lens[1..].try_into().expect("4 bytes")) as usize;
    if head_len > HEAD_BYTES_MAX || payload_len > MESSAGE_BYTES_MAX {
        return Err(invalid("an item of a link is too long"));
    }
    let mut head = [0; HEAD_BYTES_MAX];
    input.read_exact(&mut head[..head_len])?;
    let (head, rest) = postcard::take_from_bytes(&head[..head_len]).map_err(invalid)?;
    if !rest.is_empty() {
        return Err(invalid("an item of a link has a longer head than it needs"));
    }
    let mut payload = Vec::with_capacity(payload_len.min(1 << 20));
    if input
        .by_ref()
        .take(payload_len as u64)
        .read_to_end(&mut payload)?
        < payload_len
    {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    join(head, payload)
}

fn split(item: &Item) -> (Head, &[u8]) {
    match item {
        &Item::Ack { by, of, upto } => (Head::Ack { by, of, upto }, &[]),
        Item::Frame {
            frame,
            from_epoch,
            to_epoch,
        } => {
            let (body, payload) = split_body(&frame.body);
            let head = FrameHead {
                from: frame.from,
                to: frame.to,
                from_epoch: *from_epoch,
                to_epoch: *to_epoch,
                seq: frame.seq,
                ack: frame.ack,
                body,
            };
            (Head::Frame(head), payload)
        }
    }
}

fn split_body(body: &Body) -> (BodyHead, &[u8]) {
    match *body {
        Body::Eager { ctx, tag, ref data } => (BodyHead::Eager(ctx, tag), data),
        Body::Rts {
            ctx,
            tag,
            len,
            send_req,
        } => (BodyHead::Rts(ctx, tag, len, send_req), &[]),
        Body::Cts {
            send_req,
            recv_req,
            len,
        } => (BodyHead::Cts(send_req, recv_req, len), &[]),
        Body::Data { recv_req, ref data } => (BodyHead::Data(recv_req), data),
        Body::Credit { bytes, messages } => (BodyHead::Credit(bytes, messages), &[]),
    }
}

fn join(head: Head, payload: Vec<u8>) -> io::Result<Item> {
    let head = match head {
        Head::Frame(head) => head,
        Head::Ack { by, of, upto } if payload.is_empty() => return Ok(Item::Ack { by, of, upto }),
        Head::Ack { .. } => return Err(invalid("an acknowledgement has a payload")),
    };
    let frame = Frame {
        from: head.from,
        to: head.to,
        seq: head.seq,
        ack: head.ack,
        body: join_body(head.body, payload)?,
    };
    Ok(Item::Frame {
        frame,
        from_epoch: head.from_epoch,
        to_epoch: head.to_epoch,
    })
}

fn join_body(head: BodyHead, payload: Vec<u8>) -> io::Result<Body> {
    let carries = matches!(head, BodyHead::Eager(..) | BodyHead::Data(..));
    if !carries && !payload.is_empty() {
        return Err(invalid("a frame has a payload that it must not have"));
    }
    let data = Bytes::from(payload);
    Ok(match head {
        BodyHead::Eager(ctx, tag) => Body::Eager { ctx, tag, data },
        BodyHead::Data(recv_req) => Body::Data { recv_req, data },
        BodyHead::Credit(bytes, messages) => Body::Credit { bytes, messages },
        BodyHead::Rts(ctx, tag, len, send_req) => Body::Rts {
            ctx,
            tag,
            len,
            send_req,
        },
        BodyHead::Cts(send_req, recv_req, len) => Body::Cts {
            send_req,
            recv_req,
            len,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Item> {
        let data = Bytes::from_static(b"content");
        let bodies = [
            Body::Eager {
                ctx: 0,
                tag: -7,
                data: data.clone(),
            },
            Body::Rts {
                ctx: u32::MAX,
                tag: i32::MAX,
                len: u32::MAX,
                send_req: u32::MAX,
            },
            Body::Cts {
                send_req: 1,
                recv_req: 2,
                len: 3,
            },
            Body::Data { recv_req: 9, data },
            Body::Credit {
                bytes: u64::MAX,
                messages: u32::MAX,
            },
        ];
        let mut items: Vec<Item> = bodies
            .into_iter()
            .map(|body| Item::Frame {
                frame: Frame {
                    from: u32::MAX,
                    to: 2,
                    seq: u64::MAX,
                    ack: u64::MAX,
                    body,
                },
                from_epoch: u32::MAX,
                to_epoch: 4,
            })
            .collect();
        items.push(Item::Ack {
            by: 1,
            of: 2,
            upto: 3,
        });
        items
    }

    #[test]
    fn every_item_comes_back_and_no_prefix_of_it_does() {
        for item in items() {
            let mut bytes = Vec::new();
            write(&mut bytes, &item).expect("encodes");
            let read_back = read(&mut bytes.as_slice()).expect("decodes");
            assert_eq!(format!("{item:?}"), format!("{read_back:?}"));
            for cut in 0..bytes.len() {
                read(&mut &bytes[..cut]).expect_err("an item cut short");
            }
        }
    }

    #[test]
    fn garbage_is_an_error() {
        read(&mut [200_u8; 300].as_slice()).expect_err("a long head");
        read(&mut [0_u8; 300].as_slice()).expect_err("no head");
        read(&mut [1, 255, 255, 255, 255, 0, 0].as_slice()).expect_err("a huge payload");
    }
}
