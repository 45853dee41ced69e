//! A whole server, and clients of it that say what they should not.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use streams_proto::controller as proto;
use streams_proto::controller::controller_service_client::ControllerServiceClient;
use streams_proto::controller::stream_info::AccessOperation;
use streams_wire::Outgoing;
use streams_wire::frame::{Split, split};
use streams_wire::replies::{AuthTokenCheckFailed, Reply};
use streams_wire::requests::*;
use streams_wire::shapes::{DelegationToken, ScaleType, TableRange, TokenError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;
use tonic::{Code, Request as Ask};

use crate::access::Tokens;
use crate::controller::Permission;
use crate::{Auth, Config, Deps, Service, Tls, password_line, start};

const KEY: &str = "a key";
const STREAM: &str = "prn::/scope:a/stream:b";
const SEGMENT: &str = "a/b/0.#epoch.0";
/// "admin:1111_aaaa", "reader:2222_bbbb".
const ADMIN: &str = "Basic YWRtaW46MTExMV9hYWFh";
const READER: &str = "Basic cmVhZGVyOjIyMjJfYmJiYg==";

struct Server {
    dir: PathBuf,
    /// The certificate of its authority.
    authority: String,
    service: Service,
}

impl Server {
    /// Two users: `admin` and `reader`.
    async fn start(is_tls: bool) -> Self {
        let dir = format!("streams-{:016x}", rt::random_u64());
        let dir = std::env::temp_dir().join(dir);
        fs::create_dir_all(&dir).expect("a directory");
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).expect("it is written");
            path
        };
        let users = [
            password_line("admin", "1111_aaaa", "prn::*,READ_UPDATE"),
            password_line("reader", "2222_bbbb", "prn::/,READ;prn::/scope:a*,READ"),
        ];
        let users = users.map(|line| line.expect("a line")).join("\n");
        let issuer = auth::Authority::new().expect("an authority");
        let key = auth::KeyRequest::new().expect("a key");
        let certificate = issuer.sign("localhost", &key.public_key());
        let certificate = auth::pem(&certificate.expect("a certificate"));
        let of_key = auth::pem(&key.key()).replace("CERTIFICATE", "PRIVATE KEY");
        let mut config = Config {
            lts: format!("file://{}", dir.join("lts").display()),
            dir: dir.join("streams"),
            auth: Some(Auth {
                passwords: write("passwd", &users),
                token_key: Some(write("key", KEY)),
                token_ttl: Duration::from_secs(60),
            }),
            tls: is_tls.then(|| Tls {
                certificate: write("certificate", &certificate),
                key: write("certificate-key", &of_key),
            }),
            ..Config::default()
        };
        fs::create_dir_all(dir.join("lts")).expect("a directory");
        config.store.listen.set_port(0);
        config.controller.listen.set_port(0);
        config.rest.listen.set_port(0);
        let deps = Deps {
            metrics: telemetry::Metrics::new(),
            health: telemetry::Health::starting("starting"),
            stores: store::Registry::default(),
        };
        let service = start(config, deps).await.expect("it starts");
        Self {
            dir,
            authority: auth::pem(issuer.certificate()),
            service,
        }
    }

    async fn stop(self) {
        self.service.stop().await;
        fs::remove_dir_all(self.dir).expect("it is there");
    }

    /// With a segment in it.
    async fn with_segment() -> Self {
        let server = Self::start(false).await;
        let mut peer = server.connect().await;
        let created = peer.ask(create(SEGMENT, token(STREAM, 60))).await;
        assert!(matches!(created, Reply::SegmentCreated(_)), "{created:?}");
        server
    }

    async fn connect(&self) -> Peer<TcpStream> {
        let stream = TcpStream::connect(self.service.store).await;
        Peer::greet(stream.expect("it listens")).await
    }

    async fn controller(&self) -> ControllerServiceClient<Channel> {
        let address = format!("http://{}", self.service.controller);
        let channel = Channel::from_shared(address).expect("an address");
        ControllerServiceClient::new(channel.connect().await.expect("it listens"))
    }

    async fn connect_tls(&self) -> Peer<tokio_rustls::client::TlsStream<TcpStream>> {
        let config = auth::anonymous_client(&self.authority).expect("an authority");
        let stream = TcpStream::connect(self.service.store).await;
        let name = "localhost".try_into().expect("a name");
        let stream = TlsConnector::from(config).connect(name, stream.expect("it listens"));
        Peer::greet(stream.await.expect("it shows its certificate")).await
    }
}

/// One that speaks the protocol, and says what it likes.
struct Peer<S> {
    stream: S,
    received: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn greet(stream: S) -> Self {
        let received = BytesMut::new();
        let mut peer = Self { stream, received };
        let greeted = peer.ask(Hello::OURS).await;
        assert!(matches!(greeted, Reply::Hello(_)), "{greeted:?}");
        peer
    }

    async fn say(&mut self, request: impl Into<Request>) {
        let mut out = Outgoing::default();
        request.into().encode(&mut out).expect("it fits");
        let said = self.stream.write_all_buf(&mut out).await;
        said.expect("it is heard");
        self.stream.flush().await.expect("it is heard");
    }

    /// Nothing, if the connection has ended.
    async fn hear(&mut self) -> Option<Reply> {
        loop {
            match split(&mut self.received).expect("a frame") {
                Split::Frame(frame) => return Some(Reply::decode(frame).expect("a reply")),
                Split::Missing(_) => {
                    let read = self.stream.read_buf(&mut self.received).await;
                    if read.is_ok_and(|n_bytes| n_bytes > 0) {
                        continue;
                    }
                    return None;
                }
            }
        }
    }

    async fn ask(&mut self, request: impl Into<Request>) -> Reply {
        self.say(request).await;
        self.hear().await.expect("it is answered")
    }

    async fn is_refused(&mut self, request: impl Into<Request>, why: TokenError) {
        let request = request.into();
        let name = request.name();
        let refused = AuthTokenCheckFailed {
            request_id: request.request_id().expect("it has one"),
            server_stack_trace: String::new(),
            error_code: why,
        };
        assert_eq!(self.ask(request).await, Reply::from(refused), "{name}");
    }
}

fn signed(resource: &str, permission: Permission, ttl_seconds: u64) -> DelegationToken {
    let tokens = Tokens::new(KEY.as_bytes(), Duration::from_secs(ttl_seconds));
    let token = tokens.issue(resource, permission, rt::wall());
    DelegationToken(token.expect("it is issued"))
}

fn token(resource: &str, ttl_seconds: u64) -> DelegationToken {
    signed(resource, Permission::ReadUpdate, ttl_seconds)
}

fn create(segment: &str, token: DelegationToken) -> CreateSegment {
    CreateSegment {
        request_id: 1,
        segment: segment.to_owned(),
        target_rate: 0,
        scale_type: ScaleType::NoScaling,
        token,
        rollover_size_bytes: 0,
    }
}

fn set_up(segment: &str, token: DelegationToken) -> SetupAppend {
    SetupAppend {
        request_id: 2,
        writer_id: 7,
        segment: segment.to_owned(),
        token,
    }
}

fn append(n: i64) -> AppendBlockEnd {
    AppendBlockEnd {
        writer_id: 7,
        size_of_whole_events: 1,
        data: "x".into(),
        num_events: 1,
        last_event_number: n,
        request_id: n,
    }
}

fn read(offset: i64, token: DelegationToken) -> ReadSegment {
    ReadSegment {
        segment: SEGMENT.to_owned(),
        offset,
        suggested_length: 100,
        token,
        request_id: 3,
    }
}

/// All that need a token.
fn requests(token: &DelegationToken) -> Vec<Request> {
    let (request_id, token) = (9, token.clone());
    let (segment, range) = (SEGMENT.to_owned(), TableRange::default());
    macro_rules! all {
        ($($name:ident { $($field:ident: $value:expr),* },)*) => {
            vec![$($name { request_id, token: token.clone(), $($field: $value),* }.into(),)*]
        };
    }
    all! {
        SetupAppend { writer_id: 1, segment: segment.clone() },
        ReadSegment { segment: segment.clone(), offset: 0, suggested_length: 1 },
        GetStreamSegmentInfo { segment: segment.clone() },
        GetSegmentAttribute { segment: segment.clone(), attribute_id: 1 },
        UpdateSegmentAttribute {
            segment: segment.clone(), attribute_id: 1, new_value: 1, expected_value: 0
        },
        LocateOffset { segment: segment.clone(), target_offset: 0 },
        CreateSegment {
            segment: segment.clone(), target_rate: 0, scale_type: ScaleType::NoScaling,
            rollover_size_bytes: 0
        },
        CreateTransientSegment { writer_id: 1, parent_segment: segment.clone() },
        UpdateSegmentPolicy {
            segment: segment.clone(), target_rate: 0, scale_type: ScaleType::NoScaling
        },
        SealSegment { segment: segment.clone() },
        TruncateSegment { segment: segment.clone(), truncation_offset: 0 },
        DeleteSegment { segment: segment.clone() },
        MergeSegments {
            target: segment.clone(), source: segment.clone(), attribute_updates: Vec::new()
        },
        MergeSegmentsBatch { target: segment.clone(), sources: vec![segment.clone()] },
        CreateTableSegment {
            segment: segment.clone(), is_sorted: false, key_length: 0, rollover_size_bytes: 0
        },
        DeleteTableSegment { segment: segment.clone(), must_be_empty: false },
        GetTableSegmentInfo { segment: segment.clone() },
        UpdateTableEntries {
            segment: segment.clone(), entries: Vec::new(), table_segment_offset: -1
        },
        RemoveTableKeys {
            segment: segment.clone(), keys: Vec::new(), table_segment_offset: -1
        },
        ReadTable { segment: segment.clone(), keys: Vec::new() },
        ReadTableKeys {
            segment: segment.clone(), suggested_key_count: 1, range: range.clone()
        },
        ReadTableEntries { segment: segment.clone(), suggested_entry_count: 1, range: range },
        ReadTableEntriesDelta {
            segment: segment.clone(), from_position: 0, suggested_entry_count: 1
        },
        FlushToStorage { container_id: 0 },
        ListStorageChunks { segment: segment },
    }
}

#[tokio::test]
async fn without_a_good_token_nothing_is_answered() {
    let server = Server::with_segment().await;
    let mut peer = server.connect().await;
    let other = Tokens::new(b"another key", Duration::from_secs(60));
    let forged = other.issue(STREAM, Permission::ReadUpdate, rt::wall());
    let hour = Duration::from_secs(3600);
    let mine = Tokens::new(KEY.as_bytes(), Duration::from_secs(60));
    let expired = mine.issue(STREAM, Permission::ReadUpdate, rt::wall() - hour);
    for (token, why) in [
        (String::new(), TokenError::CheckFailed),
        ("x".repeat(65_535), TokenError::CheckFailed),
        (forged.expect("it is issued"), TokenError::CheckFailed),
        (
            token("prn::/scope:a/stream:bb", 60).0,
            TokenError::CheckFailed,
        ),
        (expired.expect("it is issued"), TokenError::Expired),
    ] {
        for request in requests(&DelegationToken(token.clone())) {
            peer.is_refused(request, why).await;
        }
    }
    // Nothing has happened.
    let read = peer.ask(read(0, token(STREAM, 1))).await;
    assert!(
        matches!(&read, Reply::SegmentRead(it) if it.at_tail),
        "{read:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_good_for_its_stream_and_for_what_it_says() {
    let server = Server::with_segment().await;
    let mut peer = server.connect().await;
    let b = token(STREAM, 60);
    let failed = TokenError::CheckFailed;
    peer.is_refused(create("a/bb/0.#epoch.0", b.clone()), failed)
        .await;
    peer.is_refused(set_up("a/bb/0.#epoch.0", b.clone()), failed)
        .await;
    let to_read = signed(STREAM, Permission::Read, 60);
    peer.is_refused(set_up(SEGMENT, to_read.clone()), failed)
        .await;
    for request in requests(&to_read) {
        let (is_read, name) = (request.name().contains("Read"), request.name());
        let is_question = name.starts_with("Get") || name == "LocateOffset";
        if !is_read && !is_question && name != "ListStorageChunks" {
            peer.is_refused(request, failed).await;
        }
    }
    let merge = MergeSegments {
        request_id: 4,
        target: SEGMENT.to_owned(),
        source: "a/bb/0.#epoch.0".to_owned(),
        token: b.clone(),
        attribute_updates: Vec::new(),
    };
    peer.is_refused(merge, failed).await;
    let setup = peer.ask(set_up(SEGMENT, b.clone())).await;
    assert!(matches!(setup, Reply::AppendSetup(_)), "{setup:?}");
    let appended = peer.ask(append(1)).await;
    assert!(matches!(appended, Reply::DataAppended(_)), "{appended:?}");
    let found = peer.ask(read(0, to_read)).await;
    assert!(
        matches!(&found, Reply::SegmentRead(it) if it.data == "x"),
        "{found:?}"
    );
    // Of a transaction, and in the system's own, whatever the token says.
    let hex = "0123456789abcdef0123456789abcdef";
    let of_txn = format!("{SEGMENT}#transaction.{hex}");
    let created = peer.ask(create(&of_txn, b)).await;
    assert!(matches!(created, Reply::SegmentCreated(_)), "{created:?}");
    let own = create("_system/_control/0.#epoch.0", token("*", 60));
    let refused = peer.ask(own).await;
    assert!(matches!(refused, Reply::ErrorMessage(_)), "{refused:?}");
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_any_more_does_not_go_on() {
    let server = Server::with_segment().await;
    let mut writer = server.connect().await;
    let setup = writer.ask(set_up(SEGMENT, token(STREAM, 2))).await;
    assert!(matches!(setup, Reply::AppendSetup(_)), "{setup:?}");
    let appended = writer.ask(append(1)).await;
    assert!(matches!(appended, Reply::DataAppended(_)), "{appended:?}");
    // A reader waits for more, but no longer than it may.
    let mut reader = server.connect().await;
    let waited = reader
        .ask(read(1, signed(STREAM, Permission::Read, 2)))
        .await;
    assert!(
        matches!(&waited, Reply::SegmentRead(it) if it.at_tail),
        "{waited:?}"
    );
    // The connection of the writer ends without being asked.
    assert_eq!(writer.hear().await, None);

    // One that has had a new token in time goes on.
    let mut writer = server.connect().await;
    for seconds in [2, 60] {
        let setup = writer.ask(set_up(SEGMENT, token(STREAM, seconds))).await;
        assert!(matches!(setup, Reply::AppendSetup(_)), "{setup:?}");
    }
    let waited = reader
        .ask(read(1, signed(STREAM, Permission::Read, 3)))
        .await;
    assert!(
        matches!(&waited, Reply::SegmentRead(it) if it.at_tail),
        "{waited:?}"
    );
    let appended = writer.ask(append(2)).await;
    assert!(matches!(appended, Reply::DataAppended(_)), "{appended:?}");
    server.stop().await;
}

fn sent<T>(message: T, authorization: Option<&str>) -> Ask<T> {
    let mut request = Ask::new(message);
    if let Some(value) = authorization {
        let value = value.parse().expect("ASCII");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

#[tokio::test]
async fn the_controller_asks_for_passwords_and_gives_out_tokens() {
    let server = Server::start(false).await;
    let mut client = server.controller().await;
    let scope = |scope: &str| proto::ScopeInfo {
        scope: scope.to_owned(),
    };
    // "admin:wrong".
    let wrong = "Basic YWRtaW46d3Jvbmc=";
    for (sender, code) in [
        (None, Code::Unauthenticated),
        (Some(wrong), Code::Unauthenticated),
        (Some("Bearer x"), Code::Unauthenticated),
        (Some(READER), Code::PermissionDenied),
        (Some(ADMIN), Code::Ok),
    ] {
        let created = client.create_scope(sent(scope("a"), sender)).await;
        let found = created.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(found, code, "{sender:?}");
    }
    let info = |access_operation: AccessOperation| proto::StreamInfo {
        scope: "a".to_owned(),
        stream: "b".to_owned(),
        access_operation: access_operation.into(),
    };
    let mut peer = server.connect().await;
    for (sender, access, permission) in [
        (READER, AccessOperation::Read, Some(Permission::Read)),
        (READER, AccessOperation::ReadWrite, None),
        (READER, AccessOperation::Unspecified, None),
        (ADMIN, AccessOperation::Read, Some(Permission::Read)),
        (
            ADMIN,
            AccessOperation::Unspecified,
            Some(Permission::ReadUpdate),
        ),
    ] {
        let asked = sent(info(access), Some(sender));
        let told = client.get_delegation_token(asked).await;
        let Some(permission) = permission else {
            let status = told.expect_err("it is not allowed");
            assert_eq!(status.code(), Code::PermissionDenied);
            continue;
        };
        let token = told.expect("it is given").into_inner().delegation_token;
        let created = peer.ask(create(SEGMENT, DelegationToken(token))).await;
        let is_refused = matches!(created, Reply::AuthTokenCheckFailed(_));
        assert_eq!(is_refused, permission == Permission::Read, "{created:?}");
    }
    let listed = client.list_scopes(sent(proto::ScopesRequest::default(), Some(READER)));
    let listed = listed.await.expect("it is allowed").into_inner();
    assert_eq!(listed.scopes, ["a"]);
    server.stop().await;
}

#[tokio::test]
async fn who_speaks_no_tls_disturbs_nobody() {
    let server = Server::start(true).await;
    let ports = [server.service.store, server.service.controller];
    let connect = async |to: SocketAddr| TcpStream::connect(to).await.expect("it listens");
    let mut silent = Vec::new();
    for port in ports {
        for _ in 0..20 {
            silent.push(connect(port).await);
        }
        let mut garbage = connect(port).await;
        let said = garbage.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        said.expect("it is sent");
        // All that is answered is an alert.
        let mut heard = Vec::new();
        garbage.read_to_end(&mut heard).await.ok();
        assert!(heard.len() < 20, "{heard:?}");
    }
    let mut peer = server.connect_tls().await;
    let created = peer.ask(create(SEGMENT, token(STREAM, 60))).await;
    assert!(matches!(created, Reply::SegmentCreated(_)), "{created:?}");

    let config = auth::anonymous_client(&server.authority).expect("an authority");
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = "localhost".try_into().expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, connect(server.service.controller).await);
    let stream = stream.await.expect("it shows its certificate");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    drop(silent);
    server.stop().await;
}
