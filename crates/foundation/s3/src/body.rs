//! Content on its way in: decoded, timed, counted and compared with all that its sender has said of it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::Body as _;
use s3s::crypto::{Checksum as _, Md5};

use crate::backend::Error;
use crate::checksum::{Algorithm, Checksum, Hasher};
use crate::chunked::{Decoder, Trailers};
use crate::chunks::{Chunks, Download};
use crate::names::Etag;
use crate::payload::{Coding, Payload};
use crate::signing::Signer;
use crate::text::hex;

/// The content of an object or part that is being written. It is read piece by piece; as long as none is asked for, the sender waits.
pub struct Body {
    source: s3s::Body,
    /// Received, and not decoded.
    input: Bytes,
    coding: Option<Decoder>,
    payload: Payload,
    digests: Digests,
    size: u64,
    size_max: u64,
    pace: Pace,
}

/// What [`Body::next`] gives.
#[derive(Debug)]
pub enum Piece {
    /// It may be kept, and counts only if the end comes.
    Data(Bytes),
    End(Verified),
}

/// Content was received to its end, and is what its sender has said. Only a body's end makes this, and nothing is committed without it.
#[derive(Clone, Debug)]
pub struct Verified {
    size: u64,
    md5: [u8; 16],
    checksum: Checksum,
}

impl Verified {
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    #[must_use]
    pub fn md5(&self) -> [u8; 16] {
        self.md5
    }

    /// What S3 clients expect of content that is written at once: its MD5.
    #[must_use]
    pub fn etag(&self) -> Etag {
        Etag::new(&hex(&self.md5)).expect("digits are graphic")
    }

    /// That which the sender chose, or CRC64NVME.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }
}

/// Why there is no end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("it is longer than its length says")]
    TooLong,
    #[error("it is larger than {size_max} bytes")]
    TooLarge { size_max: u64 },
    #[error("it ends before its length says")]
    Incomplete,
    #[error("it does not come fast enough")]
    Slow,
    #[error("a part of it is not signed as it must be")]
    Signature,
    #[error("it is not what was signed")]
    Sha256,
    #[error("it has another MD5 than its sender says")]
    Md5,
    #[error("it has another {} than its sender says", .0.as_str())]
    Checksum(Algorithm),
    /// What it is copied from cannot be read.
    #[error(transparent)]
    Source(Box<Error>),
}

/// How long a sender may make us wait in all: this long, and as long as all that has come takes at this rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    patience: Duration,
    bytes_per_second_min: u32,
    waited: Duration,
    moved: u64,
}

impl Pace {
    pub(crate) fn new(patience: Duration, bytes_per_second_min: u32) -> Self {
        Self {
            patience,
            bytes_per_second_min,
            waited: Duration::ZERO,
            moved: 0,
        }
    }

    /// For content that does not come from a client.
    pub(crate) fn unlimited() -> Self {
        Self::new(Duration::from_secs(365 * 24 * 60 * 60), u32::MAX)
    }

    pub(crate) fn count(&mut self, waited: Duration, n_bytes: usize) {
        self.waited += waited;
        self.moved += n_bytes as u64;
    }

    pub(crate) fn left(&self) -> Duration {
        let earned = self.moved * 1000 / u64::from(self.bytes_per_second_min.max(1));
        (self.patience + Duration::from_millis(earned)).saturating_sub(self.waited)
    }
}

struct Digests {
    md5: Md5,
    sha256: Option<Hasher>,
    /// Those that are compared or kept; the first one is kept.
    checksums: Vec<Hasher>,
}

impl Body {
    /// `keep`: the algorithm of the checksum that is kept. `None`: the sender's, or CRC64NVME.
    pub(crate) fn new(
        source: s3s::Body,
        payload: Payload,
        signer: Option<Signer>,
        keep: Option<Algorithm>,
        size_max: u64,
        pace: Pace,
    ) -> Self {
        let kept = keep.or(payload.algorithm()).unwrap_or(Algorithm::Crc64Nvme);
        let mut algorithms = vec![kept];
        let compared = payload.checksum.map(|checksum| checksum.algorithm());
        for algorithm in compared.into_iter().chain(payload.trailer) {
            if !algorithms.contains(&algorithm) {
                algorithms.push(algorithm);
            }
        }
        let coding = match payload.coding {
            Coding::Plain => None,
            Coding::Chunked { .. } => Some(Decoder::new(payload.length.unwrap_or(0), signer)),
        };
        Self {
            source,
            input: Bytes::new(),
            coding,
            digests: Digests {
                md5: Md5::new(),
                sha256: payload.sha256.map(|_| Hasher::new(Algorithm::Sha256)),
                checksums: algorithms.into_iter().map(Hasher::new).collect(),
            },
            payload,
            size: 0,
            size_max,
            pace,
        }
    }

    /// Content that does not come from a client: nothing is known of it but its length. `keep`: the algorithm of the checksum that is
    /// kept, or CRC64NVME.
    #[must_use]
    pub fn inside(pieces: Chunks, length: u64, keep: Option<Algorithm>) -> Self {
        let payload = Payload {
            length: Some(length),
            ..Payload::default()
        };
        let source = s3s::Body::http_body_unsync(Download::new(pieces, length));
        Self::new(source, payload, None, keep, length, Pace::unlimited())
    }

    /// How much is to come in all, if that was said.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.payload.length
    }

    /// That which its sender has chosen to compare it by.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        self.payload.algorithm()
    }

    /// What its sender says of it before.
    pub(crate) fn checksum(&self) -> Option<Checksum> {
        self.payload.checksum
    }

    /// The next piece, or the end.
    ///
    /// # Errors
    /// Then nothing may be kept, and it must not be asked again.
    pub async fn next(&mut self) -> Result<Piece, BodyError> {
        loop {
            if let Some(data) = self.decode()? {
                self.size += data.len() as u64;
                if self.size > self.size_max {
                    return Err(BodyError::TooLarge {
                        size_max: self.size_max,
                    });
                }
                if self.payload.length.is_some_and(|length| self.size > length) {
                    return Err(BodyError::TooLong);
                }
                self.digests.update(&data);
                return Ok(Piece::Data(data));
            }
            match self.receive().await? {
                Some(input) => self.input = input,
                None => return self.end().map(Piece::End),
            }
        }
    }

    /// All of it, where it is known to be small.
    pub(crate) async fn collect(mut self) -> Result<Bytes, BodyError> {
        let mut all = BytesMut::new();
        while let Piece::Data(data) = self.next().await? {
            all.extend_from_slice(&data);
        }
        Ok(all.freeze())
    }

    fn decode(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let Some(decoder) = &mut self.coding {
            return decoder.step(&mut self.input);
        }
        let data = std::mem::take(&mut self.input);
        Ok((!data.is_empty()).then_some(data))
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let began = rt::now();
            let frame = poll_fn(|context| Pin::new(&mut self.source).poll_frame(context));
            let frame = tokio::time::timeout(self.pace.left(), frame).await;
            let waited = rt::now() - began;
            let frame = match frame.map_err(|_| BodyError::Slow)? {
                None => return Ok(None),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(broken(error)),
            };
            // HTTP's own trailers are not S3's.
            if let Ok(data) = frame.into_data() {
                self.pace.count(waited, data.len());
                return Ok(Some(data));
            }
        }
    }

    fn end(&mut self) -> Result<Verified, BodyError> {
        let trailers = match self.coding.take() {
            Some(decoder) => decoder.end()?,
            None => Trailers::new(),
        };
        if self.payload.length.is_some_and(|length| self.size < length) {
            return Err(BodyError::Incomplete);
        }
        let digests = std::mem::replace(&mut self.digests, Digests::none());
        let sha256 = digests.sha256.map(Hasher::finish);
        if let (Some(wanted), Some(found)) = (self.payload.sha256, sha256)
            && found != Checksum::Sha256(wanted)
        {
            return Err(BodyError::Sha256);
        }
        let md5 = digests.md5.finalize();
        if self.payload.md5.is_some_and(|wanted| wanted != md5) {
            return Err(BodyError::Md5);
        }
        let checksums: Vec<_> = digests.checksums.into_iter().map(Hasher::finish).collect();
        let is_found = |wanted: &Checksum| {
            let found = checksums.contains(wanted).then_some(());
            found.ok_or(BodyError::Checksum(wanted.algorithm()))
        };
        if let Some(wanted) = &self.payload.checksum {
            is_found(wanted)?;
        }
        if let Some(wanted) = trailing(self.payload.trailer, &trailers)? {
            is_found(&wanted)?;
        }
        Ok(Verified {
            size: self.size,
            md5,
            checksum: checksums[0],
        })
    }
}

/// The checksum behind the content, if one was announced.
fn trailing(
    announced: Option<Algorithm>,
    trailers: &Trailers,
) -> Result<Option<Checksum>, BodyError> {
    let mut found = None;
    for (name, value) in trailers {
        match Algorithm::from_header(name) {
            Some(algorithm) if announced == Some(algorithm) => {
                let checksum = Checksum::parse(algorithm, value);
                found =
                    Some(checksum.ok_or(BodyError::Malformed("a trailing checksum is not one"))?);
            }
            _ => {
                return Err(BodyError::Malformed(
                    "there is a trailer that was not announced",
                ));
            }
        }
    }
    if announced.is_some() && found.is_none() {
        return Err(BodyError::Malformed(
            "the trailer that was announced is not there",
        ));
    }
    Ok(found)
}

fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> BodyError {
    match error.downcast::<Error>() {
        Ok(error) => BodyError::Source(error),
        // The connection is over, or what it carries is not HTTP any more.
        Err(_) => BodyError::Incomplete,
    }
}

impl Digests {
    fn none() -> Self {
        Self {
            md5: Md5::new(),
            sha256: None,
            checksums: Vec::new(),
        }
    }

    fn update(&mut self, data: &[u8]) {
        self.md5.update(data);
        for hasher in self.sha256.iter_mut().chain(&mut self.checksums) {
            hasher.update(data);
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Body");
        debug.field("length", &self.payload.length);
        debug.field("size", &self.size).finish_non_exhaustive()
    }
}
