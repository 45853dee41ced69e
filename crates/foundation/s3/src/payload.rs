//! What the head of a request says of its body.

use hyper::HeaderMap;
use hyper::header::{self, HeaderName};

use crate::checksum::{Algorithm, Checksum};
use crate::fault::Fault;
use crate::text::{from_base64, from_hex};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Of the content, not of what is transferred.
    pub length: Option<u64>,
    pub coding: Coding,
    pub sha256: Option<[u8; 32]>,
    pub md5: Option<[u8; 16]>,
    pub checksum: Option<Checksum>,
    /// A checksum by this algorithm comes behind the content.
    pub trailer: Option<Algorithm>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Coding {
    #[default]
    Plain,
    Chunked {
        is_signed: bool,
    },
}

impl Payload {
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, Fault> {
        let mut payload = Self::parse_transfer(headers)?;
        for algorithm in Algorithm::ALL {
            let Some(value) = text(headers, algorithm.header())? else {
                continue;
            };
            let checksum = Checksum::parse(algorithm, value);
            let checksum = checksum.ok_or(Fault::BadChecksum)?;
            if payload.checksum.replace(checksum).is_some() {
                return Err(Fault::Invalid("there is more than one checksum"));
            }
        }
        if let Some(name) = text(headers, "x-amz-sdk-checksum-algorithm")? {
            let named = Algorithm::from_name(name);
            let named = named.ok_or(Fault::Invalid(
                "x-amz-sdk-checksum-algorithm is not understood",
            ))?;
            if payload.algorithm() != Some(named) {
                return Err(Fault::Invalid(
                    "x-amz-sdk-checksum-algorithm is there, and no checksum of it in a header or trailer",
                ));
            }
        }
        Ok(payload)
    }

    /// All but checksums in headers.
    pub(crate) fn parse_transfer(headers: &HeaderMap) -> Result<Self, Fault> {
        let mut payload = Self::default();
        let mut has_trailer = false;
        match text(headers, "x-amz-content-sha256")? {
            None | Some("UNSIGNED-PAYLOAD") => {}
            Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER") => {
                payload.coding = Coding::Chunked { is_signed: false };
                has_trailer = true;
            }
            Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD") => {
                payload.coding = Coding::Chunked { is_signed: true };
            }
            Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER") => {
                payload.coding = Coding::Chunked { is_signed: true };
                has_trailer = true;
            }
            Some(digest) => {
                let digest = from_hex(digest);
                payload.sha256 =
                    Some(digest.ok_or(Fault::Invalid("x-amz-content-sha256 is not understood"))?);
            }
        }
        payload.length = length(headers, payload.coding)?;
        if let Some(md5) = text(headers, "content-md5")? {
            payload.md5 = Some(from_base64(md5).ok_or(Fault::InvalidDigest)?);
        }
        if has_trailer {
            let name = text(headers, "x-amz-trailer")?
                .ok_or(Fault::Invalid("x-amz-trailer is missing"))?;
            let algorithm = Algorithm::from_header(name.trim());
            payload.trailer =
                Some(algorithm.ok_or(Fault::Invalid("x-amz-trailer is not understood"))?);
        }
        Ok(payload)
    }

    /// That which the sender has chosen.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        let checksum = self.checksum.map(|checksum| checksum.algorithm());
        checksum.or(self.trailer)
    }
}

fn length(headers: &HeaderMap, coding: Coding) -> Result<Option<u64>, Fault> {
    let name = match coding {
        Coding::Plain => "content-length",
        Coding::Chunked { .. } => "x-amz-decoded-content-length",
    };
    let length = match text(headers, name)? {
        Some(length) => length
            .parse()
            .map_err(|_| Fault::Invalid("a length is not one"))?,
        // HTTP says itself where it ends.
        None if coding == Coding::Plain && headers.contains_key(header::TRANSFER_ENCODING) => {
            return Ok(None);
        }
        None => return Err(Fault::MissingContentLength),
    };
    Ok(Some(length))
}

/// A header that may be there once.
pub(crate) fn text<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, Fault> {
    let mut values = headers.get_all(HeaderName::from_static(name)).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Fault::Invalid("a header is there twice"));
    }
    let value = value
        .to_str()
        .map_err(|_| Fault::Invalid("a header is no text"))?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests;
