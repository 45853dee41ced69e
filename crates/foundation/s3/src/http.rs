//! One request: what the library does not do, before it and after it.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Error};
use tokio::sync::Semaphore;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;

use crate::access::{self, Domains, Rules};
use crate::config::Limits;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::front::Front;
use crate::metrics::Counters;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// What all requests share.
pub(crate) struct Server {
    service: S3Service,
    limits: Limits,
    documents: Arc<Semaphore>,
    counters: Counters,
}

impl Server {
    pub(crate) fn new(front: Front, counters: Counters) -> Self {
        let limits = front.config.limits;
        let users = front.users.clone();
        let domains = Domains(front.config.domains.clone());
        let mut builder = S3ServiceBuilder::new(front);
        builder.set_auth(users);
        builder.set_access(Rules);
        builder.set_host(domains);
        Self {
            service: builder.build(),
            limits,
            documents: Arc::new(Semaphore::new(limits.documents)),
            counters,
        }
    }

    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let began = rt::now();
        let (head, raw) = request.into_parts();
        let exchange = Exchange::new(self.limits, raw.into());
        let mut response = match access::check(&head) {
            Ok(()) => self.pass(head, &exchange).await,
            Err(fault) => refusal(fault),
        };
        // What was wrong with a document is told better than by the library, which only knows that it did not get it.
        if let Some(fault) = exchange.take_failure() {
            response = refusal(fault);
        }
        let operation = exchange.operation();
        if operation == "GetObjectAttributes" {
            unquote_etag(&mut response);
        }
        let id = format!("{:016X}", rt::random_u64());
        let code = identify(&mut response, &id);
        let status = response.status();
        if let Some(code) = code {
            self.counters.errors.with_label_values(&[&code]).inc();
            tracing::debug!(id, operation, code, %status, "refuse an S3 request");
        }
        let class = format!("{}xx", status.as_u16() / 100);
        self.counters
            .requests
            .with_label_values(&[&operation, &class])
            .inc();
        self.counters
            .seconds
            .observe((rt::now() - began).as_secs_f64());
        Ok(response)
    }

    /// The library logs each request that is refused as an error, and at the level `debug` what a right signature would have been. So
    /// nobody hears it.
    async fn pass(
        &self,
        mut head: hyper::http::request::Parts,
        exchange: &Exchange,
    ) -> Response<Body> {
        access::complete_path(&mut head);
        let document = exchange.document(&head, Arc::clone(&self.documents));
        head.extensions.insert(exchange.clone());
        let request = Request::from_parts(head, document);
        let answer = self.service.call(request).with_subscriber(Dispatch::none());
        answer.await.unwrap_or_else(|_| internal_error())
    }
}

/// Here alone S3 writes an etag without quotation marks, and the library with them (s3s issue 629).
fn unquote_etag(response: &mut Response<Body>) {
    let Some(body) = response.body().bytes() else {
        return;
    };
    let text = String::from_utf8_lossy(&body);
    let text = text
        .replace("<ETag>\"", "<ETag>")
        .replace("\"</ETag>", "</ETag>");
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = text.into();
}

fn refusal(fault: Fault) -> Response<Body> {
    let response = S3Error::from(fault).to_http_response();
    response.unwrap_or_else(|_| internal_error())
}

fn internal_error() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Gives the answer the id of its request, in the document too if that says what is wrong. Returns S3's code for it.
fn identify(response: &mut Response<Body>, id: &str) -> Option<String> {
    let header_id = HeaderValue::from_str(id).expect("digits are a header's value");
    response.headers_mut().insert(REQUEST_ID, header_id);
    if response.status().is_success() {
        return None;
    }
    let body = response.body().bytes()?;
    let text = std::str::from_utf8(&body).ok()?;
    let (before, code) = text.split_once("<Code>")?;
    let (code, _) = code.split_once("</Code>")?;
    let code = code.to_owned();
    if before.ends_with("<Error>") && text.ends_with("</Error>") && !text.contains("<RequestId>") {
        let end = text.len() - "</Error>".len();
        let text = format!("{}<RequestId>{id}</RequestId></Error>", &text[..end]);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = text.into();
    }
    Some(code)
}
