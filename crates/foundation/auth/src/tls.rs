//! Mutual TLS 1.3 under an authority of our own.

use std::fmt;
use std::io::{self, BufReader, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, ConfigSide, RootCertStore, ServerConfig,
    ServerConnection, StreamOwned, WantsVerifier, WantsVersions,
};
use serde::{Deserialize, Serialize};

use crate::pin::{Fingerprint, Pinned};
use crate::token::hexadecimal_sha256;

const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Signs identities.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
}

/// One party's certificate and key, and the authority that it trusts.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    authority: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A key that waits for its certificate.
pub struct KeyRequest(KeyPair);

/// An uncompressed point on P-256: the only kind of public key that is signed here.
struct Point(Vec<u8>);

const POINT_BYTES: usize = 65;

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(…)")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRequest(…)")
    }
}

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Authority {
    /// A new authority with a new key.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn new() -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        Self::with_key(key)
    }

    /// The authority whose key [`key`](Self::key) gave away. Its certificate is signed anew, and trusted where the earlier one was.
    ///
    /// # Errors
    /// When this is not a key.
    pub fn from_key(key: &[u8]) -> io::Result<Self> {
        let key = PrivateKeyDer::try_from(key.to_vec()).map_err(io::Error::other)?;
        Self::with_key(KeyPair::try_from(&key).map_err(io::Error::other)?)
    }

    fn with_key(key: KeyPair) -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Chains are found by name: no two authorities share one.
        params
            .distinguished_name
            .push(DnType::CommonName, hexadecimal_sha256(key.der_bytes()));
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        Ok(Self {
            certificate: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The private key (PKCS #8), to be kept where only its owner reads.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        self.issuer.key().serialize_der()
    }

    /// The certificate (DER) that others are to trust.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What tells this authority from others, also after [`from_key`](Self::from_key).
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_authority(&self.certificate).expect("it is a certificate: we signed it")
    }

    /// An identity with a key made here, for a child of this process.
    ///
    /// # Errors
    /// When the name is not one that a certificate can have.
    pub fn identity(&self, name: &str) -> io::Result<Identity> {
        let request = KeyRequest::new()?;
        let certificate = self.sign(name, &request.public_key())?;
        Ok(request.into_identity(self.certificate.clone(), certificate))
    }

    /// A certificate (DER) that says that whoever has the private half of `public_key` is called `name`.
    ///
    /// # Errors
    /// When the key is not an uncompressed point on P-256, or the name not one that a certificate can have.
    pub fn sign(&self, name: &str, public_key: &[u8]) -> io::Result<Vec<u8>> {
        if public_key.len() != POINT_BYTES || public_key[0] != 4 {
            return Err(io::Error::other("this is not a public key on P-256"));
        }
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(io::Error::other)?;
        // Some clients take an address literally; all our servers may be on loopback.
        if name == LOOPBACK_NAME {
            let loopback = rcgen::SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
            params.subject_alt_names.push(loopback);
        }
        let point = Point(public_key.to_vec());
        let signed = params.signed_by(&point, &self.issuer);
        Ok(signed.map_err(io::Error::other)?.der().to_vec())
    }
}

/// A certificate for this name is also one for 127.0.0.1.
const LOOPBACK_NAME: &str = "localhost";

impl KeyRequest {
    /// A new key.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn new() -> io::Result<Self> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(io::Error::other)
    }

    /// The key that [`key`](Self::key) gave away.
    ///
    /// # Errors
    /// When this is not a key on P-256.
    pub fn from_key(key: &[u8]) -> io::Result<Self> {
        let key = PrivatePkcs8KeyDer::from(key);
        KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(io::Error::other)
    }

    /// The private half (PKCS #8), to be kept where only its owner reads: whoever asks again after a lost answer asks for the same key.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// The half to be signed.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.0.der_bytes().to_vec()
    }

    /// The key with what came back, both DER.
    #[must_use]
    pub fn into_identity(self, authority: Vec<u8>, certificate: Vec<u8>) -> Identity {
        Identity {
            authority,
            certificate,
            key: self.0.serialize_der(),
        }
    }
}

impl Identity {
    /// The certificate (DER) of the authority that it trusts.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        &self.authority
    }
}

/// Both sides of TLS for one identity.
#[derive(Clone, Debug)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    open_server: Arc<ServerConfig>,
}

impl Tls {
    /// # Errors
    /// When the identity is not whole.
    pub fn new(identity: &Identity) -> io::Result<Self> {
        let provider = provider();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(identity.authority.clone()))
            .map_err(io::Error::other)?;
        let roots = Arc::new(roots);
        let chain = vec![CertificateDer::from(identity.certificate.clone())];
        let key = PrivateKeyDer::try_from(identity.key.clone()).map_err(io::Error::other)?;
        let client = tls13(ClientConfig::builder_with_provider(Arc::clone(&provider)))?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(io::Error::other)?;
        let callers = || {
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        };
        let server = |callers, chain| {
            let mut server = tls13(ServerConfig::builder_with_provider(Arc::clone(&provider)))?
                .with_client_cert_verifier(callers)
                .with_single_cert(chain, key.clone_key())
                .map_err(io::Error::other)?;
            // A connection carries bytes one way; tickets would be bytes the other way that nobody reads.
            server.send_tls13_tickets = 0;
            io::Result::Ok(Arc::new(server))
        };
        let known = callers().build().map_err(io::Error::other)?;
        let anyone = callers().allow_unauthenticated().build();
        // Whoever has only the authority's fingerprint needs its certificate as well.
        let mut whole_chain = chain.clone();
        whole_chain.push(CertificateDer::from(identity.authority.clone()));
        Ok(Self {
            client: Arc::new(client),
            server: server(known, chain)?,
            open_server: server(anyone.map_err(io::Error::other)?, whole_chain)?,
        })
    }

    /// The same for asynchronous code.
    #[must_use]
    pub fn configs(&self) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
        (Arc::clone(&self.client), Arc::clone(&self.server))
    }

    /// A server's side that takes callers without a certificate too, such as those that [`connect_pinned`](Self::connect_pinned). What a
    /// caller without one may do is up to the server; [`peer_is`] is false for it, whatever the name.
    #[must_use]
    pub fn server_config_admitting_anonymous(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.open_server)
    }

    /// Dials `address` and expects the party called `name` there.
    ///
    /// # Errors
    /// When it is not there within seconds, or is somebody else.
    pub fn connect(&self, address: SocketAddr, name: &str) -> io::Result<Stream> {
        let stream = self.open(address, name, DIAL_TIMEOUT)?;
        stream.shake_hands()
    }

    /// Dials `address` and leaves it to the first reads and writes, which may be non-blocking, to find out whether the party called `name` is
    /// there.
    ///
    /// # Errors
    /// When nobody is there within `timeout`.
    pub fn open(&self, address: SocketAddr, name: &str, timeout: Duration) -> io::Result<Stream> {
        dial(Arc::clone(&self.client), address, name, timeout)
    }

    /// Dials `address` without an identity, and expects the party called `name` there, under the authority with this fingerprint.
    ///
    /// # Errors
    /// When it is not there within seconds, is somebody else, or does not admit anonymous callers.
    pub fn connect_pinned(
        address: SocketAddr,
        authority: &Fingerprint,
        name: &str,
    ) -> io::Result<Stream> {
        let provider = provider();
        let verifier = Pinned::new(authority.clone(), Arc::clone(&provider));
        let config = tls13(ClientConfig::builder_with_provider(provider))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        dial(Arc::new(config), address, name, DIAL_TIMEOUT)?.shake_hands()
    }

    /// The accepting side of [`connect`](Self::connect).
    ///
    /// # Errors
    /// When the caller has no certificate of the same authority, or takes too long.
    pub fn accept(&self, socket: TcpStream) -> io::Result<Stream> {
        answer(Arc::clone(&self.server), socket)
    }

    /// The accepting side of [`connect`](Self::connect) and of [`connect_pinned`](Self::connect_pinned).
    ///
    /// # Errors
    /// When the caller has a certificate of another authority, or takes too long.
    pub fn accept_admitting_anonymous(&self, socket: TcpStream) -> io::Result<Stream> {
        answer(Arc::clone(&self.open_server), socket)
    }
}

/// The side of a party without a certificate that trusts authorities, whose certificates are as [`pem`] shows them, one or more. Only servers that admit
/// anonymous callers let it in; who it is, it says within.
///
/// # Errors
/// When this is no certificate.
pub fn anonymous_client(authority_pem: &str) -> io::Result<Arc<ClientConfig>> {
    let authorities = ::pem::parse_many(authority_pem).map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let certificate = CertificateDer::from(authority.into_contents());
        roots.add(certificate).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(io::Error::other("there is no certificate of an authority"));
    }
    let config = tls13(ClientConfig::builder_with_provider(provider()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..ring::default_provider()
    })
}

fn dial(
    config: Arc<ClientConfig>,
    address: SocketAddr,
    name: &str,
    timeout: Duration,
) -> io::Result<Stream> {
    let socket = TcpStream::connect_timeout(&address, timeout)?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let stream = StreamOwned::new(session, Socket::new(socket));
    Ok(Stream(Side::Client(Box::new(stream))))
}

fn answer(config: Arc<ServerConfig>, socket: TcpStream) -> io::Result<Stream> {
    socket.set_nodelay(true)?;
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let stream = StreamOwned::new(session, Socket::new(socket));
    Stream(Side::Server(Box::new(stream))).shake_hands()
}

pub(crate) fn tls13<S: ConfigSide>(
    builder: ConfigBuilder<S, WantsVersions>,
) -> io::Result<ConfigBuilder<S, WantsVerifier>> {
    builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)
}

/// A socket that is read in large pieces: by itself the TLS layer reads one record at a time.
#[derive(Debug)]
struct Socket(BufReader<TcpStream>);

impl Socket {
    const BUFFER_BYTES: usize = 256 << 10;

    fn new(tcp: TcpStream) -> Self {
        Self(BufReader::with_capacity(Self::BUFFER_BYTES, tcp))
    }

    fn tcp(&self) -> &TcpStream {
        self.0.get_ref()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.get_mut().write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

/// An authenticated, encrypted connection.
#[derive(Debug)]
pub struct Stream(Side);

#[derive(Debug)]
enum Side {
    Client(Box<StreamOwned<ClientConnection, Socket>>),
    Server(Box<StreamOwned<ServerConnection, Socket>>),
}

impl Stream {
    fn shake_hands(mut self) -> io::Result<Self> {
        self.socket().set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        match &mut self.0 {
            Side::Client(stream) => {
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock)?;
                }
            }
            Side::Server(stream) => {
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock)?;
                }
            }
        }
        self.socket().set_read_timeout(None)?;
        Ok(self)
    }

    /// Whether the handshake of a stream that was only [opened](Tls::open) is still going on.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        match &self.0 {
            Side::Client(stream) => stream.conn.is_handshaking(),
            Side::Server(stream) => stream.conn.is_handshaking(),
        }
    }

    /// Whether bytes wait until the socket takes more.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        match &self.0 {
            Side::Client(stream) => stream.conn.wants_write(),
            Side::Server(stream) => stream.conn.wants_write(),
        }
    }

    /// Whether the peer's certificate is for `name`.
    #[must_use]
    pub fn peer_is(&self, name: &str) -> bool {
        let certificates = match &self.0 {
            Side::Client(stream) => stream.conn.peer_certificates(),
            Side::Server(stream) => stream.conn.peer_certificates(),
        };
        peer_is(certificates, name)
    }

    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        match &self.0 {
            Side::Client(stream) => stream.sock.tcp(),
            Side::Server(stream) => stream.sock.tcp(),
        }
    }
}

/// Whether the certificate that a peer has shown is for `name`.
#[must_use]
pub fn peer_is(certificates: Option<&[CertificateDer<'_>]>, name: &str) -> bool {
    let Some(first) = certificates.and_then(|chain| chain.first()) else {
        return false;
    };
    let (Ok(certificate), Ok(name)) = (
        webpki::EndEntityCert::try_from(first),
        ServerName::try_from(name),
    ) else {
        return false;
    };
    certificate.verify_is_valid_for_subject_name(&name).is_ok()
}

/// A certificate as other tools read it (RFC 7468).
#[must_use]
pub fn pem(certificate: &[u8]) -> String {
    let pem = ::pem::Pem::new("CERTIFICATE", certificate);
    let lines = ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF);
    ::pem::encode_config(&pem, lines)
}

/// The public key in the certificate that a peer has shown, as [`KeyRequest::public_key`] gave it away.
#[must_use]
pub fn peer_key(certificates: Option<&[CertificateDer<'_>]>) -> Option<Vec<u8>> {
    let first = certificates?.first()?;
    let certificate = webpki::EndEntityCert::try_from(first).ok()?;
    let info = certificate.subject_public_key_info();
    // The key is the end of it; before it stands of which kind it is, and only one kind is signed here.
    let (_, point) = info.split_last_chunk::<POINT_BYTES>()?;
    (point[0] == 4).then(|| point.to_vec())
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Side::Client(stream) => stream.read(buffer),
            Side::Server(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Side::Client(stream) => stream.write(bytes),
            Side::Server(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Side::Client(stream) => stream.flush(),
            Side::Server(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// What a server under `server` sees of a client under `client`: whether the caller is `name`; `None`: refused.
    fn meet(server: &Identity, client: &Identity, name: &str) -> Option<bool> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let tls = Tls::new(client).expect("a client");
        let caller = rt::thread("caller".into(), 1 << 20, move || {
            let mut stream = tls.connect(address, "server").ok()?;
            stream.write_all(b"x").ok()
        })
        .expect("a thread");
        let socket = listener.accept().expect("it dials").0;
        let accepted = Tls::new(server).expect("a server").accept(socket);
        let seen = accepted.ok().map(|stream| stream.peer_is(name));
        caller.join().expect("no panic");
        seen
    }

    #[test]
    fn a_caller_is_who_its_certificate_says() {
        let authority = Authority::new().expect("an authority");
        let server = authority.identity("server").expect("an identity");
        let client = authority.identity("host-1").expect("an identity");
        assert_eq!(meet(&server, &client, "host-1"), Some(true));
        assert_eq!(meet(&server, &client, "host-2"), Some(false));
    }

    #[test]
    fn another_authority_is_not_trusted() {
        let server = Authority::new().and_then(|authority| authority.identity("server"));
        let client = Authority::new().and_then(|authority| authority.identity("host-1"));
        let (server, client) = (server.expect("one"), client.expect("another"));
        assert_eq!(meet(&server, &client, "host-1"), None);
    }

    /// A pinned caller's side of a meeting with an admitting server.
    fn meet_pinned(
        server: &Identity,
        authority: &Fingerprint,
        name: &'static str,
    ) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let authority = authority.clone();
        let caller = rt::thread("caller".into(), 1 << 20, move || {
            let mut stream = Tls::connect_pinned(address, &authority, name)?;
            let mut byte = [0];
            stream.read_exact(&mut byte)
        })?;
        let socket = listener.accept()?.0;
        if let Ok(mut stream) = Tls::new(server)?.accept_admitting_anonymous(socket) {
            assert!(!stream.peer_is("host-1") && !stream.peer_is(""));
            stream.write_all(b"x")?;
        }
        caller.join().expect("no panic")
    }

    #[test]
    fn who_has_only_a_fingerprint_meets_that_authority_and_no_other() {
        let authority = Authority::new().expect("an authority");
        let server = authority.identity("server").expect("an identity");
        let again = Authority::from_key(&authority.key()).expect("its key");
        meet_pinned(&server, &again.fingerprint(), "server").expect("the right one");
        meet_pinned(&server, &authority.fingerprint(), "other").expect_err("another name");
        let other = Authority::new().expect("another authority").fingerprint();
        meet_pinned(&server, &other, "server").expect_err("another authority");
        // One that shows the right authority's certificate, which is public, beside a certificate of its own.
        let mut thief = Authority::new()
            .and_then(|authority| authority.identity("server"))
            .expect("an identity");
        thief.authority = authority.certificate().to_vec();
        meet_pinned(&thief, &authority.fingerprint(), "server").expect_err("not signed by it");
    }

    #[test]
    fn who_admits_anonymous_callers_still_knows_the_others() {
        let authority = Authority::new().expect("an authority");
        let server = Tls::new(&authority.identity("server").expect("one")).expect("a server");
        let client = Tls::new(&authority.identity("host-1").expect("one")).expect("a client");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let caller = rt::thread("caller".into(), 1 << 20, move || {
            client.connect(address, "server").map(drop)
        });
        let socket = listener.accept().expect("it dials").0;
        let stream = server.accept_admitting_anonymous(socket);
        assert!(stream.expect("admitted").peer_is("host-1"));
        caller
            .expect("a thread")
            .join()
            .expect("no panic")
            .expect("connects");
    }

    #[test]
    fn an_authority_outlives_its_process_and_signs_keys_that_others_made() {
        let authority = Authority::new().expect("an authority");
        let server = authority.identity("server").expect("an identity");
        let again = Authority::from_key(&authority.key()).expect("its key");
        let request = KeyRequest::new().expect("a key");
        let public_key = request.public_key();
        let certificate = again.sign("edge", &public_key).expect("signs");
        let client = request.into_identity(again.certificate().to_vec(), certificate);
        assert_eq!(meet(&server, &client, "edge"), Some(true));
        let shown = [CertificateDer::from(client.certificate)];
        assert_eq!(peer_key(Some(&shown)), Some(public_key));
        assert_eq!(
            peer_key(Some(&[CertificateDer::from(vec![0x30; 200])])),
            None
        );
        assert_eq!((peer_key(Some(&[])), peer_key(None)), (None, None));
        for bad in [&[][..], &[4; 64], &[4; 66], &[2; 65]] {
            again.sign("edge", bad).expect_err("no point");
        }
    }

    #[test]
    fn a_key_that_waits_for_its_certificate_outlives_its_process() {
        let request = KeyRequest::new().expect("a key");
        let key = request.key();
        let again = KeyRequest::from_key(&key).expect("its key");
        assert_eq!(again.public_key(), request.public_key());
        for len in 0..key.len() {
            KeyRequest::from_key(&key[..len]).expect_err("cut off");
        }
    }
}
