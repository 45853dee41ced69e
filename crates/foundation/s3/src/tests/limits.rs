//! What happens at each limit.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::World;
use super::client::{Call, read};
use crate::Memory;
use crate::config::Limits;

const IMPATIENT: Duration = Duration::from_millis(50);

async fn within(limits: Limits) -> World {
    World::within(limits, Arc::new(Memory::new())).await
}

#[tokio::test]
async fn content_has_a_limit() {
    let world = within(Limits {
        content_bytes: 10,
        ..Limits::default()
    })
    .await;
    let client = &world.client;
    assert_eq!(client.put("/bucket/a", &[0; 10]).await.status, 200);
    assert_eq!(
        client.put("/bucket/b", &[0; 11]).await.code(),
        "EntityTooLarge"
    );
    let chunked = [("transfer-encoding", "chunked")];
    let head = client.head(&Call {
        headers: &chunked,
        ..Call::new("PUT", "/bucket/b")
    });
    let body = b"b\r\n01234567890\r\n0\r\n\r\n";
    let refused = client
        .exchange(&[head.text.as_bytes(), body].concat())
        .await;
    assert_eq!(refused.code(), "EntityTooLarge");
    assert_eq!(client.get("/bucket/b").await.code(), "NoSuchKey");
    let text = world.metrics.render();
    assert!(
        text.contains("s3_errors_total{code=\"EntityTooLarge\"} 2\n"),
        "{text}"
    );
}

#[tokio::test]
async fn documents_have_a_limit() {
    let world = within(Limits {
        document_bytes: 100,
        documents: 1,
        ..Limits::default()
    })
    .await;
    let client = &world.client;
    let tags = |value: &str| {
        let tag = format!("<Tag><Key>a</Key><Value>{value}</Value></Tag>");
        format!("<Tagging><TagSet>{tag}</TagSet></Tagging>").into_bytes()
    };
    let call = || Call {
        query: "tagging",
        ..Call::new("PUT", "/bucket")
    };
    assert_eq!(client.call(call(), &tags("b")).await.status, 200);
    assert_eq!(
        client.call(call(), &tags(&"b".repeat(100))).await.code(),
        "EntityTooLarge"
    );
    // The place of one document becomes free for others.
    let (a, b) = (tags("c"), tags("d"));
    let (a, b) = tokio::join!(client.call(call(), &a), client.call(call(), &b));
    assert_eq!((a.status, b.status), (200, 200));
}

#[tokio::test]
async fn heads_have_a_limit() {
    let world = within(Limits {
        head_bytes: 16 << 10,
        ..Limits::default()
    })
    .await;
    let long = "x".repeat(20 << 10);
    let large = format!("GET /bucket HTTP/1.1\r\nHost: a\r\nx: {long}\r\n\r\n");
    let many = format!(
        "GET /bucket HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "x: y\r\n".repeat(200)
    );
    for head in [large, many] {
        assert_eq!(world.client.exchange(head.as_bytes()).await.status, 431);
    }
    let endless = world
        .client
        .exchange("x".repeat(100 << 10).as_bytes())
        .await;
    assert!(
        endless.status >= 400 || endless.status == 0,
        "{}",
        endless.status
    );
    assert!(world.metric("s3_heads_refused_total") >= 2.0);
}

#[tokio::test]
async fn slow_senders_are_not_waited_for() {
    let world = within(Limits {
        patience: IMPATIENT,
        ..Limits::default()
    })
    .await;
    let client = &world.client;
    client.put("/bucket/a", b"before").await;
    // A head that does not end.
    let mut stream = client.connect().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHo")
        .await
        .expect("it is taken");
    assert_eq!(read(&mut stream).await.body, b"", "nothing was asked");
    // A body that does not end.
    let length = [("content-length", "100")];
    let head = client.head(&Call {
        headers: &length,
        ..Call::new("PUT", "/bucket/a")
    });
    let mut stream = client.connect().await;
    stream
        .write_all(head.text.as_bytes())
        .await
        .expect("it is taken");
    stream.write_all(b"slow").await.expect("it is taken");
    assert_eq!(read(&mut stream).await.code(), "RequestTimeout");
    // A document that does not begin.
    let head = client.head(&Call {
        headers: &length,
        query: "delete",
        ..Call::new("POST", "/bucket")
    });
    let mut stream = client.connect().await;
    stream
        .write_all(head.text.as_bytes())
        .await
        .expect("it is taken");
    assert_eq!(read(&mut stream).await.code(), "RequestTimeout");
    assert_eq!(client.get("/bucket/a").await.body, b"before");
}

#[tokio::test]
async fn slow_readers_are_not_waited_for() {
    let world = within(Limits {
        patience: IMPATIENT,
        // What the kernel takes for a client that does not read earns it less than a second.
        bytes_per_second: 8 << 20,
        ..Limits::default()
    })
    .await;
    let client = &world.client;
    // More than the kernel takes for a client that does not read.
    let large = vec![7; 64 << 20];
    assert_eq!(client.put("/bucket/a", &large).await.status, 200);
    let serves = async |any: bool| {
        while (world.metric("s3_connections") > 0.0) != any {
            tokio::task::yield_now().await;
        }
    };
    serves(false).await;
    let head = client.head(&Call::new("GET", "/bucket/a"));
    let mut stream = client.connect().await;
    stream
        .write_all(head.text.as_bytes())
        .await
        .expect("it is taken");
    // It begins to be answered, and is given up.
    serves(true).await;
    serves(false).await;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.ok();
    assert!(got.len() < large.len(), "it was given up");
    assert_eq!(client.get("/bucket/a").await.body.len(), large.len());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let world = within(Limits {
        connections: 2,
        ..Limits::default()
    })
    .await;
    let client = &world.client;
    let idle = [client.connect().await, client.connect().await];
    while world.metric("s3_connections") < 2.0 {
        tokio::task::yield_now().await;
    }
    let waiting = client.get("/bucket");
    let (reply, ()) = tokio::join!(waiting, async {
        while world.metric("s3_connections_delayed_total") < 1.0 {
            tokio::task::yield_now().await;
        }
        drop(idle);
    });
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn requests_end_when_the_server_is_stopped() {
    let world = World::new().await;
    let World {
        client, service, ..
    } = world;
    let length = [("content-length", "7")];
    let head = client.head(&Call {
        headers: &length,
        ..Call::new("PUT", "/bucket/a")
    });
    let mut begun = client.connect().await;
    begun
        .write_all(head.text.as_bytes())
        .await
        .expect("it is taken");
    begun.write_all(b"con").await.expect("it is taken");
    let mut idle = client.connect().await;
    // It has begun when the first byte of the body was read; the store waits for the rest.
    while !world.metrics.render().contains("\ns3_connections 2\n") {
        tokio::task::yield_now().await;
    }
    let ((), ()) = tokio::join!(service.stop(), async {
        assert_eq!(idle.read(&mut [0]).await.expect("it is closed"), 0);
        begun.write_all(b"tent").await.expect("it is taken");
        assert_eq!(read(&mut begun).await.status, 200);
    });
    tokio::net::TcpStream::connect(client.addr)
        .await
        .expect_err("nobody listens");
}

#[tokio::test]
async fn requests_that_do_not_end_are_ended() {
    let world = within(Limits {
        drain: IMPATIENT,
        ..Limits::default()
    })
    .await;
    let length = [("content-length", "7")];
    let head = world.client.head(&Call {
        headers: &length,
        ..Call::new("PUT", "/bucket/a")
    });
    let mut begun = world.client.connect().await;
    begun
        .write_all(head.text.as_bytes())
        .await
        .expect("it is taken");
    world.service.stop().await;
    assert_eq!(read(&mut begun).await.status, 0);
}
