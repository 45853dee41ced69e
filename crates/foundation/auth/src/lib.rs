//! Who is who: certificate authorities, identities, mutual TLS, and tokens.
//!
//! **Certificates.** An [`Authority`] signs [`Identity`]s: a world of cells has one of its own, and so has a platform of sites. A party makes
//! its own key ([`KeyRequest`]) and sends only the public half to be signed, or is handed a whole identity by its parent process. The name in a
//! certificate is checked on both sides: [`Tls::connect`] takes the name that is expected, and [`Stream::peer_is`] says whether a caller is
//! who it says. A name can be given to another key later; [`peer_key`] tells one holder of a name from the other.
//!
//! **Tokens.** A [`Secret`] is 256 random bits as text. Who has to recognise one keeps its [`SecretHash`] only, and compares in constant time.
//!
//! **Joining.** A [`JoinToken`] says which authority to expect ([`Fingerprint`]) and carries a secret to be recognised by:
//! [`Tls::connect_pinned`] makes the first connection of a party that has no certificate yet, and can be misled by nobody.
//!
//! **Servers for everybody.** What an operator has had issued elsewhere is [`Shown`] to whoever connects, and is replaced without a restart.
//!
//! It decides nothing: what a name may do is up to whoever asks.
#![forbid(unsafe_code)]

mod pin;
mod shown;
mod tls;
mod token;

pub use pin::{Fingerprint, JoinToken};
pub use shown::Shown;
pub use tls::{
    Authority, Identity, KeyRequest, Stream, Tls, anonymous_client, peer_is, peer_key, pem,
};
pub use token::{Secret, SecretHash};
