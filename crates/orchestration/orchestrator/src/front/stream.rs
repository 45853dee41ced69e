//! Answers without end: what changes, as server-sent events; and the body that streams are made of.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::response::Response;
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::Front;
use super::answer::{Answer, Refusal};
use super::call::Call;
use super::counters::Level;
use crate::controller::{Event, Watch};

/// A comment goes out when nothing else has, so that both sides know of each other.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Pieces that wait for the connection.
const PIECES_MAX: usize = 4;

/// Why a stream breaks off. The reader asks again, and is told.
#[derive(Debug, thiserror::Error)]
#[error("the stream breaks off")]
pub(super) struct Broken;

pub(super) type Sender = mpsc::Sender<Result<Bytes, Broken>>;

/// A body that a task writes. The task ends with it.
struct Streamed {
    pieces: mpsc::Receiver<Result<Bytes, Broken>>,
    _task: rt::Task,
    _place: Place,
}

/// A place among the streams.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _open: Level,
}

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let piece = self.pieces.poll_recv(context);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

impl Front {
    pub(super) fn place(&self) -> Result<Place, Refusal> {
        let full = |_| Refusal::new(429, format!("{} streams are open", self.limits.streams));
        Ok(Place {
            _permit: Arc::clone(&self.streams)
                .try_acquire_owned()
                .map_err(full)?,
            _open: Level::up(&self.counters.streams),
        })
    }

    /// When a stream that begins now ends.
    pub(super) fn end_of_stream(&self, call: &Call) -> Result<Instant, Refusal> {
        let life = call.duration("timeout")?.unwrap_or(Duration::MAX);
        Ok(Instant::from_std(rt::now()) + life.min(self.limits.stream_life))
    }
}

pub(super) fn respond<F: Future<Output = ()> + Send + 'static>(
    kind: &'static str,
    place: Place,
    write: impl FnOnce(Sender) -> F,
) -> Response {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let body = Streamed {
        pieces,
        _task: rt::spawn("stream", write(sender)),
        _place: place,
    };
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) async fn watch(State(front): State<Front>, call: Call) -> Answer {
    let place = front.place()?;
    let last = call.header(&HeaderName::from_static("last-event-id"))?;
    let begin = match last.or(call.parameter("since")) {
        Some(revision) => revision.to_owned(),
        None => front.controller.revision(),
    };
    let watch = front.controller.watch(&call.org, Some(&begin))?;
    let end = front.end_of_stream(&call)?;
    let write = |sender| write_events(watch, begin, end, sender);
    Ok(respond("text/event-stream", place, write))
}

async fn write_events(mut watch: Watch, begin: String, end: Instant, sender: Sender) {
    let mut keepalive = interval(KEEPALIVE);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keepalive.tick().await;
    // Without data it is no event, but it says where to go on.
    let mut text = format!("retry: 1000\nid: {begin}\n\n");
    loop {
        if sender.send(Ok(text.into())).await.is_err() {
            return;
        }
        text = tokio::select! {
            event = watch.next() => match event {
                Ok(event) => render(&event),
                // The reader asks for what follows, and is told that it is gone.
                Err(_) => return,
            },
            _ = keepalive.tick() => ": still here\n\n".to_owned(),
            () = sleep_until(end) => return,
        };
    }
}

fn render(event: &Event) -> String {
    let event_data = nbi::WatchEvent {
        revision: event.revision.clone(),
        kind: event.kind.to_owned(),
        name: event.name.clone(),
        object: event.object.clone(),
    };
    let data = serde_json::to_string(&event_data).unwrap_or_default();
    format!(
        "id: {}\nevent: {}\ndata: {data}\n\n",
        event.revision, event.kind
    )
}
