//! Clients that are not ours, and what they may do.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{connect, get, name, put, setup, start, world, world_with};
use crate::error::Kind;
use crate::front::node::Limits;
use crate::index::Precondition;
use crate::wire::proof::Meeting;
use crate::wire::{
    BODY_BYTES_MAX, Challenge, DATA_BYTES_MAX, HEADER_BYTES, Header, Hello, Op, Prove, Read, Reply,
    Request, Welcome, Write, error,
};

pub(super) struct Stranger(TcpStream);

impl Stranger {
    async fn dial(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.expect("it listens"))
    }

    /// As a user of `acme`.
    pub(super) async fn let_in(addr: SocketAddr) -> Self {
        let mut stranger = Self::dial(addr).await;
        let hello = Hello {
            access_key: "ACME".to_owned(),
            nonce: [1; 32],
        };
        let challenge: Challenge = stranger.say(Op::Hello, 1, &hello).await;
        let meeting = Meeting {
            client: [1; 32],
            node: challenge.nonce,
            binding: [0; 32],
        };
        let proof = meeting.client_proves("one");
        let welcome: Welcome = stranger.say(Op::Prove, 2, &Prove { proof }).await;
        meeting.check_node("one", &welcome.proof).expect("it knows");
        stranger
    }

    async fn say<T: Reply>(&mut self, op: Op, request: u64, what: &impl Reply) -> T {
        self.send(op, request, &what.encode(), &[]).await;
        let (header, body) = self.hear().await.expect("an answer");
        assert_eq!((header.request, header.error), (request, None));
        T::parse(&body).expect("it is understood")
    }

    async fn send(&mut self, op: Op, request: u64, body: &[u8], data: &[u8]) {
        let header = Header {
            op: op.code(),
            is_reply: false,
            error: None,
            request,
            body_bytes: body.len(),
            data_bytes: data.len(),
        };
        // It may have been closed meanwhile: that is heard afterwards.
        for bytes in [&header.encode()[..], body, data] {
            self.0.write_all(bytes).await.ok();
        }
    }

    async fn ask(&mut self, request: u64, what: &Request, data: &[u8]) {
        let (op, body) = what.encode();
        self.send(op, request, &body, data).await;
    }

    pub(super) async fn open(&mut self, request: u64, key: &str, n_bytes: usize) {
        let open = Read::Open {
            name: name(key),
            when: Precondition::None,
            range: 0..n_bytes as u64,
            keep: None,
        };
        self.ask(request, &Request::Read(open), &[]).await;
    }

    pub(super) async fn hear(&mut self) -> io::Result<(Header, Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        self.0.read_exact(&mut header).await?;
        let header = Header::parse(&header).expect("a node says what is understood");
        assert!(header.is_reply);
        let mut body = vec![0; header.body_bytes];
        self.0.read_exact(&mut body).await?;
        let mut data = vec![0; header.data_bytes];
        self.0.read_exact(&mut data).await?;
        Ok((header, body))
    }

    /// Why a request was refused.
    async fn refusal(&mut self, request: u64) -> (Kind, String) {
        let (header, body) = self.hear().await.expect("an answer");
        assert_eq!(header.request, request);
        let kind = header.error.expect("it is refused");
        (kind, error(kind, &body).to_string())
    }

    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // Or reset.
        matches!(self.0.read_to_end(&mut rest).await, Ok(0) | Err(_))
    }
}

#[tokio::test]
async fn who_does_not_begin_with_hello_hears_why_and_is_shown_out() {
    let world = world().await;
    let addr = world.service.addr;
    let mut bare = Stranger::dial(addr).await;
    bare.open(5, "k", 1).await;
    assert_eq!(bare.refusal(0).await.0, Kind::Denied);
    assert!(bare.is_closed().await);

    let mut web = Stranger::dial(addr).await;
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    web.0.write_all(get).await.expect("it listens");
    let (kind, why) = web.refusal(0).await;
    assert_eq!(kind, Kind::Invalid);
    assert!(why.contains("not the node protocol"), "{why}");
    assert!(web.is_closed().await);

    let mut later = Stranger::dial(addr).await;
    let mut header = Header {
        op: Op::Hello.code(),
        is_reply: false,
        error: None,
        request: 1,
        body_bytes: 0,
        data_bytes: 0,
    }
    .encode();
    header[4] = 2;
    later.0.write_all(&header).await.expect("it listens");
    let (_, why) = later.refusal(0).await;
    assert!(why.contains("version 2"), "{why}");

    let mut long = Stranger::dial(addr).await;
    long.send(Op::Hello, 1, &[0; 300], &[]).await;
    assert_eq!(long.refusal(0).await.0, Kind::Denied);
    assert!(long.is_closed().await);
}

#[tokio::test]
async fn who_does_not_say_who_he_is_does_not_stay() {
    let limits = Limits {
        hello: Duration::from_millis(50),
        strangers: 1,
        ..Limits::default()
    };
    let service = start(setup(limits)).await;
    let mut silent = Stranger::dial(service.addr).await;
    let mut half = Stranger::dial(service.addr).await;
    half.0.write_all(b"GEDS").await.expect("it listens");
    // There is room for one stranger at a time: it is let in after both.
    connect(service.addr, "ACME", "one")
        .await
        .expect("it is let in");
    assert!(silent.is_closed().await);
    assert!(half.is_closed().await);
}

#[tokio::test]
async fn what_is_not_understood_is_refused_and_the_rest_is_not_touched() {
    let world = world().await;
    put(&world.acme, "k", b"x").await;
    let mut stranger = Stranger::let_in(world.service.addr).await;
    // An operation without a meaning, a body without one, data where none belongs.
    stranger.send(Op::Status, 3, b"\xff\xff\xff", &[]).await;
    assert_eq!(stranger.refusal(3).await.0, Kind::Invalid);
    stranger.send(Op::Hello, 4, b"", &[9; 100_000]).await;
    assert_eq!(stranger.refusal(4).await.0, Kind::Invalid);
    let no_writer = Request::Write(Write::Put {
        writer: 1,
        position: None,
    });
    stranger.ask(5, &no_writer, &[7; 1000]).await;
    assert_eq!(stranger.refusal(5).await.0, Kind::NotFound);
    let far = Request::Read(Read::More {
        open: 9,
        range: 0..1,
    });
    stranger.ask(6, &far, &[]).await;
    assert_eq!(stranger.refusal(6).await.0, Kind::NotFound);
    stranger.open(7, "k", 1).await;
    let (header, _) = stranger.hear().await.expect("an answer");
    assert_eq!(
        (header.request, header.error, header.data_bytes),
        (7, None, 1)
    );

    for (body_bytes, data_bytes) in [(BODY_BYTES_MAX + 1, 0), (0, DATA_BYTES_MAX + 1)] {
        let mut stranger = Stranger::let_in(world.service.addr).await;
        let header = Header {
            op: Op::Status.code(),
            is_reply: false,
            error: None,
            request: 3,
            body_bytes,
            data_bytes,
        };
        stranger
            .0
            .write_all(&header.encode())
            .await
            .expect("it listens");
        assert_eq!(stranger.refusal(0).await.0, Kind::Invalid);
        assert!(stranger.is_closed().await);
    }
    assert_eq!(&*get(&world.acme, "k").await.expect("it is there"), b"x");
}

#[tokio::test]
async fn who_stops_in_the_midst_of_a_frame_does_not_stay() {
    let limits = Limits {
        patience: Duration::from_millis(50),
        bytes_per_second: u32::MAX,
        ..Limits::default()
    };
    let world = world_with(limits).await;
    let mut stranger = Stranger::let_in(world.service.addr).await;
    let header = Header {
        op: Op::Status.code(),
        is_reply: false,
        error: None,
        request: 3,
        body_bytes: 100,
        data_bytes: 0,
    };
    stranger
        .0
        .write_all(&header.encode())
        .await
        .expect("it listens");
    assert!(stranger.is_closed().await);
}

#[tokio::test]
async fn a_connection_has_no_more_than_its_limits() {
    let limits = Limits {
        objects: 2,
        ..Limits::default()
    };
    let world = world_with(limits).await;
    put(&world.acme, "k", b"x").await;
    let mut stranger = Stranger::let_in(world.service.addr).await;
    let open = |keep| {
        Request::Read(Read::Open {
            name: name("k"),
            when: Precondition::None,
            range: 0..1,
            keep: Some(keep),
        })
    };
    let begin = |writer| Request::Write(Write::Begin { writer, reserve: 0 });
    for (request, what, expected) in [
        (3, open(1), None),
        (4, open(1), Some(Kind::Invalid)),
        (5, open(2), None),
        (6, open(3), Some(Kind::Exhausted)),
        (7, begin(1), None),
        (8, begin(1), Some(Kind::Invalid)),
        (9, begin(2), None),
        (10, begin(3), Some(Kind::Exhausted)),
        (11, Request::Read(Read::Close { open: 1 }), None),
        (12, open(3), None),
        (13, Request::Write(Write::Abort { writer: 1 }), None),
        (14, begin(3), None),
    ] {
        stranger.ask(request, &what, &[]).await;
        let (header, _) = stranger.hear().await.expect("an answer");
        assert_eq!((header.request, header.error), (request, expected));
    }
}
