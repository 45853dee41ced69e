//! How the controller is reached: `tcp://host:port`, or `tls://host:port`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint as Transport, Uri};
use tower_service::Service;

use crate::Error;
use crate::connection::{Endpoint, secure};

const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A scale of a large stream takes long; whoever waits longer asks again.
const ANSWER_MAX: Duration = Duration::from_mins(1);

/// Where the controller is, and whether TLS is spoken to it and to stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub endpoint: Endpoint,
    pub is_tls: bool,
}

impl std::str::FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Refused(format!("{text:?} is not tcp://host:port, or tls://…"));
        let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
        let is_tls = match scheme {
            "tcp" => false,
            "tls" => true,
            _ => return Err(wrong()),
        };
        let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
        if host.is_empty() || host.contains('/') {
            return Err(wrong());
        }
        let endpoint = Endpoint {
            host: host.to_owned(),
            port: port.parse().map_err(|_| wrong())?,
        };
        Ok(Self { endpoint, is_tls })
    }
}

/// A configuration that trusts who has a certificate of one of these authorities, which are in PEM.
///
/// # Errors
/// `Refused`: these are none.
pub fn trust(authorities: &[u8]) -> Result<ClientConfig, Error> {
    let refused = |why: &dyn fmt::Display| Error::Refused(format!("certificates: {why}"));
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities) {
        let authority = authority.map_err(|why| refused(&why))?;
        roots.add(authority).map_err(|why| refused(&why))?;
    }
    if roots.is_empty() {
        return Err(refused(&"there are none"));
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
    let config = config.map_err(|why| refused(&why))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Who asks.
#[derive(Clone)]
pub enum Credentials {
    /// A user, and what only that user knows.
    Basic { user: String, password: String },
    /// What somebody else has given out, whom the controller trusts.
    Bearer(String),
}

impl Credentials {
    /// Those of a file: a user and a password, or a token alone, separated by blanks.
    ///
    /// # Errors
    /// `Refused`: it is neither. The message has nothing of the text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let words: Vec<_> = text.split_whitespace().collect();
        match words[..] {
            [user, password] if !user.contains(':') => Ok(Self::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            }),
            [token] if token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Self::Bearer(token.to_owned()))
            }
            _ => {
                let why = "a user and a password are wanted, or a token, and nothing else";
                Err(Error::Refused(why.to_owned()))
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(f, "Credentials({user})"),
            Self::Bearer(_) => f.write_str("Credentials(…)"),
        }
    }
}

/// Says with each question who asks.
#[derive(Clone, Debug)]
pub(super) struct Authorization(Option<MetadataValue<Ascii>>);

impl Authorization {
    /// # Errors
    /// `Refused`: the token is none that can be sent.
    pub(super) fn new(credentials: Option<&Credentials>) -> Result<Self, Error> {
        let text = match credentials {
            None => return Ok(Self(None)),
            Some(Credentials::Basic { user, password }) => {
                format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
            }
            Some(Credentials::Bearer(token)) => format!("Bearer {token}"),
        };
        let value = MetadataValue::try_from(text);
        let wrong = |_| Error::Refused("a token is of visible ASCII".to_owned());
        let mut value = value.map_err(wrong)?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Authorization {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |idx: usize| u32::from(chunk.get(idx).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for idx in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * idx) & 63).expect("it is less than 64");
            text.push(if idx <= chunk.len() {
                DIGITS[digit].into()
            } else {
                '='
            });
        }
    }
    text
}

/// It connects when it is needed, and again when it has to.
pub(super) fn channel(to: &Address, tls: Option<Arc<ClientConfig>>) -> Result<Channel, Error> {
    let Endpoint { host, port } = &to.endpoint;
    let transport = Transport::from_shared(format!("http://{host}:{port}"));
    let transport = transport.map_err(|why| Error::Refused(why.to_string()))?;
    let transport = transport
        .connect_timeout(CONNECT_MAX)
        .timeout(ANSWER_MAX)
        .tcp_nodelay(true);
    let Some(tls) = tls else {
        return Ok(transport.connect_lazy());
    };
    let mut tls = (*tls).clone();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let secure = Secure {
        to: to.endpoint.clone(),
        tls: Arc::new(tls),
    };
    Ok(transport.connect_with_connector_lazy(secure))
}

/// Connects with TLS, as tonic wants it.
struct Secure {
    to: Endpoint,
    tls: Arc<ClientConfig>,
}

impl Service<Uri> for Secure {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Endpoint { host, port } = self.to.clone();
        let tls = self.tls.clone();
        Box::pin(async move {
            let opened = async {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            };
            let opened: Result<_, std::io::Error> = opened.await;
            let stream = opened.map_err(|why| Error::Disconnected(why.to_string()))?;
            secure(stream, tls, &host).await.map(TokioIo::new)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_port() {
        let check = |text: &str, host: &str, port, is_tls| {
            let host = host.to_owned();
            let endpoint = Endpoint { host, port };
            assert_eq!(text.parse(), Ok(Address { endpoint, is_tls }));
        };
        check("tcp://store.example:9090", "store.example", 9090, false);
        check("tls://b:1", "b", 1, true);
        check("tcp://c.d:65535", "c.d", 65535, false);
        for text in [
            "",
            "a:1",
            "http://a:1",
            "tcp://a",
            "tcp://:1",
            "tcp://a:x",
            "tcp://a/b:1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_file_has_a_user_and_a_password_or_a_token_and_nothing_shows_them() {
        let said = |text: &str| {
            let credentials = Credentials::parse(text).expect("credentials");
            assert!(!format!("{credentials:?}").contains("hunter2"));
            let Authorization(value) = Authorization::new(Some(&credentials)).expect("a value");
            let value = value.expect("it is said");
            assert!(value.is_sensitive());
            value.to_str().expect("ASCII").to_owned()
        };
        assert_eq!(said("admin  1111_aaaa\n"), "Basic YWRtaW46MTExMV9hYWFh");
        assert_eq!(said("hunter2\n"), "Bearer hunter2");
        for text in ["", "a b c", "a:b hunter2", "ü"] {
            let error = Credentials::parse(text).expect_err(text);
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn credentials_are_in_base64() {
        for (bytes, text) in [
            ("", ""),
            ("a", "YQ=="),
            ("ab", "YWI="),
            ("abc", "YWJj"),
            ("admin:1111_aaaa", "YWRtaW46MTExMV9hYWFh"),
            ("~~?", "fn4/"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
