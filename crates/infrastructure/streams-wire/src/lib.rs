//! The segment store protocol of Pravega as bytes, for both sides: what clients ask a store over TCP, and what it answers. Pure: bytes in, values
//! out, and back. No sockets, no clock, nothing that remembers, but a block that waits for its end ([`blocks`]).
//!
//! ```text
//!  frame = type i32 | length i32 | that many bytes: the fields of the command, one behind the other, big-endian
//! ```
//!
//! Spoken are the versions 5 to 17: all of release 0.13.0 (version 16), and what its successor added (`LocateOffset`, `OffsetLocated`). There is
//! no version in a frame. Both sides say theirs once ([`requests::Hello`]), and then know each other's fields by their lengths: a new one goes
//! last, whoever does not know it passes over it, and where it is missing it has the value that the declaration says. Here all fields are always
//! written.
//!
//! # What it is not
//! It decides nothing. What a segment is called, which writer may send which event and who may ask are matters of the store; a frame that is
//! well-formed may still be nonsense. It does not speak the dialects 72 and 73 of the client in Rust, which no store knows.
//!
//! # What it guarantees
//! - Bytes are hostile until they are parsed. No bytes make it panic, and nothing is taken from memory because of a length or count that bytes
//!   only claim: what is taken is at most twelve times what has come.
//! - What a command carries is not copied. It is a part of the buffer that was received ([`bytes::Bytes`]), and it is sent from where it lies
//!   ([`Outgoing`]). So it also keeps that buffer in memory.
//! - A command that is encoded and decoded is the same one. There are golden bytes of each.
//! - A frame that is written is no longer than upstream's server accepts, header included; one that is read may be longer by its header, as the
//!   client in Rust may send it.
//!
//! # In which order to read
//! `frame.rs`: frames out of a stream of bytes. `requests.rs` and `replies.rs`: one declaration each, all that is said, for both directions.
//! `blocks.rs`: appends, which come in several frames. Then `field.rs` (the declarations as code), `shapes.rs` (fields with a form of their own)
//! and `text.rs`.
//!
//! ```
//! use bytes::{Buf, BytesMut};
//! use streams_wire::Outgoing;
//! use streams_wire::frame::{Split, split};
//! use streams_wire::requests::{KeepAlive, Request};
//!
//! let mut out = Outgoing::default();
//! Request::from(KeepAlive {}).encode(&mut out)?;
//! let mut received = BytesMut::from(&out.copy_to_bytes(out.remaining())[..]);
//! let Split::Frame(frame) = split(&mut received)? else { panic!("it is whole") };
//! assert_eq!(Request::decode(frame)?, KeepAlive {}.into());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod frame;

#[macro_use]
mod field;
pub mod requests;

pub mod replies;

pub mod blocks;
pub mod events;
pub mod shapes;

mod error;
pub mod limits;
mod outgoing;
mod text;

#[cfg(test)]
mod any;
#[cfg(test)]
mod tests;

pub use self::error::{DecodeError, EncodeError, Flaw};
pub use self::frame::Frame;
pub use self::outgoing::Outgoing;
