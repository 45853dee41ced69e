//! The part of AWS signature version 4 that goes on in the body: each chunk is signed, and signs the one before it.

use std::fmt;

use s3s::crypto::{Checksum as _, Sha256};

use crate::checksum::sha256;
use crate::text::{from_hex, hex};

const BLOCK_BYTES: usize = 64;

/// What an `Authorization` header of version 4 says. Nothing of it has been verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authorization<'a> {
    /// `DATE/REGION/SERVICE/aws4_request`.
    pub scope: &'a str,
    pub service: &'a str,
    pub signed_headers: &'a str,
    pub signature: [u8; 32],
}

impl<'a> Authorization<'a> {
    pub(crate) fn parse(header: &'a str) -> Option<Self> {
        let fields = header.strip_prefix("AWS4-HMAC-SHA256")?;
        let field = |name: &str| {
            let find = |field: &'a str| field.trim().strip_prefix(name)?.strip_prefix('=');
            fields.split(',').find_map(find)
        };
        let scope = scope_of(field("Credential")?)?;
        Some(Self {
            scope,
            service: service_of(scope)?,
            signed_headers: field("SignedHeaders")?,
            signature: from_hex(field("Signature")?)?,
        })
    }
}

/// Of `ACCESS_KEY/DATE/REGION/SERVICE/aws4_request`, where an access key may have slashes.
fn scope_of(credential: &str) -> Option<&str> {
    let (start, _) = credential.rmatch_indices('/').nth(3)?;
    Some(&credential[start + 1..])
}

pub(crate) fn service_of(scope: &str) -> Option<&str> {
    let mut parts = scope.rsplit('/');
    (parts.next()? == "aws4_request").then_some(())?;
    parts.next()
}

/// Signs what follows a request that was signed.
pub(crate) struct Signer {
    key: [u8; 32],
    date: String,
    scope: String,
    /// Of the chunk before, or of the request.
    previous: [u8; 32],
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    /// `date` is that of the header `x-amz-date`.
    pub(crate) fn new(secret: &str, authorization: &Authorization<'_>, date: &str) -> Self {
        let secret = format!("AWS4{secret}");
        let steps = authorization.scope.split('/');
        let key = steps.fold(None, |key: Option<[u8; 32]>, step| {
            let key = key.as_ref().map_or(secret.as_bytes(), |key| &key[..]);
            Some(hmac(key, step.as_bytes()))
        });
        Self {
            key: key.expect("a text has at least one part"),
            date: date.to_owned(),
            scope: authorization.scope.to_owned(),
            previous: authorization.signature,
        }
    }

    /// Whether a chunk with this digest is the next one.
    pub(crate) fn is_chunk(&mut self, digest: &[u8; 32], signature: &[u8; 32]) -> bool {
        let of_nothing = hex(&sha256(b""));
        let rest = format!("{of_nothing}\n{}", hex(digest));
        self.is_next("AWS4-HMAC-SHA256-PAYLOAD", &rest, signature)
    }

    /// Whether these are the trailers, each as `name:value` and a line feed.
    pub(crate) fn is_trailer(&mut self, trailers: &str, signature: &[u8; 32]) -> bool {
        let rest = hex(&sha256(trailers.as_bytes()));
        self.is_next("AWS4-HMAC-SHA256-TRAILER", &rest, signature)
    }

    fn is_next(&mut self, kind: &str, rest: &str, signature: &[u8; 32]) -> bool {
        let (date, scope, previous) = (&self.date, &self.scope, hex(&self.previous));
        let text = format!("{kind}\n{date}\n{scope}\n{previous}\n{rest}");
        let wanted = hmac(&self.key, text.as_bytes());
        self.previous = wanted;
        // It takes the same time wherever they differ.
        let differences = wanted.iter().zip(signature).map(|(a, b)| a ^ b);
        differences.fold(0, |all, bits| all | bits) == 0
    }
}

pub(crate) fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&sha256(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let keyed = |pad: u8, parts: &[u8]| {
        let mut hasher = Sha256::new();
        hasher.update(&block.map(|byte| byte ^ pad));
        hasher.update(parts);
        hasher.finalize()
    };
    keyed(0x5c, &keyed(0x36, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=content-encoding;\
        content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,\
        Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let cases: [(&[u8], &[u8], &str); 3] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, text, wanted) in cases {
            assert_eq!(hex(&hmac(key, text)), wanted);
        }
    }

    #[test]
    fn chunks_are_signed_as_in_the_example_of_s3() {
        let authorization = Authorization::parse(HEADER).expect("a header");
        assert_eq!(authorization.service, "s3");
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let mut signer = Signer::new(secret, &authorization, "20130524T000000Z");
        let chunks = [
            (
                65536,
                "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            ),
            (
                1024,
                "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            ),
            (
                0,
                "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
            ),
        ];
        for (n_bytes, signature) in chunks {
            let signature = from_hex(signature).expect("32 bytes");
            assert!(signer.is_chunk(&sha256(&vec![b'a'; n_bytes]), &signature));
        }
        assert!(!signer.is_chunk(&sha256(b""), &[0; 32]));
    }

    #[test]
    fn other_headers_are_refused() {
        let with = |from: &str, to: &str| HEADER.replace(from, to);
        for header in [
            with("AWS4-HMAC-SHA256", "AWS"),
            with("Credential=", "Credential"),
            with("/aws4_request", ""),
            with("SignedHeaders", "Signed"),
            with("0a9", "0a"),
            with("0a9", "0ag"),
        ] {
            assert_eq!(Authorization::parse(&header), None, "{header}");
        }
    }
}
