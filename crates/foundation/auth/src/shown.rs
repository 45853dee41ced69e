//! The certificate that a server shows, from files that are replaced while it runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::tls13;

/// A certificate and its key, as somebody else has issued them.
#[derive(Debug)]
pub struct Shown {
    certificate: PathBuf,
    key: PathBuf,
    /// What was in the files.
    read: [Vec<u8>; 2],
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

impl Shown {
    /// Two files of PEM: the certificate, followed by those that lead to its authority, and its key.
    ///
    /// # Errors
    /// When they cannot be read, or are no certificate and the key of that.
    pub fn open(certificate: PathBuf, key: PathBuf) -> io::Result<Self> {
        let read = read([&certificate, &key])?;
        let current = parse(&read)?;
        Ok(Self {
            certificate,
            key,
            read,
            current: Arc::new(Current(RwLock::new(Arc::new(current)))),
        })
    }

    /// A side that shows it to everybody, and asks nobody for one.
    ///
    /// # Errors
    /// What the TLS library says.
    pub fn config(&self) -> io::Result<Arc<ServerConfig>> {
        let provider = Arc::new(ring::default_provider());
        let config = tls13(ServerConfig::builder_with_provider(provider))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&self.current));
        Ok(Arc::new(config))
    }

    /// From now on new connections see what is in the files.
    ///
    /// # Errors
    /// Those of [`open`](Self::open). What was shown before is shown on.
    pub fn refresh(&mut self) -> io::Result<()> {
        let read = read([&self.certificate, &self.key])?;
        if read == self.read {
            return Ok(());
        }
        let new = Arc::new(parse(&read)?);
        let current = &self.current.0;
        *current.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.read = read;
        Ok(())
    }
}

fn read(paths: [&Path; 2]) -> io::Result<[Vec<u8>; 2]> {
    let read = |path: &Path| {
        let named =
            |e: io::Error| io::Error::new(e.kind(), format!("read {}: {e}", path.display()));
        fs::read(path).map_err(named)
    };
    let [certificate, key] = paths.map(read);
    Ok([certificate?, key?])
}

fn parse([certificate, key]: &[Vec<u8>; 2]) -> io::Result<CertifiedKey> {
    let refuse = |what: &str, why: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {why}"))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|e| refuse("the certificate is no PEM", e.to_string()))?;
    if chain.is_empty() {
        return Err(refuse(
            "the certificate",
            "there is none in the file".to_owned(),
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(key);
    let key = key.map_err(|e| refuse("the key is no PEM", e.to_string()))?;
    let key = ring::sign::any_supported_type(&key);
    let key = key.map_err(|e| refuse("the key is of an unknown type", e.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    let is_its = certified.keys_match();
    is_its.map_err(|e| refuse("the key is not that of the certificate", e.to_string()))?;
    Ok(certified)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        dir: PathBuf,
    }

    impl Files {
        fn new(name: &str) -> Self {
            let dir = format!("cloudskin-shown-{name}-{}", std::process::id());
            let dir = std::env::temp_dir().join(dir);
            fs::create_dir_all(&dir).expect("a directory");
            Self { dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.join(name)
        }

        fn issue(&self) -> [String; 2] {
            let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
            let issued = issued.expect("issued");
            [issued.cert.pem(), issued.signing_key.serialize_pem()]
        }

        fn write(&self, [certificate, key]: &[String; 2]) {
            fs::write(self.path("cert"), certificate).expect("written");
            fs::write(self.path("key"), key).expect("written");
        }

        fn open(&self) -> io::Result<Shown> {
            Shown::open(self.path("cert"), self.path("key"))
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.dir).expect("removed");
        }
    }

    fn shows(shown: &Shown) -> Vec<u8> {
        let current = shown.current.0.read().expect("it is sound");
        current.cert[0].to_vec()
    }

    #[test]
    fn a_certificate_is_replaced_when_its_files_are() {
        let files = Files::new("replaced");
        let first = files.issue();
        files.write(&first);
        let mut shown = files.open().expect("it is one");
        let before = shows(&shown);
        shown.refresh().expect("it is the same");
        assert_eq!(shows(&shown), before);
        let second = files.issue();
        files.write(&second);
        shown.refresh().expect("it is another");
        let after = shows(&shown);
        assert_ne!(after, before);
        // Only one of the two files is there yet.
        files.write(&[first[0].clone(), second[1].clone()]);
        shown.refresh().expect_err("the key is another's");
        assert_eq!(shows(&shown), after);
    }

    #[test]
    fn what_is_no_certificate_is_refused_and_says_why() {
        let files = Files::new("refused");
        let [certificate, key] = files.issue();
        let [_, other] = files.issue();
        let none = String::new();
        for (cert, key, why) in [
            (&none, &key, "there is none"),
            (&certificate, &none, "the key is no PEM"),
            (&certificate, &certificate, "the key is no PEM"),
            (&certificate, &other, "not that of the certificate"),
        ] {
            files.write(&[cert.clone(), key.clone()]);
            let error = files.open().expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
        fs::remove_file(files.path("key")).expect("removed");
        let error = files.open().expect_err("it is not there").to_string();
        assert!(error.contains("key"), "{error}");
    }
}
