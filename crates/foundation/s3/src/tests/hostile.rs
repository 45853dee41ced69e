//! What nobody who means well sends.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::World;
use super::client::{Call, Client, Head, read};
use crate::text::base64;

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// With `before` at `/bucket/a`, which must be there afterwards.
async fn world() -> World {
    let world = World::new().await;
    world.client.put("/bucket/a", b"before").await;
    world
}

async fn is_as_before(client: &Client) {
    assert_eq!(
        client.get("/bucket/a").await.body,
        b"before",
        "nothing was committed"
    );
}

/// A request to write seven bytes whose body is made by `body`, and its length told as it is.
async fn send(
    client: &Client,
    payload: &str,
    more: &[(&str, &str)],
    body: impl Fn(&mut Head) -> Vec<u8>,
) -> String {
    let build = |length: &str| {
        let mut headers = vec![
            ("content-length", length),
            ("x-amz-decoded-content-length", "7"),
        ];
        headers.extend_from_slice(more);
        let mut head = client.head(&Call {
            headers: &headers,
            payload,
            ..Call::new("PUT", "/bucket/a")
        });
        let body = body(&mut head);
        (head, body)
    };
    let length = build("0").1.len();
    let (head, body) = build(&length.to_string());
    client
        .exchange(&[head.text.as_bytes(), &body].concat())
        .await
        .code()
}

#[tokio::test]
async fn chunks_that_lie_are_refused() {
    let World {
        client,
        service: _service,
        ..
    } = world().await;
    let chunks = |head: &mut Head, chunks: &[&[u8]]| {
        chunks
            .iter()
            .flat_map(|data| head.chunks.chunk(data))
            .collect::<Vec<_>>()
    };
    let good = |head: &mut Head| chunks(head, &[b"con", b"tent", b""]);
    let code = send(&client, SIGNED, &[], |head| {
        let body = String::from_utf8(good(head)).expect("text");
        body.replacen("tent", "tenT", 1).into_bytes()
    });
    assert_eq!(code.await, "SignatureDoesNotMatch", "content was changed");
    let code = send(&client, SIGNED, &[], |head| {
        let body = String::from_utf8(good(head)).expect("text");
        let at = body.rfind("chunk-signature=").expect("it is signed") + 20;
        let other = if body.as_bytes()[at] == b'0' {
            "1"
        } else {
            "0"
        };
        format!("{}{other}{}", &body[..at], &body[at + 1..]).into_bytes()
    });
    assert_eq!(
        code.await,
        "SignatureDoesNotMatch",
        "the last signature was changed"
    );
    let code = send(&client, SIGNED, &[], |_| {
        b"7\r\ncontent\r\n0\r\n\r\n".to_vec()
    });
    assert_eq!(code.await, "SignatureDoesNotMatch", "it was not signed");
    let code = send(&client, SIGNED, &[], |head| {
        chunks(head, &[b"con", b"tent"])
    });
    assert_eq!(code.await, "IncompleteBody", "there is no last chunk");
    let code = send(&client, SIGNED, &[], |head| chunks(head, &[b"con", b""]));
    assert_eq!(code.await, "IncompleteBody", "it is shorter than was said");
    let code = send(&client, SIGNED, &[], |head| {
        chunks(head, &[b"con", b"tents", b""])
    });
    assert_eq!(code.await, "IncompleteBody", "it is longer than was said");
    let code = send(&client, SIGNED, &[], |head| {
        let mut body = good(head);
        body.splice(0..1, *b"4");
        body
    });
    assert_eq!(
        code.await,
        "SignatureDoesNotMatch",
        "a chunk is longer than it is"
    );
    let code = send(&client, SIGNED, &[], |_| vec![b'f'; 4096]);
    assert_eq!(code.await, "InvalidRequest", "there are no chunks");
    is_as_before(&client).await;
    let code = send(&client, SIGNED, &[], good).await;
    assert_eq!(code, "200", "the others were wrong, not this test");
}

#[tokio::test]
async fn trailers_that_lie_are_refused() {
    let World {
        client,
        service: _service,
        ..
    } = world().await;
    let announced = [("x-amz-trailer", "x-amz-checksum-crc32")];
    let good = base64(&<s3s::crypto::Crc32 as s3s::crypto::Checksum>::checksum(
        b"content",
    ));
    let cases = [
        (String::new(), "InvalidRequest"),
        ("x-amz-checksum-crc32:AAAAAA==\r\n".to_owned(), "BadDigest"),
        ("x-amz-checksum-crc32:x\r\n".to_owned(), "InvalidRequest"),
        (
            format!("x-amz-checksum-crc32c:{good}\r\n"),
            "InvalidRequest",
        ),
        (
            format!("x-amz-checksum-crc32:{good}\r\nx-amz-meta-a: b\r\n"),
            "InvalidRequest",
        ),
        (
            format!("x-amz-checksum-crc32:{good}\r\nx-amz-checksum-crc32:AAAAAA==\r\n"),
            "InvalidRequest",
        ),
        ("x".repeat(20_000), "InvalidRequest"),
        (format!("x-amz-checksum-crc32:{good}\r\n"), "200"),
    ];
    for (trailer, wanted) in cases {
        let body = format!("7\r\ncontent\r\n0\r\n{trailer}\r\n").into_bytes();
        let code = send(&client, TRAILER, &announced, |_| body.clone()).await;
        assert_eq!(code, wanted, "{trailer}");
        if wanted != "200" {
            is_as_before(&client).await;
        }
    }
    let code = send(&client, TRAILER, &[], |_| {
        b"7\r\ncontent\r\n0\r\n\r\n".to_vec()
    })
    .await;
    assert_eq!(code, "InvalidRequest", "none was announced");
}

#[tokio::test]
async fn bodies_that_break_off_leave_nothing() {
    let World {
        client,
        service: _service,
        ..
    } = world().await;
    let length = [("content-length", "100")];
    let head = client.head(&Call {
        headers: &length,
        ..Call::new("PUT", "/bucket/a")
    });
    let cut = client
        .exchange(&[head.text.as_bytes(), b"only so much"].concat())
        .await;
    assert_eq!(cut.code(), "IncompleteBody");
    // One that does not even wait for the answer.
    let mut stream = client.connect().await;
    stream
        .write_all(head.text.as_bytes())
        .await
        .expect("it is taken");
    drop(stream);
    let chunked = [("transfer-encoding", "chunked")];
    for (body, code) in [
        (&b"5\r\nafter\r\n0\r\n\r\n"[..], "200"),
        (b"5\r\nafter\r\n", "IncompleteBody"),
        (b"5\r\naf", "IncompleteBody"),
        (b"zz\r\nafter\r\n0\r\n\r\n", "IncompleteBody"),
    ] {
        let head = client.head(&Call {
            headers: &chunked,
            ..Call::new("PUT", "/bucket/b")
        });
        let put = client
            .exchange(&[head.text.as_bytes(), body].concat())
            .await;
        assert_eq!(put.code(), code, "{body:?}");
    }
    assert_eq!(client.get("/bucket/b").await.body, b"after");
    is_as_before(&client).await;
}

#[tokio::test]
async fn signatures_are_verified() {
    let world = world().await;
    let client = &world.client;
    let head = client.head(&Call::new("DELETE", "/bucket/a")).text;
    let signature = head.rfind("Signature=").expect("it is signed") + 10;
    let other = if head.as_bytes()[signature] == b'0' {
        "1"
    } else {
        "0"
    };
    let wrong = format!("{}{other}{}", &head[..signature], &head[signature + 1..]);
    let cases = [
        (wrong, "SignatureDoesNotMatch"),
        (
            head.replace("/bucket/a", "/bucket/b"),
            "SignatureDoesNotMatch",
        ),
        (head.replacen("DELETE", "PUT", 1), "SignatureDoesNotMatch"),
        (head.replace("=CLIENT/", "=NOBODY/"), "InvalidAccessKeyId"),
        (
            head.replace("=CLIENT/", "=STRANGER/"),
            "SignatureDoesNotMatch",
        ),
        (head.replace("/s3/aws4", "/sts/aws4"), "AccessDenied"),
        (
            head.replace(
                "Connection: close",
                "Connection: close\r\nx-amz-acl: private",
            ),
            "AccessDenied",
        ),
        (
            head.replace("Authorization: ", "X-Authorization: "),
            "AccessDenied",
        ),
        (
            head.replace("AWS4-HMAC-SHA256 ", "AWS5 "),
            "AuthorizationHeaderMalformed",
        ),
    ];
    for (head, wanted) in cases {
        let code = client.exchange(head.as_bytes()).await.code();
        assert_eq!(code, wanted, "{head}");
    }
    is_as_before(client).await;
    let text = world.metrics.render();
    assert!(
        text.contains("s3_errors_total{code=\"SignatureDoesNotMatch\"} 4\n"),
        "{text}"
    );
}

#[tokio::test]
async fn documents_are_verified() {
    let World {
        client,
        service: _service,
        ..
    } = world().await;
    let document = b"<Delete><Object><Key>a</Key></Object></Delete>";
    let delete = async |headers: &[(&str, &str)], document: &[u8]| {
        let call = Call {
            query: "delete",
            headers,
            ..Call::new("POST", "/bucket")
        };
        client.call(call, document).await.code()
    };
    assert_eq!(
        delete(&[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], document).await,
        "BadDigest"
    );
    assert_eq!(
        delete(&[("content-md5", "AAAA")], document).await,
        "InvalidDigest"
    );
    assert_eq!(
        delete(&[("x-amz-checksum-crc32", "AAAAAA==")], document).await,
        "BadDigest"
    );
    assert_eq!(
        delete(&[], b"<Delete><Object><Key>a</Key>").await,
        "MalformedXML"
    );
    assert_eq!(delete(&[], b"").await, "MissingRequestBodyError");
    let many = format!(
        "<Delete>{}</Delete>",
        "<Object><Key>a</Key></Object>".repeat(1001)
    );
    assert_eq!(delete(&[], many.as_bytes()).await, "MalformedXML");
    is_as_before(&client).await;
    assert_eq!(delete(&[], document).await, "200");
    assert_eq!(client.get("/bucket/a").await.code(), "NoSuchKey");
}

/// Documents of all kinds that are read here, each with one byte otherwise, or cut there.
#[tokio::test]
async fn documents_that_are_nearly_right_are_done_or_refused() {
    let World {
        client,
        service: _service,
        ..
    } = world().await;
    let documents = [
        (
            "POST",
            "/bucket",
            "delete",
            "<Delete><Object><Key>b</Key></Object></Delete>",
        ),
        (
            "POST",
            "/bucket/b",
            "uploadId=none",
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"0\"</ETag></Part></CompleteMultipartUpload>",
        ),
        (
            "PUT",
            "/bucket/b",
            "tagging",
            "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
        ),
        (
            "PUT",
            "/other",
            "",
            "<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>",
        ),
    ];
    for (method, path, query, document) in documents {
        for at in 0..document.len() {
            let (before, after) = (&document.as_bytes()[..at], &document.as_bytes()[at + 1..]);
            // In turn, for there are many.
            let with: &[u8] = [
                &b"<"[..],
                b"&",
                b">",
                b"\0",
                b"\xff",
                b"<!DOCTYPE a [<!ENTITY b \"b\">]>&b;",
            ][at % 6];
            for body in [before.to_vec(), [before, with, after].concat()] {
                let call = Call {
                    query,
                    ..Call::new(method, path)
                };
                let answer = client.call(call, &body).await;
                let body = String::from_utf8_lossy(&body).into_owned();
                assert!(answer.status < 500, "{body}: {}", answer.text());
            }
        }
    }
    is_as_before(&client).await;
}

#[tokio::test]
async fn nobody_is_asked_to_send_what_is_refused() {
    let World {
        client,
        service: _service,
        ..
    } = world().await;
    let headers = [("content-length", "7"), ("expect", "100-continue")];
    let head = client.head(&Call {
        headers: &headers,
        ..Call::new("PUT", "/nowhere/a")
    });
    let mut stream = client.connect().await;
    stream
        .write_all(head.text.as_bytes())
        .await
        .expect("it is taken");
    let refused = read(&mut stream).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (404, "NoSuchBucket")
    );
    let head = client.head(&Call {
        headers: &headers,
        ..Call::new("PUT", "/bucket/a")
    });
    let mut stream = client.connect().await;
    stream
        .write_all(head.text.as_bytes())
        .await
        .expect("it is taken");
    let mut told = [0; 25];
    stream.read_exact(&mut told).await.expect("it goes on");
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"content").await.expect("it is taken");
    assert_eq!(read(&mut stream).await.status, 200);
}

#[tokio::test]
async fn what_is_not_there_is_refused() {
    let World {
        client,
        service: _service,
        ..
    } = world().await;
    for (name, value) in [
        ("x-amz-acl", "public-read"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-storage-class", "GLACIER"),
    ] {
        let headers = [(name, value)];
        let refused = client
            .call(
                Call {
                    headers: &headers,
                    ..Call::new("PUT", "/bucket/a")
                },
                b"x",
            )
            .await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (501, "NotImplemented"),
            "{name}"
        );
    }
    for (method, query) in [
        ("PUT", "acl"),
        ("PUT", "policy"),
        ("PUT", "versioning"),
        ("GET", "cors"),
        ("PUT", "lifecycle"),
    ] {
        let refused = client
            .call(
                Call {
                    query,
                    ..Call::new(method, "/bucket")
                },
                b"",
            )
            .await;
        assert!(
            refused.status >= 400,
            "{method} {query}: {}",
            refused.status
        );
    }
    let version = client
        .call(
            Call {
                query: "versionId=7",
                ..Call::new("GET", "/bucket/a")
            },
            b"",
        )
        .await;
    assert_eq!(version.code(), "NoSuchVersion");
    is_as_before(&client).await;
}
