//! Joining a controller: once in a site's life, with a token.

use std::io;
use std::path::Path;
use std::time::Duration;

use auth::{Fingerprint, JoinToken, KeyRequest, Tls};
use ids::{Labels, Name};
use workload::link::{CONTROLLER_NAME, Down, Up, VERSION};

use crate::disk::identity::Membership;
use crate::disk::joining;
use crate::error::{Error, Kind};
use crate::link::{at_any, blocking};
use crate::{lock, private_dir};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest certificate that is taken, as hexadecimal digits.
const CERTIFICATE_DIGITS_MAX: usize = 16 << 10;

/// Makes `dir` the site `site` of the controller at `address` (`HOST:PORT`), and keeps there who it is from now on.
///
/// A directory that has joined the same authority already keeps its identity and uses up no token: it takes the new address and labels.
/// If the answer is lost, the same token works again from the same directory.
///
/// # Errors
/// `Invalid` when the address or the token is malformed, `Unavailable` when the controller is not there, is another than the token says, or
/// refuses, `Conflict` when the directory belongs to another site, `Corrupt` when what is kept there cannot be read.
pub fn join(
    dir: &Path,
    address: &str,
    token: &str,
    site: &Name,
    labels: &Labels,
) -> Result<(), Error> {
    let invalid = |why: String| Error::new(Kind::Invalid, why);
    let token: JoinToken = token.parse().map_err(|why: &str| invalid(why.into()))?;
    let controller = host_and_port(address).map_err(invalid)?;
    private_dir(dir)?;
    let _lock = lock(dir)?;
    let identity = match Membership::load(dir)? {
        Some(known) => {
            let authority = Fingerprint::of_authority(known.identity.authority());
            if known.site != *site || !authority.is_ok_and(|known| known == token.authority) {
                let why = format!(
                    "{} belongs to the site {} already: use another directory for {site}",
                    dir.display(),
                    known.site
                );
                return Err(Error::new(Kind::Conflict, why));
            }
            known.identity
        }
        None => ask(&controller, &token, site, labels, joining::key(dir)?)
            .map_err(|error| Error::unavailable(format!("join {controller}"), error))?,
    };
    let membership = Membership {
        site: site.clone(),
        labels: labels.clone(),
        controller,
        identity,
    };
    membership.save(dir)?;
    joining::forget(dir);
    Ok(())
}

/// `HOST:PORT`, also if it is written as a URL.
fn host_and_port(address: &str) -> Result<String, String> {
    let text = address.strip_prefix("https://").unwrap_or(address);
    let text = text.trim_end_matches('/');
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err(format!(
            "`{address:.80}` is not an address: write HOST:PORT"
        )),
    }
}

fn ask(
    controller: &str,
    token: &JoinToken,
    site: &Name,
    labels: &Labels,
    key: KeyRequest,
) -> io::Result<auth::Identity> {
    let mut stream = at_any(controller, |address| {
        Tls::connect_pinned(address, &token.authority, CONTROLLER_NAME)
    })?;
    stream.socket().set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let public_key = key.public_key();
    let message = Up::Join {
        version: VERSION,
        token: token.secret.as_str().to_owned(),
        site: site.clone(),
        labels: labels.clone(),
        public_key: public_key
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    };
    blocking::send(&mut stream, &message)?;
    let (authority, certificate) = match blocking::receive(&mut stream)? {
        Down::Joined {
            authority,
            certificate,
        } => (bytes(&authority)?, bytes(&certificate)?),
        Down::Refused { reason } => {
            let reason: String = reason.chars().take(500).collect();
            return Err(io::Error::other(format!(
                "the controller refuses: {reason}"
            )));
        }
        _ => {
            return Err(io::Error::other(
                "the controller does not answer the question",
            ));
        }
    };
    // What came over a connection under this authority could still name another.
    if Fingerprint::of_authority(&authority)? != token.authority {
        return Err(io::Error::other(
            "the controller answers for another authority",
        ));
    }
    let identity = key.into_identity(authority, certificate);
    // A certificate for another key is found out now, not at every later dial.
    Tls::new(&identity)?;
    Ok(identity)
}

/// Bytes from hexadecimal digits.
fn bytes(text: &str) -> io::Result<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() > CERTIFICATE_DIGITS_MAX || !digits.len().is_multiple_of(2) {
        return Err(io::Error::other("a certificate has a length that none has"));
    }
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).map_err(io::Error::other)?;
        u8::from_str_radix(text, 16).map_err(io::Error::other)
    };
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_or_refused() {
        let check = |address, expected: Option<&str>| {
            assert_eq!(
                host_and_port(address).ok().as_deref(),
                expected,
                "{address}"
            );
        };
        check("gateway:70", Some("gateway:70"));
        check("https://[fe80::7]:70/", Some("[fe80::7]:70"));
        for bad in [
            "",
            "localhost",
            "localhost:",
            "localhost:0",
            "a:65536",
            "http://a",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn certificates_are_hexadecimal() {
        assert_eq!(bytes("00ff10").expect("digits"), [0, 255, 16]);
        for bad in ["0", "0g", "ä", &"0".repeat(CERTIFICATE_DIGITS_MAX + 2)] {
            bytes(bad).expect_err(bad);
        }
    }
}
