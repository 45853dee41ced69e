//! The north-bound interface over HTTPS.
//!
//! [`endpoints`](endpoints::all) is the list of all that can be asked: the router is made of it, and so is the OpenAPI document, which
//! therefore cannot say what is not so. A handler takes a [`Call`](call::Call), which was let in: its token is known, its parameters are those
//! that are described, the caller reads what the endpoint writes. It decides nothing: it asks the controller or the series.
//!
//! What callers may take is bounded: connections, their time to say something, the size of what they say, streams and their life.

mod answer;
mod call;
mod changes;
mod counters;
mod doc;
mod endpoints;
mod logs;
mod metrics;
mod modules;
mod openapi;
mod reads;
mod serve;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use rt::Task;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::controller::Controller;
use crate::series;

pub(crate) use counters::Counters;
pub use openapi::document as openapi;

/// What callers may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Open connections; others wait in the kernel's queue.
    pub(crate) connections: usize,
    /// Watches and logs that are followed; they hold a connection each.
    pub(crate) streams: usize,
    /// A stream ends after it, and its reader asks for the rest: so a reader that is gone is noticed, and no connection lasts.
    pub(crate) stream_life: Duration,
    /// For a handshake, a head, the next piece of a body, and for the caller to take what was written.
    pub(crate) patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            streams: 256,
            stream_life: Duration::from_secs(60),
            patience: Duration::from_secs(20),
        }
    }
}

/// What handlers work with.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    controller: Controller,
    series: Arc<series::Store>,
    limits: Limits,
    streams: Arc<Semaphore>,
    counters: Counters,
}

/// Serves until the handle is dropped.
pub(crate) fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    controller: Controller,
    series: Arc<series::Store>,
    counters: Counters,
) -> Task {
    let limits = Limits::default();
    let front = Front::new(limits, controller, series, counters);
    front.serve(listener, tls)
}

impl Front {
    fn new(
        limits: Limits,
        controller: Controller,
        series: Arc<series::Store>,
        counters: Counters,
    ) -> Self {
        Self {
            controller,
            series,
            limits,
            streams: Arc::new(Semaphore::new(limits.streams)),
            counters,
        }
    }

    fn serve(self, listener: TcpListener, tls: Arc<ServerConfig>) -> Task {
        let (limits, counters) = (self.limits, self.counters.clone());
        let failure = self.controller.inner().failure.clone();
        let accepting = serve::serve(limits, counters, listener, tls, router(self));
        rt::spawn("nbi", failure.guarded("nbi", accepting))
    }
}

fn router(front: Front) -> Router {
    let answers = front.counters.answers.clone();
    let count = move |response: Response| {
        let status = response.status();
        answers.with_label_values(&[status.as_str()]).inc();
        std::future::ready(response)
    };
    let mut router = Router::new();
    for endpoint in endpoints::all() {
        router = router.route(endpoint.path, endpoint.into_route());
    }
    router
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(map_response(count))
        .with_state(front)
}
