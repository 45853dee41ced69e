//! HTTP for S3, over the client that we have: `object_store` would bring another with its own TLS, and its own idea of patience.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::Uri;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use prometheus::IntCounter;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::conditions::Conditions;
use super::{Config, Counters, Limits};
use crate::{Class, Error, Result};

/// Where systems keep the authorities that they trust.
const AUTHORITIES: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];
/// How our own S3 face says that an acknowledgement is not durable.
const CLASS: &str = "x-cloudskin-acknowledgement";

#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client<Dialer, HttpRequestBody>,
    dialer: Dialer,
    limits: Limits,
    conditions: Conditions,
    counters: Counters,
}

impl Http {
    pub(super) fn new(config: &Config, conditions: Conditions, counters: Counters) -> Result<Self> {
        let is_plain = |url: &url::Url| url.scheme() == "http";
        let tls = if config.endpoint.as_ref().is_some_and(is_plain) {
            None
        } else {
            let authorities = match &config.authorities {
                Some(pem) => pem.clone(),
                None => trusted()?,
            };
            Some(tls(&authorities)?)
        };
        let limits = config.limits;
        let dialer = Dialer {
            tls,
            patience: limits.patience,
        };
        Ok(Self {
            client: client(dialer.clone(), &limits),
            dialer,
            limits,
            conditions,
            counters,
        })
    }

    /// The same, over connections of its own.
    pub(super) fn apart(&self, conditions: Conditions) -> Self {
        Self {
            client: client(self.dialer.clone(), &self.limits),
            conditions,
            ..self.clone()
        }
    }
}

fn client(dialer: Dialer, limits: &Limits) -> Client<Dialer, HttpRequestBody> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(limits.patience)
        .pool_max_idle_per_host(limits.idle_connections);
    builder.build(dialer)
}

fn trusted() -> Result<Vec<u8>> {
    let found = AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok());
    let missing = || {
        let what = "the system has no certificates of authorities: name some in the configuration";
        Error::Invalid(what.to_owned())
    };
    found.ok_or_else(missing)
}

fn tls(authorities: &[u8]) -> Result<TlsConnector> {
    let malformed = |what: String| Error::Invalid(format!("certificates of authorities: {what}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        let certificate = certificate.map_err(|error| malformed(error.to_string()))?;
        roots.add_parsable_certificates([certificate]);
    }
    if roots.is_empty() {
        return Err(malformed("there are none".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| malformed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl HttpConnector for Http {
    /// What the options say is ours to say.
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Http {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.conditions.add_to(&mut request);
        let n_bytes = request.body().content_length() as u64;
        let sending = Duration::from_secs(n_bytes / u64::from(self.limits.bytes_per_second.max(1)));
        let patience = self.limits.patience;
        let method = request.method().clone();
        let answered = timeout(patience + sending, self.client.request(request)).await;
        let answer = match answered {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(late()),
        };
        let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        self.counters.answered(method.as_str(), status);
        let answer = answer?;
        self.counters.sent_bytes.inc_by(n_bytes);
        let (mut head, body) = answer.into_parts();
        if head
            .headers
            .get(CLASS)
            .is_some_and(|class| class == "ephemeral")
        {
            head.extensions.insert(Class::Ephemeral);
        }
        let body = Patient {
            body,
            patience,
            timer: Box::pin(tokio::time::sleep(patience)),
            is_waiting: false,
            received_bytes: self.counters.received_bytes.clone(),
        };
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

fn late() -> HttpError {
    let what = "the store does not answer in time";
    HttpError::new(
        HttpErrorKind::Timeout,
        io::Error::new(io::ErrorKind::TimedOut, what),
    )
}

fn failed(error: hyper_util::client::legacy::Error) -> HttpError {
    if error.is_connect() {
        return HttpError::new(HttpErrorKind::Connect, error);
    }
    let kind = kind_of(error.source());
    HttpError::new(kind, error)
}

/// By what lies deepest: whether it makes sense to ask again.
fn kind_of(mut source: Option<&(dyn std::error::Error + 'static)>) -> HttpErrorKind {
    let mut kind = HttpErrorKind::Unknown;
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            let is_cut = error.is_closed()
                || error.is_canceled()
                || error.is_incomplete_message()
                || error.is_body_write_aborted();
            if is_cut {
                kind = HttpErrorKind::Interrupted;
            } else if error.is_timeout() {
                kind = HttpErrorKind::Timeout;
            } else if error.is_parse() {
                kind = HttpErrorKind::Decode;
            }
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            kind = match error.kind() {
                io::ErrorKind::TimedOut => HttpErrorKind::Timeout,
                _ => HttpErrorKind::Interrupted,
            };
        }
        source = error.source();
    }
    kind
}

/// An answer's body, of which each piece comes in time. Time in which nobody asks for it does not count.
struct Patient {
    body: Incoming,
    patience: Duration,
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
    received_bytes: IntCounter,
}

impl Body for Patient {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.is_waiting = false;
            if let Some(Ok(data)) = frame
                .as_ref()
                .map(|frame| frame.as_ref().map(Frame::data_ref))
            {
                let n_bytes = data.map_or(0, Bytes::len);
                self.received_bytes.inc_by(n_bytes as u64);
            }
            return Poll::Ready(
                frame.map(|frame| {
                    frame.map_err(|error| HttpError::new(kind_of(Some(&error)), error))
                }),
            );
        }
        if !self.is_waiting {
            self.is_waiting = true;
            let end = rt::now() + self.patience;
            self.timer.as_mut().reset(end.into());
        }
        self.timer
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(late())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Opens connections.
#[derive(Clone)]
struct Dialer {
    /// `None`: without TLS.
    tls: Option<TlsConnector>,
    patience: Duration,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Socket>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Socket>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let dialed = timeout(dialer.patience, dialer.dial(&uri)).await;
            Ok(TokioIo::new(dialed.map_err(|_| io::ErrorKind::TimedOut)??))
        })
    }
}

impl Dialer {
    async fn dial(&self, uri: &Uri) -> io::Result<Socket> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
        let host = uri.host().ok_or_else(|| invalid("a URL without a host"))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let is_plain = uri.scheme_str() == Some("http");
        let port = uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        let socket = TcpStream::connect((host.as_str(), port)).await?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None if is_plain => Ok(Socket(Box::new(socket))),
            Some(tls) if !is_plain => {
                let name = ServerName::try_from(host).map_err(|_| invalid("it is no host"))?;
                Ok(Socket(Box::new(tls.connect(name, socket).await?)))
            }
            _ => Err(invalid("the endpoint is of another scheme")),
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// With or without TLS.
struct Socket(Box<dyn Io>);

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
