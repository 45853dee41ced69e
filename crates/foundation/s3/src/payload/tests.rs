use hyper::header::HeaderValue;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = HeaderValue::from_str(value).expect("a value");
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}

#[test]
fn heads_are_understood() {
    let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let plain = Payload::parse(&headers(&[
        ("content-length", "5"),
        ("x-amz-content-sha256", sha256),
        ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
    ]));
    let plain = plain.expect("a good head");
    assert_eq!((plain.length, plain.coding), (Some(5), Coding::Plain));
    assert!(plain.sha256.is_some() && plain.md5.is_some());
    assert_eq!(plain.checksum, Some(Checksum::Crc32([0; 4])));
    assert_eq!(plain.algorithm(), Some(Algorithm::Crc32));

    for (kind, is_signed, has_trailer) in [
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", false, true),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", true, false),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", true, true),
    ] {
        let payload = Payload::parse(&headers(&[
            ("content-length", "99"),
            ("x-amz-decoded-content-length", "5"),
            ("x-amz-content-sha256", kind),
            ("x-amz-trailer", "x-amz-checksum-sha1"),
        ]));
        let payload = payload.expect("a good head");
        assert_eq!(payload.length, Some(5));
        assert_eq!(payload.coding, Coding::Chunked { is_signed });
        assert_eq!(payload.trailer, has_trailer.then_some(Algorithm::Sha1));
    }
    let unknown = Payload::parse(&headers(&[("transfer-encoding", "chunked")]));
    assert_eq!(unknown.expect("HTTP knows the end").length, None);
}

#[test]
fn other_heads_are_refused() {
    let length = ("content-length", "5");
    let cases: [(&[(&'static str, &str)], &str); 12] = [
        (&[], "MissingContentLength"),
        (&[("content-length", "-5")], "InvalidRequest"),
        (&[length, length], "InvalidRequest"),
        (&[length, ("x-amz-content-sha256", "00")], "InvalidRequest"),
        (
            &[
                length,
                ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            ],
            "MissingContentLength",
        ),
        (&[length, ("content-md5", "AAAA")], "InvalidDigest"),
        (&[length, ("x-amz-checksum-crc32", "AAAA")], "BadDigest"),
        (
            &[
                length,
                ("x-amz-checksum-crc32", "AAAAAA=="),
                ("x-amz-checksum-crc32c", "AAAAAA=="),
            ],
            "InvalidRequest",
        ),
        (
            &[length, ("x-amz-sdk-checksum-algorithm", "CRC32")],
            "InvalidRequest",
        ),
        (
            &[length, ("x-amz-sdk-checksum-algorithm", "MD4")],
            "InvalidRequest",
        ),
        (
            &[
                ("x-amz-decoded-content-length", "5"),
                ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ],
            "InvalidRequest",
        ),
        (
            &[
                ("x-amz-decoded-content-length", "5"),
                ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
                ("x-amz-trailer", "x-amz-meta-a"),
            ],
            "InvalidRequest",
        ),
    ];
    for (pairs, wanted) in cases {
        let fault = Payload::parse(&headers(pairs)).expect_err("a bad head");
        let error = s3s::S3Error::from(fault);
        assert_eq!(error.code().as_str(), wanted, "{pairs:?}");
    }
}
