use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Shorter ones are copied: a piece of their own would cost more.
const SHARED_BYTES_MIN: usize = 4 << 10;

/// The bytes of commands that are to be sent, in order. What the commands carry lies where it lay.
///
/// It has no bound of its own: who puts commands in looks at [`Buf::remaining`]. To send, use it as a [`Buf`]; it gives its pieces to one call of
/// the system.
#[derive(Debug, Default)]
pub struct Outgoing {
    pieces: VecDeque<Bytes>,
    /// Behind the pieces.
    last: BytesMut,
    bytes: usize,
}

impl Outgoing {
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.last.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    pub(crate) fn put_zeros(&mut self, n_zeros: usize) {
        self.last.resize(self.last.len() + n_zeros, 0);
        self.bytes += n_zeros;
    }

    pub(crate) fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.put(bytes);
            return;
        }
        if !self.last.is_empty() {
            self.pieces.push_back(self.last.split().freeze());
        }
        self.pieces.push_back(bytes.clone());
        self.bytes += bytes.len();
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.last, |piece| piece)
    }

    fn advance(&mut self, n_bytes: usize) {
        assert!(n_bytes <= self.bytes, "there are not so many bytes");
        self.bytes -= n_bytes;
        let mut rest = n_bytes;
        while let Some(piece) = self.pieces.front_mut() {
            if rest < piece.len() {
                piece.advance(rest);
                return;
            }
            rest -= piece.len();
            self.pieces.pop_front();
        }
        self.last.advance(rest);
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let last = (!self.last.is_empty()).then_some(&self.last[..]);
        let pieces = self.pieces.iter().map(|piece| &piece[..]).chain(last);
        let mut n_slices = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            n_slices += 1;
        }
        n_slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_shared_and_all_is_in_order() {
        let long = Bytes::from(vec![7; SHARED_BYTES_MIN]);
        let mut out = Outgoing::default();
        out.put(b"ab");
        out.put_shared(&Bytes::from_static(b"cd"));
        out.put_shared(&long);
        out.put_zeros(2);
        out.put_shared(&long);
        out.put_shared(&long);
        out.put(b"z");

        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(out.chunks_vectored(&mut slices), 6);
        assert_eq!(slices[1].as_ptr(), long.as_ptr());
        assert_eq!(out.chunks_vectored(&mut slices[..2]), 2);

        let whole = [b"abcd", &long[..], &[0, 0], &long, &long, b"z"].concat();
        assert_eq!(out.remaining(), whole.len());
        let mut received = Vec::new();
        for step in [1, 3, 0, SHARED_BYTES_MIN + 1, 1, SHARED_BYTES_MIN] {
            received.extend_from_slice(&out.copy_to_bytes(step));
        }
        received.extend_from_slice(&out.copy_to_bytes(out.remaining()));
        assert_eq!(received, whole);
        assert!(!out.has_remaining() && out.chunk().is_empty());
    }
}
