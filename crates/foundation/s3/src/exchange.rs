//! One request on its way through the library: what must pass it untouched, and what is to be known afterwards.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use s3s::auth::SecretKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Dispatch;

use crate::body::{Body, BodyError, Pace};
use crate::checksum::Algorithm;
use crate::config::Limits;
use crate::fault::Fault;
use crate::payload::{Coding, Payload, text};
use crate::signing::{Authorization, Signer};

/// Where a request's body waits until it is known what it is. The library is given a [`Document`] instead, which takes the body from here
/// if the library wants a document; who writes content takes it from here before. So nothing is read of a body that is not wanted, and
/// content does not pass the library, which neither compares it with its trailing checksums nor bounds the memory of a chunk.
#[derive(Clone)]
pub(crate) struct Exchange(Arc<Inner>);

struct Inner {
    limits: Limits,
    raw: Mutex<Option<s3s::Body>>,
    /// Why the document could not be given to the library, which would call all of it an internal error.
    failure: Mutex<Option<Fault>>,
    operation: Mutex<String>,
    /// Held as long as the document may be in memory.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    dispatch: Dispatch,
}

impl Exchange {
    pub(crate) fn new(limits: Limits, raw: s3s::Body) -> Self {
        Self(Arc::new(Inner {
            limits,
            raw: Mutex::new(Some(raw)),
            failure: Mutex::new(None),
            operation: Mutex::new(String::new()),
            place: Mutex::new(None),
            dispatch: tracing::dispatcher::get_default(Dispatch::clone),
        }))
    }

    /// Who takes log lines outside the library.
    pub(crate) fn dispatch(&self) -> Dispatch {
        self.0.dispatch.clone()
    }

    pub(crate) fn set_operation(&self, name: String) {
        *locked(&self.0.operation) = name;
    }

    pub(crate) fn operation(&self) -> String {
        locked(&self.0.operation).clone()
    }

    pub(crate) fn take_failure(&self) -> Option<Fault> {
        locked(&self.0.failure).take()
    }

    /// The content that comes with the request. `keep`: see [`Body::new`].
    pub(crate) fn content(
        &self,
        headers: &HeaderMap,
        secret: &SecretKey,
        keep: Option<Algorithm>,
    ) -> Result<Body, Fault> {
        let limits = &self.0.limits;
        let payload = Payload::parse(headers)?;
        if payload
            .length
            .is_some_and(|length| length > limits.content_bytes)
        {
            return Err(Fault::Body(BodyError::TooLarge {
                size_max: limits.content_bytes,
            }));
        }
        let signer = match payload.coding {
            Coding::Chunked { is_signed: true } => Some(signer(headers, secret)?),
            _ => None,
        };
        let raw = locked(&self.0.raw).take();
        let raw = raw.ok_or(Fault::Invalid("the body was read before"))?;
        let pace = Pace::new(limits.patience, limits.bytes_per_second);
        Ok(Body::new(
            raw,
            payload,
            signer,
            keep,
            limits.content_bytes,
            pace,
        ))
    }

    /// Stands for the body as long as the library has the request.
    pub(crate) fn document(&self, head: &Parts, places: Arc<Semaphore>) -> s3s::Body {
        let headers = &head.headers;
        let mut parameters = head.uri.query().unwrap_or("").split('&');
        let is_completion = head.method == Method::POST
            && parameters.any(|parameter| parameter.starts_with("uploadId="));
        let payload = if is_completion {
            // The checksums are of the object that is being completed.
            Payload::parse_transfer(headers)
        } else {
            Payload::parse(headers)
        };
        let length = text(headers, "content-length").ok().flatten();
        s3s::Body::http_body_unsync(Document {
            exchange: self.clone(),
            length: length.and_then(|length| length.parse().ok()).unwrap_or(0),
            payload,
            places,
            reading: None,
        })
    }
}

fn signer(headers: &HeaderMap, secret: &SecretKey) -> Result<Signer, Fault> {
    const MISSING: Fault = Fault::Invalid("a body in signed chunks needs a signed head");
    let authorization = text(headers, "authorization")?.ok_or(MISSING)?;
    let authorization = Authorization::parse(authorization).ok_or(MISSING)?;
    let date = text(headers, "x-amz-date")?.ok_or(MISSING)?;
    Ok(Signer::new(secret.expose(), &authorization, date))
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body that is taken into memory as a whole, and verified, when it is first asked for.
struct Document {
    exchange: Exchange,
    length: u64,
    payload: Result<Payload, Fault>,
    places: Arc<Semaphore>,
    reading: Option<Reading>,
}

enum Reading {
    On(Pin<Box<dyn Future<Output = Result<Bytes, Fault>> + Send>>),
    Over,
}

impl Document {
    fn begin(&mut self) -> impl Future<Output = Result<Bytes, Fault>> + Send + use<> {
        let exchange = self.exchange.clone();
        let limits = exchange.0.limits;
        let raw = locked(&exchange.0.raw).take();
        let payload = std::mem::replace(&mut self.payload, Ok(Payload::default()));
        let places = Arc::clone(&self.places);
        async move {
            let payload = match payload {
                // Nothing comes, and nothing was said of it.
                Err(Fault::MissingContentLength) => return Ok(Bytes::new()),
                other => other?,
            };
            if payload.coding != Coding::Plain {
                return Err(Fault::NotImplemented("documents in chunks"));
            }
            let size_max = limits.document_bytes as u64;
            if payload.length.is_some_and(|length| length > size_max) {
                return Err(Fault::Body(BodyError::TooLarge { size_max }));
            }
            let Some(raw) = raw else {
                return Ok(Bytes::new());
            };
            let place = places
                .acquire_owned()
                .await
                .expect("nobody closes the semaphore");
            *locked(&exchange.0.place) = Some(place);
            let pace = Pace::new(limits.patience, limits.bytes_per_second);
            let body = Body::new(raw, payload, None, None, size_max, pace);
            body.collect().await.map_err(Fault::Body)
        }
    }
}

impl HttpBody for Document {
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, s3s::StdError>>> {
        if self.reading.is_none() {
            let reading = Box::pin(self.begin());
            self.reading = Some(Reading::On(reading));
        }
        let Some(Reading::On(reading)) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let result = ready!(reading.as_mut().poll(context));
        self.reading = Some(Reading::Over);
        match result {
            Ok(bytes) if bytes.is_empty() => Poll::Ready(None),
            Ok(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Err(fault) => {
                let error = fault.to_string().into();
                *locked(&self.exchange.0.failure) = Some(fault);
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    /// The library refuses requests without a length even where no body is meant.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
