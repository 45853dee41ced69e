//! Through a real connection, over a store in memory.

mod memory;

mod crashes;
mod groups;
mod limits;
mod scopes;
mod segments;
mod transactions;

use std::future::Future;
use std::sync::Arc;

use rt::Task;
use streams_control::Limits;
use streams_proto::controller as wire;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use wire::controller_service_client::ControllerServiceClient;
use wire::scale_response::ScaleStreamStatus;

pub(crate) use self::memory::Memory;
use super::{Anyone, Authority, Config, Controller, Endpoint, Published};

/// A controller, and one that talks to it.
struct World {
    memory: Arc<Memory>,
    client: ControllerServiceClient<Channel>,
    shutdown: oneshot::Sender<()>,
    served: Task,
}

impl World {
    async fn new() -> Self {
        Self::over(Arc::new(Memory::new())).await
    }

    async fn over(memory: Arc<Memory>) -> Self {
        Self::with(memory, Config::default(), Arc::new(Anyone)).await
    }

    async fn with(memory: Arc<Memory>, config: Config, authority: Arc<dyn Authority>) -> Self {
        let controller = open(&memory, &config, authority).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let (shutdown, is_shut_down) = oneshot::channel();
        let served = rt::spawn("a controller", async {
            let shutdown = async {
                is_shut_down.await.ok();
            };
            let served = controller.serve(listener, shutdown).await;
            served.expect("it is served to its end");
        });
        let address = Channel::from_shared(format!("http://127.0.0.1:{port}"));
        let channel = address.expect("it is one").connect().await;
        Self {
            memory,
            client: ControllerServiceClient::new(channel.expect("it listens")),
            shutdown,
            served,
        }
    }

    /// Another one over the same store.
    async fn restarted(self) -> Self {
        let Self {
            memory,
            client,
            shutdown,
            served,
        } = self;
        drop(client);
        shutdown.send(()).expect("it is there");
        served.ended().await;
        Self::over(memory).await
    }

    /// With the streams that it is to have, of two segments each.
    async fn with_streams(scope: &str, streams: &[&str]) -> Self {
        let mut world = Self::new().await;
        let created = world.client.create_scope(scope_info(scope)).await;
        assert_eq!(told(created).status, 0);
        for stream in streams {
            let created = world.client.create_stream(config(scope, stream, 2)).await;
            assert_eq!(told(created).status, 0, "{stream}");
        }
        world
    }

    /// Changes of a stream take turns: all that was begun has ended.
    async fn settle(&mut self, scope: &str, stream: &str) {
        let mut client = self.client.clone();
        let config = told(client.get_stream_configuration(info(scope, stream)).await);
        let updated = told(client.update_stream(config).await);
        assert_eq!(updated.status, 0, "{stream} is settled");
    }

    /// The ids and lower ends of those that are written now.
    async fn current(&mut self, scope: &str, stream: &str) -> Vec<(i64, f64)> {
        let current = self.client.get_current_segments(info(scope, stream)).await;
        ids(&told(current).segment_ranges)
    }

    /// All segments are replaced by these.
    async fn scale(&mut self, scope: &str, stream: &str, borders: &[f64]) -> wire::ScaleResponse {
        let current = self.current(scope, stream).await;
        let sealed = current.into_iter().map(|(id, _)| id).collect();
        let scaling = self
            .client
            .scale(scale(scope, stream, sealed, borders))
            .await;
        let begun = told(scaling);
        assert_eq!(begun.status(), ScaleStreamStatus::Started);
        begun
    }
}

pub(crate) async fn open(
    memory: &Arc<Memory>,
    config: &Config,
    authority: Arc<dyn Authority>,
) -> Controller {
    let published = Published {
        controllers: vec![endpoint("controller", 9090)],
        store: endpoint("store", 12345),
    };
    let limits = Limits {
        page_max: 3,
        ..Limits::default()
    };
    let memory = Arc::clone(memory) as _;
    let opened = Controller::over(memory, limits, config, authority, published).await;
    opened.expect("its rows are read")
}

fn endpoint(host: &str, port: u16) -> Endpoint {
    let host = host.to_owned();
    Endpoint { host, port }
}

fn told<T>(answer: Result<Response<T>, Status>) -> T {
    answer.expect("it is answered").into_inner()
}

async fn fails<T>(answer: impl Future<Output = Result<Response<T>, Status>>) -> Code {
    match answer.await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

fn ids(ranges: &[wire::SegmentRange]) -> Vec<(i64, f64)> {
    let id = |range: &wire::SegmentRange| {
        let id = range.segment_id.as_ref().expect("a segment");
        (id.segment_id, range.min_key)
    };
    ranges.iter().map(id).collect()
}

pub(crate) fn scope_info(scope: &str) -> wire::ScopeInfo {
    let scope = scope.to_owned();
    wire::ScopeInfo { scope }
}

pub(crate) fn info(scope: &str, stream: &str) -> wire::StreamInfo {
    wire::StreamInfo {
        scope: scope.to_owned(),
        stream: stream.to_owned(),
        access_operation: 0,
    }
}

pub(crate) fn config(scope: &str, stream: &str, n_segments: i32) -> wire::StreamConfig {
    wire::StreamConfig {
        stream_info: Some(info(scope, stream)),
        scaling_policy: Some(wire::ScalingPolicy {
            min_num_segments: n_segments,
            ..wire::ScalingPolicy::default()
        }),
        ..wire::StreamConfig::default()
    }
}

fn segment(scope: &str, stream: &str, segment_id: i64) -> wire::SegmentId {
    wire::SegmentId {
        stream_info: Some(info(scope, stream)),
        segment_id,
    }
}

fn cut(scope: &str, stream: &str, offsets: &[(i64, i64)]) -> wire::StreamCut {
    wire::StreamCut {
        stream_info: Some(info(scope, stream)),
        cut: offsets.iter().copied().collect(),
    }
}

/// Ranges from each border to the next, and from the last to the end.
pub(crate) fn scale(
    scope: &str,
    stream: &str,
    sealed: Vec<i64>,
    borders: &[f64],
) -> wire::ScaleRequest {
    let ends = borders.iter().skip(1).chain([&1.0]);
    let ranges = borders.iter().zip(ends);
    let range = |(start, end): (&f64, &f64)| wire::scale_request::KeyRangeEntry {
        start: *start,
        end: *end,
    };
    wire::ScaleRequest {
        stream_info: Some(info(scope, stream)),
        sealed_segments: sealed,
        new_key_ranges: ranges.map(range).collect(),
        scale_timestamp: 0,
    }
}

/// What clients see as the id of a segment.
fn id(epoch: i64, number: i64) -> i64 {
    (epoch << 32) | number
}
