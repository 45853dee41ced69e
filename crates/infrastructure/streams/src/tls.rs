//! TLS on both ports, with one certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use auth::Shown;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config;

/// So long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What is shown to clients.
#[derive(Debug)]
pub(crate) struct Tls {
    shown: Shown,
}

impl Tls {
    /// # Errors
    /// When the files cannot be read, or are no certificate and the key of that.
    pub(crate) fn open(config: &config::Tls) -> io::Result<Self> {
        let shown = Shown::open(config.certificate.clone(), config.key.clone())?;
        Ok(Self { shown })
    }

    /// For the port of the store.
    ///
    /// # Errors
    /// What the TLS library says.
    pub(crate) fn of_store(&self) -> io::Result<TlsAcceptor> {
        Ok(TlsAcceptor::from(self.shown.config()?))
    }

    /// For the port of the controller: clients of gRPC want to hear that HTTP/2 is spoken.
    ///
    /// # Errors
    /// What the TLS library says.
    pub(crate) fn of_controller(&self) -> io::Result<TlsAcceptor> {
        let mut config = (*self.shown.config()?).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// New connections see what is in the files now.
    ///
    /// # Errors
    /// Those of [`open`](Self::open). What was shown before is shown on.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        self.shown.refresh()
    }
}

/// # Errors
/// The client speaks no TLS 1.3, or takes too long.
pub(crate) async fn handshake(
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let secured = timeout(HANDSHAKE, acceptor.accept(tcp)).await;
    secured.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
