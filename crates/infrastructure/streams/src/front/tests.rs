//! Through a connection, over a store in a directory.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use store::Registry;
use streams_wire::Outgoing;
use streams_wire::frame::{Split, split};
use streams_wire::replies::Reply;
use streams_wire::requests::{
    CreateSegment, FlushToStorage, Hello, ListStorageChunks, Request, SetupAppend,
};
use streams_wire::shapes::{DelegationToken, ScaleType};
use telemetry::Metrics;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{Shared, connection};
use crate::config;
use crate::metrics::Counters;

const SEGMENT: &str = "a/b/0.#epoch.0";

struct World {
    dir: PathBuf,
    stream: DuplexStream,
    received: BytesMut,
    _served: rt::Task,
}

impl Drop for World {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

impl World {
    async fn new() -> Self {
        let name = format!("streams-front-{:016x}", rt::random_u64());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(dir.join("lts")).expect("a directory");
        let url = format!("file://{}", dir.join("lts").display());
        let lts = Registry::default().open(&url).expect("a store");
        let config = streams_store::Config::default();
        let store = streams_store::Store::open(&dir, &config, lts).await;
        let limits = config::Store::default().limits();
        let counters = Counters::new(&Metrics::new());
        let shared = Arc::new(Shared::new(store.expect("opened"), limits, counters, None));
        let (stream, other) = tokio::io::duplex(1 << 20);
        let (reader, writer) = tokio::io::split(other);
        let served = rt::spawn("a connection", async move {
            connection::serve(reader, writer, shared).await.ok();
        });
        let mut world = Self {
            dir,
            stream,
            received: BytesMut::new(),
            _served: served,
        };
        assert!(matches!(world.next().await, Reply::Hello(_)));
        world.send(Hello::OURS).await;
        world
    }

    async fn send(&mut self, request: impl Into<Request>) {
        let mut out = Outgoing::default();
        request.into().encode(&mut out).expect("it can be said");
        let bytes = out.copy_to_bytes(out.remaining());
        self.stream.write_all(&bytes).await.expect("sent");
    }

    async fn next(&mut self) -> Reply {
        loop {
            if let Split::Frame(frame) = split(&mut self.received).expect("frames") {
                return Reply::decode(frame).expect("a reply");
            }
            let n_bytes = self.stream.read_buf(&mut self.received).await;
            assert!(n_bytes.expect("read") > 0, "the connection has ended");
        }
    }

    async fn ask(&mut self, request: impl Into<Request>) -> Reply {
        self.send(request).await;
        self.next().await
    }

    async fn chunks(&mut self, segment: &str) -> Reply {
        let list = ListStorageChunks {
            segment: segment.to_owned(),
            token: DelegationToken::default(),
            request_id: 5,
        };
        self.ask(list).await
    }
}

fn flush(container_id: i32) -> FlushToStorage {
    FlushToStorage {
        container_id,
        token: DelegationToken::default(),
        request_id: 4,
    }
}

#[tokio::test]
async fn what_is_flushed_is_listed() {
    let mut world = World::new().await;
    let create = CreateSegment {
        request_id: 1,
        segment: SEGMENT.to_owned(),
        target_rate: 0,
        scale_type: ScaleType::NoScaling,
        token: DelegationToken::default(),
        rollover_size_bytes: 0,
    };
    assert!(matches!(world.ask(create).await, Reply::SegmentCreated(_)));
    let set_up = SetupAppend {
        request_id: 2,
        writer_id: 7,
        segment: SEGMENT.to_owned(),
        token: DelegationToken::default(),
    };
    assert!(matches!(world.ask(set_up).await, Reply::AppendSetup(_)));
    let append = streams_wire::requests::AppendBlockEnd {
        writer_id: 7,
        size_of_whole_events: 100,
        data: vec![0; 100].into(),
        num_events: 1,
        last_event_number: 1,
        request_id: 3,
    };
    assert!(matches!(world.ask(append).await, Reply::DataAppended(_)));
    match world.chunks(SEGMENT).await {
        Reply::StorageChunksListed(listed) => assert_eq!(listed.chunks, []),
        other => panic!("{other:?}"),
    }
    for container in 0..=4 {
        match world.ask(flush(container)).await {
            Reply::StorageFlushed(flushed) => assert_eq!(flushed.request_id, 4),
            other => panic!("{other:?}"),
        }
    }
    let Reply::StorageChunksListed(listed) = world.chunks(SEGMENT).await else {
        panic!("it is listed");
    };
    let [chunk] = &listed.chunks[..] else {
        panic!("{listed:?}");
    };
    assert_eq!(listed.request_id, 5);
    assert_eq!((chunk.start_offset, chunk.exists_in_storage), (0, true));
    assert_eq!(
        (chunk.length_in_metadata, chunk.length_in_storage),
        (100, 100)
    );
    for wrong in [-1, 5, i32::MAX] {
        let told = world.ask(flush(wrong)).await;
        assert!(matches!(told, Reply::ErrorMessage(_)), "{told:?}");
    }
    let told = world.chunks("a/b/1.#epoch.0").await;
    assert!(matches!(told, Reply::NoSuchSegment(_)), "{told:?}");
    let told = world.chunks("_system/_control/0.#epoch.0").await;
    assert!(matches!(told, Reply::ErrorMessage(_)), "{told:?}");
}
