use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::checksum::sha256;
use crate::signing::{Authorization, hmac};
use crate::text::hex;

const HEADER: &str = "AWS4-HMAC-SHA256 Credential=AK/20130524/us-east-1/s3/aws4_request,SignedHeaders=host,\
    Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
const DATE: &str = "20130524T000000Z";

fn signer() -> Signer {
    let authorization = Authorization::parse(HEADER).expect("a header");
    Signer::new("secret", &authorization, DATE)
}

/// What a client does, step by step as S3's documentation has it.
struct Client {
    key: [u8; 32],
    previous: String,
}

impl Client {
    fn new() -> Self {
        let mut key = b"AWS4secret".to_vec();
        for step in ["20130524", "us-east-1", "s3", "aws4_request"] {
            key = hmac(&key, step.as_bytes()).to_vec();
        }
        Self {
            key: key.try_into().expect("32 bytes"),
            previous: HEADER[HEADER.len() - 64..].to_owned(),
        }
    }

    fn sign(&mut self, kind: &str, rest: &str) -> String {
        let scope = "20130524/us-east-1/s3/aws4_request";
        let text = format!(
            "AWS4-HMAC-SHA256-{kind}\n{DATE}\n{scope}\n{}\n{rest}",
            self.previous
        );
        self.previous = hex(&hmac(&self.key, text.as_bytes()));
        self.previous.clone()
    }

    fn chunk(&mut self, data: &[u8]) -> Vec<u8> {
        let rest = format!("{}\n{}", hex(&sha256(b"")), hex(&sha256(data)));
        let signature = self.sign("PAYLOAD", &rest);
        let mut chunk = format!("{:x};chunk-signature={signature}\r\n", data.len()).into_bytes();
        chunk.extend_from_slice(data);
        if !data.is_empty() {
            chunk.extend_from_slice(b"\r\n");
        }
        chunk
    }

    fn trailer(&mut self, name: &str, value: &str) -> String {
        let signature = self.sign(
            "TRAILER",
            &hex(&sha256(format!("{name}:{value}\n").as_bytes())),
        );
        format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n\r\n")
    }
}

/// All of the content and the trailers, from a body that comes in pieces of this size.
fn decode(
    body: &[u8],
    piece: usize,
    length: u64,
    signer: Option<Signer>,
) -> Result<(Vec<u8>, Trailers), BodyError> {
    let mut decoder = Decoder::new(length, signer);
    let mut content = BytesMut::new();
    for piece in body.chunks(piece.max(1)) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(data) = decoder.step(&mut input)? {
            content.extend_from_slice(&data);
        }
        assert!(input.is_empty(), "all of it is read");
    }
    Ok((content.to_vec(), decoder.end()?))
}

fn signed(chunks: &[&[u8]]) -> Vec<u8> {
    let mut client = Client::new();
    let mut body: Vec<u8> = chunks.iter().flat_map(|data| client.chunk(data)).collect();
    body.extend(client.chunk(b""));
    body.extend(b"\r\n");
    body
}

#[test]
fn good_bodies_are_decoded() {
    let unsigned = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Amz-Checksum-CRC32: AAAA \r\n\r\n";
    let trailers = vec![("x-amz-checksum-crc32".to_owned(), "AAAA".to_owned())];
    for piece in 1..unsigned.len() {
        let decoded = decode(unsigned, piece, 5, None).expect("a good body");
        assert_eq!(decoded, (b"abcde".to_vec(), trailers.clone()));
        let body = signed(&[b"abc", b"de"]);
        let decoded = decode(&body, piece, 5, Some(signer())).expect("a good body");
        assert_eq!(decoded, (b"abcde".to_vec(), Trailers::new()));
    }
    let mut client = Client::new();
    let mut body = [client.chunk(b"abcde"), client.chunk(b"")].concat();
    body.extend(client.trailer("x-amz-checksum-crc32", "AAAA").into_bytes());
    let decoded = decode(&body, 7, 5, Some(signer())).expect("a good body");
    assert_eq!(decoded, (b"abcde".to_vec(), trailers));
    // Some clients leave out what follows the last chunk.
    assert!(decode(b"0\r\n", 1, 0, None).is_ok());
    assert!(decode(b"0\r\n\r\n", 1, 0, None).is_ok());
}

#[test]
fn bodies_that_are_cut_off_are_incomplete() {
    let unsigned = b"3\r\nabc\r\n2\r\nde\r\n0\r\n".to_vec();
    let signed = signed(&[b"abc", b"de"]);
    let signed = &signed[..signed.len() - 2];
    for (body, has_signer) in [(&unsigned[..], false), (signed, true)] {
        for end in 0..body.len() {
            let signer = has_signer.then(signer);
            let cut = decode(&body[..end], 64, 5, signer);
            assert!(matches!(cut, Err(BodyError::Incomplete)), "{end}: {cut:?}");
        }
        assert!(decode(body, 64, 5, has_signer.then(signer)).is_ok());
    }
}

#[test]
fn malformed_bodies_are_refused() {
    let long_line = format!("5;{}\r\n", "x".repeat(300));
    let long_trailer = format!("0\r\nx: {}\r\n", "y".repeat(9000));
    let cases = [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "+5\r\n",
        " 5\r\n",
        "5\n",
        "0x5\r\n",
        "fffffffffffffffff\r\n",
        "5\r\nabcdeX\r\n0\r\n\r\n",
        "5\r\nabcdefg\r\n0\r\n\r\n",
        "5\r\nabcde0\r\n\r\n",
        "5\r\nabcde\r\n0\r\nno colon\r\n\r\n",
        "5\r\nabcde\r\n0\r\na: b\r\na: c\r\n\r\n",
        &long_line,
        &long_trailer,
    ];
    for body in cases {
        for piece in [1, 5, 10_000] {
            let length = if body.starts_with('0') { 0 } else { 5 };
            let refused = decode(body.as_bytes(), piece, length, None);
            assert!(
                matches!(refused, Err(BodyError::Malformed(_))),
                "{body:?}: {refused:?}"
            );
        }
    }
    let long = decode(b"ffffffffffffffff\r\n", 64, 5, None);
    assert!(matches!(long, Err(BodyError::TooLong)), "{long:?}");
    let long = decode(b"3\r\nabc\r\n3\r\nabc\r\n", 64, 5, None);
    assert!(matches!(long, Err(BodyError::TooLong)), "{long:?}");
}

#[test]
fn what_is_not_signed_is_refused() {
    let good = signed(&[b"abc", b"de"]);
    let at = |text: &[u8]| {
        good.windows(text.len())
            .position(|window| window == text)
            .expect("it is there")
    };
    let (data, signature) = (at(b"abc"), at(b"signature=") + 12);
    for place in [data, signature, at(b"de"), good.len() - 10] {
        let mut body = good.clone();
        body[place] = if body[place] == b'1' { b'2' } else { b'1' };
        let refused = decode(&body, 16, 5, Some(signer()));
        assert!(
            matches!(refused, Err(BodyError::Signature)),
            "{place}: {refused:?}"
        );
    }
    // Chunks in another order, one left out, one twice, and one without a signature.
    let mut client = Client::new();
    let [a, b, end] = [&b"abc"[..], b"de", b""].map(|data| client.chunk(data));
    for chunks in [vec![&b, &a, &end], vec![&a, &end], vec![&a, &a, &end]] {
        let body: Vec<u8> = chunks.into_iter().flatten().copied().collect();
        let refused = decode(&body, 16, 9, Some(signer()));
        assert!(matches!(refused, Err(BodyError::Signature)), "{refused:?}");
    }
    let refused = decode(b"5\r\nabcde\r\n0\r\n\r\n", 16, 5, Some(signer()));
    assert!(matches!(refused, Err(BodyError::Signature)), "{refused:?}");
    // Trailers that nobody signed, and some that were changed.
    let mut client = Client::new();
    let chunks = [client.chunk(b"abcde"), client.chunk(b"")].concat();
    let trailer = client.trailer("x-amz-checksum-crc32", "AAAA");
    for trailer in [
        "x-amz-checksum-crc32:AAAA\r\n\r\n",
        &trailer.replace("AAAA", "AAAB"),
        &trailer.replace("signature:", "signature:0"),
    ] {
        let body = [&chunks, trailer.as_bytes()].concat();
        let refused = decode(&body, 16, 5, Some(signer()));
        assert!(
            matches!(refused, Err(BodyError::Signature)),
            "{trailer}: {refused:?}"
        );
    }
}

proptest! {
    /// Whatever the chunks and the pieces are, the content is the same; whatever comes, nothing panics.
    #[test]
    fn chunks_and_pieces_do_not_matter(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..6),
        piece in 1..300_usize,
        noise in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let content = chunks.concat();
        let chunks: Vec<_> = chunks.iter().map(Vec::as_slice).collect();
        let length = content.len() as u64;
        let decoded = decode(&signed(&chunks), piece, length, Some(signer()));
        prop_assert_eq!(decoded.expect("a good body").0, content);
        decode(&noise, piece, length, None).ok();
    }
}
