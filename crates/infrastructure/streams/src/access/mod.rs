//! Who may do what, where users have passwords: the controller asks for these, and gives out tokens, which the store asks for.
//!
//! ```text
//!  client ── Basic USER:PASSWORD ──▶ controller: passwords, rules ──▶ token: a stream, READ or READ_UPDATE, until when
//!  client ── token, with each request ──▶ store: is it one of ours, for this segment, and not over?
//! ```
//!
//! A password is slow to recognise, by design: few are at once, and who was recognised is known again at once.

mod passwords;
mod rules;
mod tokens;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use auth::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::{Status, async_trait};

use self::passwords::{Accounts, Encrypted};
use crate::config;
use crate::controller::{Authority, Permission};

pub use self::passwords::line;
pub(crate) use self::tokens::Tokens;

/// In the directory of the server.
const TOKEN_KEY: &str = "token-key";

/// Requests that wait until the password of one user is recognised, and of all users whom nobody knows. More are refused.
pub(super) const WAITING_MAX: usize = 8;

/// How long a token may be good for.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_hours(24 * 365);

/// Why there are no users, or no tokens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: {why}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        why: &'static str,
    },
    #[error("keep a key for tokens in {}", path.display())]
    Keep { path: PathBuf, source: io::Error },
    #[error("{} is empty: the key of tokens is expected there", path.display())]
    NoKey { path: PathBuf },
    #[error("auth.token_ttl is a second at least, and a year at most")]
    Ttl,
}

/// Users with passwords, and tokens for them.
#[derive(Debug)]
pub(crate) struct Access {
    passwords: PathBuf,
    users: RwLock<Users>,
    /// By which passwords are known again.
    key: hmac::Key,
    /// Of users whom nobody knows.
    strangers: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    tokens: Arc<Tokens>,
}

/// What is in the file.
#[derive(Debug)]
struct Users {
    text: String,
    accounts: Arc<Accounts>,
}

impl Access {
    /// `dir` is that of the server.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn open(config: &config::Auth, dir: &Path) -> Result<Self, Error> {
        if !(TTL_MIN..=TTL_MAX).contains(&config.token_ttl) {
            return Err(Error::Ttl);
        }
        let text = read(&config.passwords)?;
        let accounts = accounts(&config.passwords, &text, &Accounts::new())?;
        let key = match &config.token_key {
            Some(path) => token_key(path)?,
            None => kept_token_key(dir)?,
        };
        let mut of_passwords = [0; 32];
        rt::fill_random(&mut of_passwords);
        Ok(Self {
            passwords: config.passwords.clone(),
            users: RwLock::new(Users {
                text,
                accounts: Arc::new(accounts),
            }),
            key: hmac::Key::new(hmac::HMAC_SHA256, &of_passwords),
            strangers: Arc::new(Semaphore::new(WAITING_MAX)),
            turns: Arc::new(Semaphore::new(rt::processors().div_ceil(4))),
            tokens: Arc::new(Tokens::new(key.as_bytes(), config.token_ttl)),
        })
    }

    pub(crate) fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens)
    }

    /// From now on the users are those of the file.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Line`]. The users stay as they were.
    pub(crate) fn refresh(&self) -> Result<(), Error> {
        let text = read(&self.passwords)?;
        let before = {
            let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
            if users.text == text {
                return Ok(());
            }
            Arc::clone(&users.accounts)
        };
        let accounts = Arc::new(accounts(&self.passwords, &text, &before)?);
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        *users = Users { text, accounts };
        Ok(())
    }

    fn accounts(&self) -> Arc<Accounts> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&users.accounts)
    }

    /// What was recognised before.
    fn is_known(&self, accounts: &Accounts, basic: &Basic) -> bool {
        let account = accounts.get(basic.user());
        let known = account.and_then(|account| account.known.get());
        known.is_some_and(|tag| hmac::verify(&self.key, basic.whole(), tag.as_ref()).is_ok())
    }

    async fn recognise(&self, basic: Basic) -> Result<(), Status> {
        let accounts = self.accounts();
        if self.is_known(&accounts, &basic) {
            return Ok(());
        }
        let account = accounts.get(basic.user());
        let waiting = account.map_or(&self.strangers, |account| &account.waiting);
        let place = Arc::clone(waiting).try_acquire_owned();
        let busy = |_| Status::resource_exhausted("too many passwords are to be recognised");
        let place = place.map_err(busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        if self.is_known(&accounts, &basic) {
            return Ok(());
        }
        // Who asks does not learn from the time it takes whether there is such a user.
        let encrypted = match account {
            Some(account) => account.encrypted.clone(),
            None => Encrypted::of_nobody(&accounts),
        };
        let tag = hmac::sign(&self.key, basic.whole());
        let is_right = rt::blocking(move || {
            let _held = (place, turn);
            encrypted.is_of(basic.password())
        });
        let ending = |_| Status::unavailable("the server is ending");
        let is_right = is_right.await.map_err(ending)?;
        match account.filter(|_| is_right) {
            Some(account) => {
                // Else another request was first.
                account.known.set(tag).ok();
                Ok(())
            }
            None => Err(unauthenticated()),
        }
    }
}

/// Upstream's `AuthInterceptor.java` and `ControllerServiceImpl.java` say: `UNAUTHENTICATED` if the password is wrong, or there is none where one is
/// needed; `PERMISSION_DENIED` if the user may not.
#[async_trait]
impl Authority for Access {
    async fn admit(&self, sender: &MetadataMap) -> Result<(), Status> {
        match Basic::of(sender)? {
            Some(basic) => self.recognise(basic).await,
            None => Ok(()),
        }
    }

    fn check(
        &self,
        sender: &MetadataMap,
        resource: &str,
        permission: Permission,
    ) -> Result<(), Status> {
        let basic = Basic::of(sender)?.ok_or_else(unauthenticated)?;
        let accounts = self.accounts();
        if !self.is_known(&accounts, &basic) {
            return Err(unauthenticated());
        }
        let account = accounts.get(basic.user());
        let granted = account.and_then(|account| account.rules.permission(resource));
        if granted < Some(permission) {
            let why = format!("{} may not do this with {resource}", basic.user());
            return Err(Status::permission_denied(why));
        }
        Ok(())
    }

    fn token(
        &self,
        _: &MetadataMap,
        resource: &str,
        permission: Permission,
    ) -> Result<String, Status> {
        let token = self.tokens.issue(resource, permission, rt::wall());
        token.map_err(|error| Status::internal(error.to_string()))
    }
}

fn unauthenticated() -> Status {
    Status::unauthenticated("a user and the right password are needed")
}

/// What a user says.
struct Basic {
    /// `USER:PASSWORD`
    text: String,
    /// Where the colon is.
    colon: usize,
}

impl Basic {
    /// Nothing, if they say nothing, or speak of something else than passwords.
    fn of(sender: &MetadataMap) -> Result<Option<Self>, Status> {
        let said = sender.get("authorization").map(|value| value.to_str());
        let said = said.transpose().map_err(|_| unauthenticated())?;
        let Some((_, token)) = said
            .and_then(|said| said.split_once(char::is_whitespace))
            .filter(|(method, _)| method.eq_ignore_ascii_case("basic"))
        else {
            return Ok(None);
        };
        let text = STANDARD.decode(token.trim()).ok();
        let text = text.and_then(|text| String::from_utf8(text).ok());
        let text = text.ok_or_else(unauthenticated)?;
        let colon = text.find(':').ok_or_else(unauthenticated)?;
        Ok(Some(Self { text, colon }))
    }

    fn user(&self) -> &str {
        &self.text[..self.colon]
    }

    fn password(&self) -> &str {
        &self.text[self.colon + 1..]
    }

    fn whole(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| {
        let path = path.to_owned();
        Error::Read { path, source }
    })
}

fn accounts(path: &Path, text: &str, before: &Accounts) -> Result<Accounts, Error> {
    passwords::parse(text, before).map_err(|(line, why)| {
        let path = path.to_owned();
        Error::Line { path, line, why }
    })
}

/// All of the file, but for the end of its line.
fn token_key(path: &Path) -> Result<String, Error> {
    let key = read(path)?.trim_end_matches(['\n', '\r']).to_owned();
    if key.is_empty() {
        let path = path.to_owned();
        return Err(Error::NoKey { path });
    }
    Ok(key)
}

/// One that is made at the first start.
fn kept_token_key(dir: &Path) -> Result<String, Error> {
    let path = dir.join(TOKEN_KEY);
    match token_key(&path) {
        Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let key = Secret::random();
    let keep = || {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let partial = dir.join(format!("{TOKEN_KEY}.partial"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&partial)?;
        file.write_all(key.as_str().as_bytes())?;
        file.sync_all()?;
        // If a crash takes it away again, tokens are asked for anew.
        fs::rename(&partial, &path)
    };
    keep().map_err(|source| Error::Keep {
        path: path.clone(),
        source,
    })?;
    Ok(key.as_str().to_owned())
}

#[cfg(test)]
mod tests;
