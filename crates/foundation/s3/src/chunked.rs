//! The transfer coding `aws-chunked`: chunks of the content, each with its length and perhaps a signature, and trailers behind them.
//!
//! ```text
//!            length CRLF             all of it             CRLF
//!   Head ───────────────▶ Data(left) ─────────▶ DataEnd ─────────▶ Head
//!    │
//!    └── 0 CRLF ──▶ Trailers ── the end of the body ──▶ trailers
//! ```
//! What is handed out has not been verified: a chunk's signature is compared when the chunk ends, and nothing may be kept of content that
//! does not reach its end. So a chunk of any length takes no memory here.

use bytes::{Buf as _, Bytes};
use s3s::crypto::{Checksum as _, Sha256};

use crate::body::BodyError;
use crate::signing::Signer;
use crate::text::from_hex;

/// Of one line with the length of a chunk.
const HEAD_BYTES_MAX: usize = 256;
/// Of all trailers.
const TRAILERS_BYTES_MAX: usize = 8 << 10;

pub(crate) struct Decoder {
    state: State,
    /// What is to come, as the request has said.
    left: u64,
    signer: Option<Signer>,
    /// Of the chunk, where it is signed.
    digest: Option<Sha256>,
    signature: Option<[u8; 32]>,
    /// A line, or all trailers, as far as they are here.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Data(u64),
    DataEnd,
    Trailers,
}

/// Names in lower case, and values.
pub(crate) type Trailers = Vec<(String, String)>;

impl Decoder {
    pub(crate) fn new(length: u64, signer: Option<Signer>) -> Self {
        Self {
            state: State::Head,
            left: length,
            signer,
            digest: None,
            signature: None,
            text: Vec::new(),
        }
    }

    /// The next of the content in `input`, which loses what was read. `None`: more is needed, and the input is empty.
    pub(crate) fn step(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, BodyError> {
        while !input.is_empty() {
            match self.state {
                State::Head => {
                    if self.take_line(input)? {
                        self.begin_chunk()?;
                    }
                }
                State::Data(left) => {
                    let n_bytes =
                        usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                    let data = input.split_to(n_bytes);
                    if let Some(digest) = &mut self.digest {
                        digest.update(&data);
                    }
                    let left = left - n_bytes as u64;
                    self.state = State::Data(left);
                    if left == 0 {
                        self.end_chunk()?;
                        self.state = State::DataEnd;
                    }
                    return Ok(Some(data));
                }
                State::DataEnd => {
                    if self.take_line(input)? {
                        if self.text != b"\r\n" {
                            return Err(BodyError::Malformed(
                                "a chunk does not end where it was to end",
                            ));
                        }
                        self.text.clear();
                        self.state = State::Head;
                    }
                }
                State::Trailers => {
                    if self.text.len() + input.len() > TRAILERS_BYTES_MAX {
                        return Err(BodyError::Malformed("the trailers are too long"));
                    }
                    self.text.extend_from_slice(input);
                    input.clear();
                }
            }
        }
        Ok(None)
    }

    /// The body has ended here.
    pub(crate) fn end(mut self) -> Result<Trailers, BodyError> {
        if self.state != State::Trailers || self.left > 0 {
            return Err(BodyError::Incomplete);
        }
        let text = std::mem::take(&mut self.text);
        let text =
            String::from_utf8(text).map_err(|_| BodyError::Malformed("a trailer is no text"))?;
        let mut trailers = Trailers::new();
        let mut signature = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, value) = line
                .split_once(':')
                .ok_or(BodyError::Malformed("a trailer has no value"))?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            if name == "x-amz-trailer-signature" {
                signature = from_hex(value);
            } else if trailers.iter().any(|(other, _)| *other == name) {
                return Err(BodyError::Malformed("a trailer is there twice"));
            } else {
                trailers.push((name, value.to_owned()));
            }
        }
        let Some(signer) = &mut self.signer else {
            return Ok(trailers);
        };
        trailers.sort();
        let signed: String = trailers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let is_signed = match signature {
            Some(signature) => signer.is_trailer(&signed, &signature),
            // Those who send no trailers sign none.
            None => trailers.is_empty(),
        };
        is_signed.then_some(trailers).ok_or(BodyError::Signature)
    }

    /// Up to a line feed, with it.
    fn take_line(&mut self, input: &mut Bytes) -> Result<bool, BodyError> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let n_bytes = end.map_or(input.len(), |end| end + 1);
        if self.text.len() + n_bytes > HEAD_BYTES_MAX {
            return Err(BodyError::Malformed("the line before a chunk is too long"));
        }
        self.text.extend_from_slice(&input[..n_bytes]);
        input.advance(n_bytes);
        Ok(end.is_some())
    }

    fn begin_chunk(&mut self) -> Result<(), BodyError> {
        const MALFORMED: BodyError =
            BodyError::Malformed("the length of a chunk is not understood");
        let line = std::str::from_utf8(&self.text).map_err(|_| MALFORMED)?;
        let line = line.strip_suffix("\r\n").ok_or(MALFORMED)?;
        let (length, extension) = line.split_once(';').unwrap_or((line, ""));
        if !(1..=16).contains(&length.len()) || !length.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(MALFORMED);
        }
        let length = u64::from_str_radix(length, 16).map_err(|_| MALFORMED)?;
        let signature = extension.strip_prefix("chunk-signature=");
        let signature = signature.and_then(from_hex::<32>);
        self.text.clear();
        self.left = self.left.checked_sub(length).ok_or(BodyError::TooLong)?;
        if self.signer.is_some() {
            self.signature = Some(signature.ok_or(BodyError::Signature)?);
            self.digest = Some(Sha256::new());
        }
        if length > 0 {
            self.state = State::Data(length);
        } else {
            self.end_chunk()?;
            self.state = State::Trailers;
        }
        Ok(())
    }

    fn end_chunk(&mut self) -> Result<(), BodyError> {
        let (Some(signer), Some(digest), Some(signature)) =
            (&mut self.signer, self.digest.take(), self.signature.take())
        else {
            return Ok(());
        };
        let is_signed = signer.is_chunk(&digest.finalize(), &signature);
        is_signed.then_some(()).ok_or(BodyError::Signature)
    }
}

#[cfg(test)]
mod tests;
