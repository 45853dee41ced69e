//! What clients of streams say to the controller, over gRPC: messages, a client and a server ([`controller`]).
//!
//! All of it is generated from `proto/streams/controller.proto`, and checked in, so that nobody needs a compiler of that language to build the
//! platform. After a change of it:
//!
//! ```text
//! cargo run -p streams-proto --example generate > /tmp/controller.rs && mv /tmp/controller.rs crates/infrastructure/streams-proto/src/
//! ```
//!
//! A test compares the two, so neither changes alone.
//!
//! # What it is not
//! It checks nothing. Messages are hostile until the controller has parsed them: fields may be missing, and numbers may be none of an enum. Some
//! carry a token, which `Debug` shows: they are in no log. It opens no connection either: who serves, or asks, brings the transport, and TLS with
//! it.
#![forbid(unsafe_code)]

#[allow(
    clippy::all,
    clippy::too_many_lines,
    missing_debug_implementations,
    reason = "nobody writes it, nobody can change it"
)]
#[rustfmt::skip]
pub mod controller;
#[cfg(test)]
mod tests;
