//! Knowing an authority by its fingerprint alone.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    SignatureScheme,
};

use crate::token::{Secret, hexadecimal_sha256, is_256_bits};

/// SHA-256 of an authority's public key, as hexadecimal. Public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(String);

/// What a new party is given to join: whom to trust, and how to be recognised. As text: `FINGERPRINT.SECRET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    pub authority: Fingerprint,
    pub secret: Secret,
}

impl Fingerprint {
    /// The fingerprint of the authority that has this certificate (DER).
    ///
    /// # Errors
    /// When it is not a certificate.
    pub fn of_authority(certificate: &[u8]) -> io::Result<Self> {
        let der = CertificateDer::from(certificate);
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(io::Error::other)?;
        Ok(Self(hexadecimal_sha256(&anchor.subject_public_key_info)))
    }
}

impl FromStr for Fingerprint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_256_bits(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a fingerprint has 64 hexadecimal digits")
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JoinToken {
    /// A token for joining the authority that has this certificate (DER).
    ///
    /// # Errors
    /// When it is not a certificate.
    pub fn new(authority: &[u8], secret: Secret) -> io::Result<Self> {
        let authority = Fingerprint::of_authority(authority)?;
        Ok(Self { authority, secret })
    }
}

impl FromStr for JoinToken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (authority, secret) = text
            .trim()
            .split_once('.')
            .ok_or("a join token is two times 64 hexadecimal digits, with a dot between them")?;
        Ok(Self {
            authority: authority.parse()?,
            secret: secret.parse()?,
        })
    }
}

/// Shows the secret: for handing it out, not for logs. `Debug` hides it.
impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.authority, self.secret.as_str())
    }
}

/// Trusts a server whose certificate was signed by the authority with this fingerprint. The server sends that authority's certificate
/// along; its key being the right one makes it a root, and from there on all is checked as ever.
#[derive(Debug)]
pub(crate) struct Pinned {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    pub(crate) fn new(authority: Fingerprint, provider: Arc<CryptoProvider>) -> Self {
        Self {
            authority,
            provider,
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = intermediates
            .iter()
            .find(|der| Fingerprint::of_authority(der).is_ok_and(|found| found == self.authority))
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;

    #[test]
    fn a_join_token_is_read_back_and_keeps_its_secret() {
        let authority = Authority::new().expect("an authority");
        let token = JoinToken::new(authority.certificate(), Secret::random()).expect("a token");
        assert_eq!(token.authority, authority.fingerprint());
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(token.secret.as_str()));
        for bad in [
            "",
            ".",
            "a.b",
            &text[1..],
            &text[..128],
            &format!("{text}."),
        ] {
            bad.parse::<JoinToken>().expect_err(bad);
        }
    }

    #[test]
    fn only_a_certificate_has_a_fingerprint() {
        for bad in [&b""[..], b"x", &[0x30; 100]] {
            Fingerprint::of_authority(bad).expect_err("no certificate");
        }
    }
}
