//! What is found of streams, over a directory.

use std::path::PathBuf;
use std::sync::Arc;

use streams_control::SYSTEM_SCOPE;
use streams_core::op::{Op, Put, Version};
use streams_proto::controller as wire;
use streams_proto::controller::controller_service_server::ControllerService as _;
use streams_store::Store;
use tonic::Request;

use super::*;
use crate::controller::tests::{config as stream, info, scale, scope_info};
use crate::controller::{self, Anyone, Controller, Endpoint, Published};

struct World {
    config: Config,
}

impl Drop for World {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.config.dir).ok();
    }
}

/// With it ends all that was begun in it: then no server has the directory.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

impl World {
    fn new() -> Self {
        let name = format!("streams-offline-{:016x}", rt::random_u64());
        let dir: PathBuf = std::env::temp_dir().join(name);
        std::fs::create_dir_all(dir.join("lts")).expect("a directory");
        let lts = format!("file://{}", dir.join("lts").display());
        let config = Config {
            dir,
            lts,
            ..Config::default()
        };
        Self { config }
    }

    async fn store(&self) -> Store {
        let lts = lts(&self.config, &Registry::default(), &Metrics::new()).expect("a store");
        let store = Store::open(&self.config.dir, &self.config.segments, lts).await;
        store.expect("opened")
    }

    /// A stream that was scaled and truncated, and one that is sealed.
    fn with_streams() -> Self {
        let world = Self::new();
        run(world.write());
        world
    }

    async fn write(&self) {
        let store = self.store().await;
        let endpoint = Endpoint {
            host: "here".to_owned(),
            port: 1,
        };
        let published = Published {
            controllers: Vec::new(),
            store: endpoint,
        };
        let config = controller::Config::default();
        let opened = Controller::open(store.clone(), &config, Arc::new(Anyone), published);
        let controller = opened.await.expect("opened");
        let service = controller.service();
        let created = service.create_scope(Request::new(scope_info("lab"))).await;
        created.expect("created");
        for name in ["video", "sound"] {
            let created = service.create_stream(Request::new(stream("lab", name, 2)));
            created.await.expect("created");
        }
        let scaled = scale("lab", "video", vec![0, 1], &[0.0, 0.5, 0.7]);
        service.scale(Request::new(scaled)).await.expect("scaled");
        let cut = wire::StreamCut {
            stream_info: Some(info("lab", "video")),
            cut: (2..5).map(|number| ((1 << 32) | number, 0)).collect(),
        };
        let truncated = service.truncate_stream(Request::new(cut)).await;
        assert_eq!(truncated.expect("truncated").into_inner().status, 0);
        let sealed = service
            .seal_stream(Request::new(info("lab", "sound")))
            .await;
        sealed.expect("sealed");
        controller.close().await;
        store.close().await;
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let checked = check(&self.config, |told| {
            if let Told::Finding(finding) = told {
                findings.push(finding);
            }
        });
        assert_eq!(run(checked).expect("checked"), findings.len());
        findings
    }

    /// Behind the controller's back.
    fn execute(&self, op: Op) {
        run(async {
            let store = self.store().await;
            store.execute(op).await.expect("done");
            store.close().await;
        });
    }
}

fn name(segment: &str) -> SegmentName {
    SegmentName::new(segment).expect("a name")
}

#[test]
fn segments_are_those_that_streams_have() {
    let world = World::with_streams();
    assert_eq!(world.findings(), []);
    world.execute(Op::Seal(name("lab/video/3.#epoch.1")));
    assert_eq!(world.findings(), [], "it may be sealed next");
    world.execute(Op::Delete(name("lab/video/3.#epoch.1")));
    world.execute(Op::Delete(name("lab/sound/1.#epoch.0")));
    let found = world.findings();
    let places: Vec<_> = found.iter().map(|it| it.place.as_str()).collect();
    assert_eq!(
        places,
        ["lab/sound/1.#epoch.0", "lab/video/3.#epoch.1"],
        "{found:?}"
    );
}

#[test]
fn rows_that_make_no_sense_are_found() {
    let world = World::with_streams();
    let put = |key: &'static str, value: &'static [u8]| Op::PutEntries {
        table: name(TABLE),
        entries: vec![Put {
            key: key.into(),
            value: value.into(),
            when: Version::Any,
        }],
        expected_length: None,
    };
    world.execute(put("t/lab/other", &[9, 9]));
    let found = world.findings();
    assert_eq!(found[0].place, "the row t/lab/other", "{found:?}");
    // An epoch of a stream that has none before it.
    world.execute(put("t/lab/other", &[]));
    assert_eq!(world.findings(), []);
    world.execute(put("e/lab/video/00000000", &[]));
    let found = world.findings();
    assert_eq!(found[0].place, "the rows of the controller", "{found:?}");
    assert!(TABLE.starts_with(SYSTEM_SCOPE));
}
