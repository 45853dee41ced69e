//! What clients do, and what they are told. The suites in conformance/ ask much more of it.

use super::World;
use super::client::{Call, Client, Reply, UNSIGNED};
use crate::checksum::{Algorithm, Hasher, sha256};
use crate::text::{base64, hex};

#[tokio::test]
async fn objects_are_written_and_read() {
    let World {
        client,
        service: _service,
        ..
    } = World::new().await;
    let headers = [
        ("content-type", "text/plain"),
        ("content-encoding", "gzip, aws-chunked"),
        ("x-amz-meta-who", "me"),
        ("x-amz-tagging", "a=b&c=d"),
    ];
    let call = Call {
        headers: &headers,
        ..Call::new("PUT", "/bucket/a%20b//c/")
    };
    let put = client.call(call, b"content").await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(
        put.header("etag"),
        Some("\"9a0364b9e99bb480dd25e1f0284c8555\"")
    );
    assert_eq!(put.header("x-cloudskin-acknowledgement"), Some("ephemeral"));
    assert!(
        put.header("x-amz-checksum-crc64nvme").is_some(),
        "everything has a checksum"
    );
    for method in ["GET", "HEAD"] {
        is_as_written(&client, method).await;
    }
    let listed = client
        .call(
            Call {
                query: "list-type=2",
                ..Call::new("GET", "/bucket")
            },
            b"",
        )
        .await;
    assert!(
        listed.text().contains("<Key>a b//c/</Key>"),
        "{}",
        listed.text()
    );
    let deleted = client
        .call(Call::new("DELETE", "/bucket/a%20b//c/"), b"")
        .await;
    assert_eq!(deleted.status, 204);
    let missing = client.get("/bucket/a%20b//c/").await;
    assert_eq!(
        (missing.status, missing.code().as_str()),
        (404, "NoSuchKey")
    );
    let id = missing
        .header("x-amz-request-id")
        .expect("every answer has an id");
    assert!(
        missing
            .text()
            .contains(&format!("<RequestId>{id}</RequestId>"))
    );
}

async fn is_as_written(client: &Client, method: &str) {
    let got = client
        .call(Call::new(method, "/bucket/a%20b//c/"), b"")
        .await;
    assert_eq!(got.status, 200);
    for (name, value) in [
        ("content-length", "7"),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("x-amz-meta-who", "me"),
        ("x-amz-tagging-count", "2"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(got.header(name), Some(value), "{method} {name}");
    }
    assert_eq!(
        got.body,
        if method == "GET" {
            &b"content"[..]
        } else {
            b""
        }
    );
}

#[tokio::test]
async fn ranges_and_conditions_are_kept() {
    let World {
        client,
        service: _service,
        ..
    } = World::new().await;
    let etag = client.put("/bucket/a", b"0123456789").await;
    let etag = etag.header("etag").expect("an etag").to_owned();
    let cases = [
        ("range", "bytes=2-4", 206, Some("bytes 2-4/10")),
        ("range", "bytes=-1", 206, Some("bytes 9-9/10")),
        ("range", "bytes=10-", 416, Some("bytes */10")),
        ("if-match", &etag, 200, None),
        ("if-match", "\"other\"", 412, None),
        ("if-none-match", &etag, 304, None),
        (
            "if-modified-since",
            "Fri, 01 Jan 2100 00:00:00 GMT",
            304,
            None,
        ),
        (
            "if-unmodified-since",
            "Fri, 01 Jan 1999 00:00:00 GMT",
            412,
            None,
        ),
    ];
    for (name, value, status, range) in cases {
        let headers = [(name, value)];
        let got = client
            .call(
                Call {
                    headers: &headers,
                    ..Call::new("GET", "/bucket/a")
                },
                b"",
            )
            .await;
        assert_eq!(got.status, status, "{name}: {value}");
        assert_eq!(got.header("content-range"), range, "{name}: {value}");
        if status == 304 {
            assert_eq!(got.header("etag"), Some(&*etag));
        }
    }
    let cases = [
        ("if-none-match", "*", "PreconditionFailed"),
        ("if-match", "\"other\"", "PreconditionFailed"),
        ("if-match", &etag, "200"),
    ];
    for (name, value, code) in cases {
        let headers = [(name, value)];
        let put = client
            .call(
                Call {
                    headers: &headers,
                    ..Call::new("PUT", "/bucket/a")
                },
                b"0123456789",
            )
            .await;
        assert_eq!(put.code(), code, "{name}: {value}");
    }
}

#[tokio::test]
async fn one_of_two_writers_wins() {
    let World {
        client,
        service: _service,
        ..
    } = World::new().await;
    let absent = [("if-none-match", "*")];
    let race = |content: &'static [u8]| {
        let client = client.clone();
        async move {
            client
                .call(
                    Call {
                        headers: &absent,
                        ..Call::new("PUT", "/bucket/race")
                    },
                    content,
                )
                .await
                .status
        }
    };
    let (a, b) = tokio::join!(race(b"a"), race(b"b"));
    assert_eq!(a.min(b), 200);
    assert_eq!(a.max(b), 412);
}

#[tokio::test]
async fn all_checksums_are_verified_in_all_forms() {
    let World {
        client,
        service: _service,
        ..
    } = World::new().await;
    for algorithm in Algorithm::ALL {
        let good = Hasher::of(algorithm, b"content").to_text();
        let bad = Hasher::of(algorithm, b"other").to_text();
        for (sum, code) in [(&good, "200"), (&bad, "BadDigest")] {
            let path = format!("/bucket/{}-{code}", algorithm.as_str());
            let headers = [(algorithm.header(), sum.as_str())];
            let put = client
                .call(
                    Call {
                        headers: &headers,
                        ..Call::new("PUT", &path)
                    },
                    b"content",
                )
                .await;
            assert_eq!(put.code(), code, "{algorithm:?} in a header");
            for is_signed in [false, true] {
                let put = trailing(&client, &path, algorithm.header(), sum, is_signed).await;
                assert_eq!(
                    put.code(),
                    code,
                    "{algorithm:?} in a trailer, signed: {is_signed}"
                );
            }
            let mode = [("x-amz-checksum-mode", "ENABLED")];
            let got = client
                .call(
                    Call {
                        headers: &mode,
                        ..Call::new("GET", &path)
                    },
                    b"",
                )
                .await;
            let told = got.header(algorithm.header()).map(str::to_owned);
            assert_eq!(
                told,
                (code == "200").then(|| good.clone()),
                "nothing is left of what was wrong"
            );
        }
    }
}

#[tokio::test]
async fn digests_are_verified() {
    let World {
        client,
        service: _service,
        ..
    } = World::new().await;
    let digest = |content: &[u8]| {
        base64(&<s3s::crypto::Md5 as s3s::crypto::Checksum>::checksum(
            content,
        ))
    };
    for (content, code) in [(&b"content"[..], "200"), (b"other", "BadDigest")] {
        let digest = digest(content);
        let headers = [("content-md5", digest.as_str())];
        let put = client
            .call(
                Call {
                    headers: &headers,
                    ..Call::new("PUT", "/bucket/md5")
                },
                b"content",
            )
            .await;
        assert_eq!(put.code(), code);
    }
    for (content, code) in [
        (&b"content"[..], "200"),
        (b"other", "XAmzContentSHA256Mismatch"),
    ] {
        let payload = hex(&sha256(content));
        let put = client
            .call(
                Call {
                    payload: &payload,
                    ..Call::new("PUT", "/bucket/sha256")
                },
                b"content",
            )
            .await;
        assert_eq!(put.code(), code);
        assert!(put.status == 200 || put.status == 400);
    }
}

/// `content` in two chunks and with this trailer.
async fn trailing(client: &Client, path: &str, name: &str, value: &str, is_signed: bool) -> Reply {
    let headers = |length: &'static str| {
        [
            ("content-length", length),
            ("x-amz-decoded-content-length", "7"),
            ("x-amz-trailer", name),
        ]
    };
    // Its length is not known before it is signed, and it is signed with its length.
    let payload = if is_signed {
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    } else {
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    };
    let build = |headers: &[(&str, &str)]| {
        let mut head = client.head(&Call {
            headers,
            payload,
            ..Call::new("PUT", path)
        });
        let body = if is_signed {
            let chunks = &mut head.chunks;
            [
                chunks.chunk(b"con"),
                chunks.chunk(b"tent"),
                chunks.chunk(b""),
                chunks.trailer(name, value),
            ]
            .concat()
        } else {
            format!("3\r\ncon\r\n4\r\ntent\r\n0\r\n{name}:{value}\r\n\r\n").into_bytes()
        };
        (head.text.into_bytes(), body)
    };
    let length = build(&headers("0")).1.len().to_string();
    let mut headers = headers("0");
    headers[0].1 = length.leak();
    let (head, body) = build(&headers);
    client.exchange(&[head, body].concat()).await
}

/// An upload of `/bucket/m`: its id.
async fn begin(client: &Client) -> String {
    let begun = client
        .call(
            Call {
                query: "uploads",
                ..Call::new("POST", "/bucket/m")
            },
            b"",
        )
        .await;
    let text = begun.text();
    let id = text
        .split_once("<UploadId>")
        .and_then(|(_, rest)| rest.split_once("</UploadId>"));
    id.expect("an id").0.to_owned()
}

async fn complete(client: &Client, query: &str, parts: &[(i32, &str)]) -> Reply {
    let part = |(number, etag): &(i32, &str)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    };
    let parts: String = parts.iter().map(part).collect();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let call = Call {
        query,
        ..Call::new("POST", "/bucket/m")
    };
    client.call(call, document.as_bytes()).await
}

#[tokio::test]
async fn parts_are_put_together() {
    let World {
        client,
        service: _service,
        ..
    } = World::new().await;
    let large = vec![b'x'; 5 << 20];
    let id = begin(&client).await;
    let mut etags = Vec::new();
    for (number, content) in [(2, &b"end"[..]), (1, b"too small"), (1, &large)] {
        let query = format!("partNumber={number}&uploadId={id}");
        let put = client
            .call(
                Call {
                    query: &query,
                    ..Call::new("PUT", "/bucket/m")
                },
                content,
            )
            .await;
        etags.push(put.header("etag").expect("an etag").to_owned());
    }
    let query = format!("uploadId={id}");
    let complete = async |parts: &[(i32, &str)]| complete(&client, &query, parts).await;
    let [end, small, first] = [&etags[0], &etags[1], &etags[2]];
    assert_eq!(complete(&[]).await.code(), "MalformedXML");
    assert_eq!(
        complete(&[(2, end), (1, first)]).await.code(),
        "InvalidPartOrder"
    );
    assert_eq!(
        complete(&[(1, small), (2, end)]).await.code(),
        "InvalidPart",
        "it was sent again"
    );
    assert_eq!(
        complete(&[(1, first), (3, end)]).await.code(),
        "InvalidPart"
    );
    assert_eq!(client.get("/bucket/m").await.code(), "NoSuchKey");
    for _ in 0..2 {
        let completed = complete(&[(1, first), (2, end)]).await;
        assert_eq!(
            completed.status,
            200,
            "it may be asked twice: {}",
            completed.text()
        );
        assert!(
            completed.text().contains("-2&quot;") || completed.text().contains("-2\""),
            "{}",
            completed.text()
        );
    }
    let got = client.get("/bucket/m").await;
    assert_eq!(got.body.len(), large.len() + 3);
    assert!(got.body.ends_with(b"xend"));
    let part = client
        .call(
            Call {
                query: "partNumber=2",
                ..Call::new("GET", "/bucket/m")
            },
            b"",
        )
        .await;
    assert_eq!((part.status, &part.body[..]), (206, &b"end"[..]));
    assert_eq!(part.header("x-amz-mp-parts-count"), Some("2"));
}

#[tokio::test]
async fn tenants_are_apart() {
    let World {
        client,
        colleague,
        stranger,
        service: _service,
        ..
    } = World::new().await;
    client.put("/bucket/a", b"content").await;
    assert_eq!(colleague.get("/bucket/a").await.body, b"content");
    for (method, path) in [
        ("GET", "/bucket"),
        ("GET", "/bucket/a"),
        ("PUT", "/bucket/a"),
        ("DELETE", "/bucket/a"),
        ("DELETE", "/bucket"),
    ] {
        let refused = stranger.call(Call::new(method, path), b"").await;
        assert_eq!(refused.code(), "AccessDenied", "{method} {path}");
    }
    assert_eq!(
        stranger.put("/bucket", b"").await.code(),
        "BucketAlreadyExists"
    );
    assert_eq!(client.put("/bucket", b"").await.status, 200);
    stranger.put("/theirs", b"").await;
    let source = [("x-amz-copy-source", "/bucket/a")];
    let copied = stranger
        .call(
            Call {
                headers: &source,
                ..Call::new("PUT", "/theirs/a")
            },
            b"",
        )
        .await;
    assert_eq!(copied.code(), "AccessDenied");
    let buckets = stranger.get("/").await.text();
    assert!(
        buckets.contains("theirs") && !buckets.contains("<Name>bucket"),
        "{buckets}"
    );
    assert_eq!(client.get("/bucket/a").await.body, b"content");
}

#[tokio::test]
async fn buckets_may_be_in_the_host() {
    let World {
        client,
        service: _service,
        ..
    } = World::new().await;
    client.put("/bucket/a", b"content").await;
    let host = [("host", "bucket.s3.test:9000")];
    let got = client
        .call(
            Call {
                headers: &host,
                ..Call::new("GET", "/a")
            },
            b"",
        )
        .await;
    assert_eq!(got.body, b"content");
    let host = [("host", "elsewhere.test")];
    let got = client
        .call(
            Call {
                headers: &host,
                ..Call::new("GET", "/bucket/a")
            },
            b"",
        )
        .await;
    assert_eq!(got.body, b"content");
    let location = client
        .call(
            Call {
                query: "location",
                payload: UNSIGNED,
                ..Call::new("GET", "/bucket")
            },
            b"",
        )
        .await;
    assert!(location.text().contains("here"), "{}", location.text());
}
