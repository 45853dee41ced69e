use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use streams_client::client::Config;
use streams_client::connection::{Connection, Endpoint};
use streams_client::controller::{Credentials, StreamConfig, TransactionState, trust};
use streams_client::cut::StreamCut;
use streams_client::names::{SegmentNumber, StreamName};
use streams_client::reader::Until;
use streams_client::writer::{SegmentWriter, Transaction};
use streams_client::{Client, Error, EventWriter, Segment, StreamReader, Table};
use streams_wire::limits::NO_ATTRIBUTE;
use streams_wire::shapes::{TableEntry, TableKey, TableValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::controller::TestController;
use crate::proxy::Proxy;
use crate::store::Store;
use crate::{World, address, create_stream};

async fn read_all(mut reader: StreamReader) -> Result<Vec<String>> {
    let mut events = Vec::new();
    while let Some(event) = reader.next().await? {
        events.push(String::from_utf8(event.data.to_vec())?);
    }
    Ok(events)
}

#[tokio::test]
async fn segments_do_what_they_are_asked() -> Result<()> {
    let world = World::start().await?;
    let client = world.client()?;
    let stream: StreamName = "scope/bytes".parse()?;
    let segment = Segment::new(&client, stream.segment(SegmentNumber(0)));
    ensure!(matches!(segment.info().await, Err(Error::NoSuchSegment(_))));
    segment.create().await?;
    ensure!(matches!(segment.create().await, Err(Error::Exists(_))));

    let (ended, mut ends) = mpsc::channel(1);
    let writer = SegmentWriter::new(&client, segment.name().clone(), ended);
    writer.append(Bytes::from_static(b"abc")).await?;
    writer.append(Bytes::from_static(b"")).await?;
    writer.flush().await?;
    let info = segment.info().await?;
    ensure!((info.start_offset, info.length, info.is_sealed) == (0, 19, false));
    let read = segment.read(8, 3).await?;
    ensure!(&read.data[..] == b"abc" && !read.is_at_end);

    ensure!(segment.attribute(7).await? == NO_ATTRIBUTE);
    ensure!(segment.set_attribute(7, NO_ATTRIBUTE, 1).await?);
    ensure!(!segment.set_attribute(7, NO_ATTRIBUTE, 2).await?);
    ensure!(segment.attribute(7).await? == 1);

    segment.truncate(11).await?;
    ensure!(segment.read(0, 1).await == Err(Error::Truncated { start: 11 }));
    let other = Segment::new(&client, stream.segment(SegmentNumber(1)));
    other.create().await?;
    ensure!(segment.merge(other.name()).await? == 19);
    segment.seal().await?;
    segment.seal().await?;
    ensure!(segment.read(19, 1).await?.is_at_end);

    let receipt = writer.append(Bytes::from_static(b"late")).await?;
    ensure!(matches!(writer.flush().await, Err(Error::Sealed(_))));
    let end = ends.recv().await.expect("its writer is here");
    ensure!(end.unacknowledged.len() == 1 && end.unacknowledged[0].data() == "late");
    drop(end);
    ensure!(receipt.wait().await.is_err());
    segment.delete().await?;
    ensure!(matches!(
        segment.delete().await,
        Err(Error::NoSuchSegment(_))
    ));
    Ok(())
}

#[tokio::test]
async fn tables_have_what_was_put() -> Result<()> {
    let world = World::start().await?;
    let client = world.client()?;
    let stream: StreamName = "scope/table".parse()?;
    let table = Table::new(&client, stream.segment(SegmentNumber(0)));
    table.create(0).await?;
    let entry = |key: &'static str, version, value: &'static str| TableEntry {
        key: TableKey::new(key.into(), version),
        value: TableValue(value.into()),
    };
    let put = [
        entry("a", TableKey::NO_VERSION, "1"),
        entry("b", TableKey::NOT_EXISTS, "2"),
    ];
    let versions = table.put(&put).await?;
    ensure!(versions.len() == 2 && versions[0] != versions[1]);
    let length = table.info().await?.length;
    ensure!(table.put_if(&put[..1], 0).await == Err(Error::Truncated { start: length }));
    let unlike = Err(Error::Condition("the key has another version"));
    ensure!(table.put(&put[1..]).await == unlike);

    let keys = ["b", "c", "a"].map(Bytes::from);
    let got = table.get(&keys).await?;
    ensure!(
        got == [
            entry("b", versions[1], "2"),
            entry("c", TableKey::NOT_EXISTS, ""),
            entry("a", versions[0], "1"),
        ]
    );
    let first = table.keys(&Bytes::new(), 1).await?;
    ensure!(first.items == [TableKey::new("a".into(), versions[0])]);
    let second = table.entries(&first.token, 10).await?;
    ensure!(second.items == [entry("b", versions[1], "2")]);
    table
        .remove(&[TableKey::new("a".into(), versions[0])])
        .await?;
    let delta = table.delta(0, 10).await?;
    ensure!(delta.entries == [entry("b", versions[1], "2")] && delta.is_at_end);
    table.delete(false).await?;
    Ok(())
}

#[tokio::test]
async fn a_transaction_is_there_as_a_whole_or_not_at_all() -> Result<()> {
    let world = World::start().await?;
    let client = world.client()?;
    let stream = create_stream(&client, 2).await?;
    let lease = Duration::from_secs(10);
    for (text, is_committed) in [("kept", true), ("dropped", false)] {
        let mut transaction = Transaction::begin(&client, stream.clone(), lease).await?;
        for key in ["a", "b", "c"] {
            transaction
                .write(key, Bytes::from(format!("{text} {key}")))
                .await?;
        }
        let id = transaction.id();
        let state = if is_committed {
            transaction.commit().await?;
            TransactionState::Committed
        } else {
            transaction.abort().await?;
            TransactionState::Aborted
        };
        ensure!(client.controller().transaction_state(&stream, id).await? == state);
    }
    let reader = StreamReader::open(&client, &stream, Until::Tail).await?;
    let mut events = read_all(reader).await?;
    events.sort();
    ensure!(events == ["kept a", "kept b", "kept c"]);
    Ok(())
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was_and_follows_to_the_end() -> Result<()> {
    let world = World::start().await?;
    let client = world.client()?;
    let stream = create_stream(&client, 1).await?;
    let writer = EventWriter::open(&client, stream.clone()).await?;
    for number in 0..10 {
        writer.write("key", Bytes::from(number.to_string())).await?;
    }
    writer.flush().await?;
    let mut reader = StreamReader::open(&client, &stream, Until::Tail).await?;
    for _ in 0..4 {
        ensure!(reader.next().await?.is_some());
    }
    let position: StreamCut = reader.position().to_string().parse()?;
    ensure!(position.to_string() == "scope/stream:0.0=36");
    let tail = client.tail(&stream).await?;
    ensure!(tail.to_string() == "scope/stream:0.0=90");

    let mut follower = StreamReader::open_at(&client, position, Until::Sealed);
    for number in 4..10 {
        let event = follower.next().await?.expect("it is there");
        ensure!(event.data == number.to_string());
    }
    let sealed = [SegmentNumber(0)];
    let ranges = [(0.0, 0.5), (0.5, 1.0)];
    client.controller().scale(&stream, &sealed, &ranges).await?;
    writer.write("key", Bytes::from_static(b"last")).await?;
    writer.flush().await?;
    let event = follower.next().await?.expect("it comes");
    ensure!(event.data == "last" && event.segment.to_string().ends_with(".1"));
    client.controller().seal_stream(&stream).await?;
    ensure!(follower.next().await?.is_none());
    let receipt = writer.write("key", Bytes::from_static(b"late")).await?;
    ensure!(matches!(receipt.wait().await, Err(Error::Sealed(_))));
    ensure!(matches!(writer.flush().await, Err(Error::Sealed(_))));
    Ok(())
}

#[tokio::test]
async fn what_was_given_up_is_said() -> Result<()> {
    let world = World::start().await?;
    let client = world.client()?;
    let stream = create_stream(&client, 1).await?;
    let writer = EventWriter::open(&client, stream.clone()).await?;
    for text in ["one", "two"] {
        writer.write("key", Bytes::from(text)).await?;
    }
    writer.flush().await?;
    let segment = Segment::new(&client, stream.segment(SegmentNumber(0)));
    segment.truncate(11).await?;
    let mut reader = StreamReader::open(&client, &stream, Until::Tail).await?;
    ensure!(reader.next().await == Err(Error::Truncated { start: 11 }));
    ensure!(
        reader
            .next()
            .await?
            .is_some_and(|event| event.data == "two")
    );
    ensure!(reader.next().await?.is_none());
    Ok(())
}

#[tokio::test]
async fn lists_come_page_by_page() -> Result<()> {
    let world = World::start().await?;
    let client = world.client()?;
    let controller = client.controller();
    let config = StreamConfig::default();
    for stream in ["a/x", "a/y", "b/z"] {
        controller.create_stream(&stream.parse()?, &config).await?;
    }
    let again = controller.create_stream(&"a/x".parse()?, &config).await;
    ensure!(again == Err(Error::Exists("a/x".to_owned())));
    ensure!(controller.stream_config(&"a/x".parse()?).await? == config);
    let missing = controller.stream_config(&"a/w".parse()?).await;
    ensure!(missing == Err(Error::NotFound("a/w".to_owned())));

    let (mut scopes, mut token) = (Vec::new(), String::new());
    loop {
        let page = controller.scopes(&token).await?;
        if page.items.is_empty() {
            break;
        }
        scopes.extend(page.items);
        token = page.token;
    }
    ensure!(scopes == ["a", "b"]);
    let page = controller.streams("a", "x").await?;
    ensure!(page.items == ["a/y".parse()?]);
    Ok(())
}

#[tokio::test]
async fn tls_is_spoken_to_whom_is_trusted() -> Result<()> {
    let store = Store::new();
    let (store_address, _storing) = store.listen().await?;
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der());
    let key = key.map_err(anyhow::Error::msg)?;
    let mut config = rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let store_tls = Proxy::tls(store_address, config.clone()).await?;
    // "user:secret".
    let password = Some("Basic dXNlcjpzZWNyZXQ=");
    let (_, controller, _controlling) =
        TestController::start(store.clone(), store_tls.address, password)?;
    let controller_tls = Proxy::tls(controller, config).await?;

    let mut config = Config::new(address(controller_tls.address, "tls"));
    config.tls = Some(Arc::new(trust(cert.pem().as_bytes())?));
    config.credentials = Some(Credentials::Basic {
        user: "user".to_owned(),
        password: "secret".to_owned(),
    });
    let client = Client::new(config.clone())?;
    let stream = create_stream(&client, 1).await?;
    let writer = EventWriter::open(&client, stream.clone()).await?;
    writer.write("key", Bytes::from_static(b"hidden")).await?;
    writer.flush().await?;
    ensure!(store.length("scope/stream/0.#epoch.0") == 14);

    config.credentials = None;
    let stranger = Client::new(config.clone())?;
    let refused = stranger.controller().current_segments(&stream).await;
    ensure!(matches!(refused, Err(Error::Auth { .. })), "{refused:?}");
    let other = generate_simple_self_signed(["localhost".to_owned()])?;
    config.tls = Some(Arc::new(trust(other.cert.pem().as_bytes())?));
    let misled = Client::new(config)?;
    let refused = misled.controller().current_segments(&stream).await;
    ensure!(
        matches!(refused, Err(Error::Disconnected(_))),
        "{refused:?}"
    );
    Ok(())
}

/// What a client makes of a store that says these bytes when it is greeted.
async fn open_to(bytes: &'static [u8]) -> Result<Result<Connection, Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = Endpoint {
        host: "localhost".to_owned(),
        port: listener.local_addr()?.port(),
    };
    let store = async {
        let (mut stream, _) = listener.accept().await?;
        let mut hello = [0; 16];
        stream.read_exact(&mut hello).await?;
        stream.write_all(bytes).await?;
        Ok::<_, std::io::Error>(stream)
    };
    let (opened, _stream) = tokio::join!(Connection::open(&endpoint, None), store);
    Ok(opened)
}

#[tokio::test]
async fn what_is_no_store_is_not_believed() -> Result<()> {
    let check = async |bytes| match open_to(bytes).await? {
        Err(Error::Protocol(_)) => Ok(()),
        other => bail!("{other:?}"),
    };
    check(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
    // Versions 3 to 4.
    check(&[255, 255, 255, 129, 0, 0, 0, 8, 0, 0, 0, 4, 0, 0, 0, 3]).await?;
    // A KeepAlive.
    check(&[0, 0, 0, 100, 0, 0, 0, 0]).await?;
    let hello = &[255, 255, 255, 129, 0, 0, 0, 8, 0, 0, 0, 17, 0, 0, 0, 5];
    let connection = open_to(hello).await??;
    let asked = connection.call(|request_id| {
        streams_wire::requests::GetSegmentAttribute {
            request_id,
            segment: String::new(),
            attribute_id: 0,
            token: streams_wire::shapes::DelegationToken::default(),
        }
        .into()
    });
    ensure!(matches!(asked.await, Err(Error::Disconnected(_))));
    ensure!(connection.has_ended());
    Ok(())
}
