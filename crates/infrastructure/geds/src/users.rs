//! Who may come in: a file with a line for each user, `ACCESS_KEY SECRET TENANT`. Users of `geds-peer` are the nodes of the site, and of no tenant. Lines that begin with `#` are for people.
//!
//! The file is its owner's alone, and is never changed in place: whoever reads it sees all of one version. Secrets are in it, and in what
//! [`add`] gives back, and nowhere else.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use s3::users::{Secret, User, Users};

use crate::client;
use crate::error::{Error, Kind, Result};
use crate::front;
use crate::store::PEER;

/// As S3's own, so that clients which look at it are content.
const ACCESS_KEY_LEN: usize = 20;
const SECRET_LEN: usize = 40;
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// What clients show as the secret may be any text without blanks, as long as this.
const WORD_LEN_MAX: usize = 128;
/// A file of users is read as a whole.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What a new user needs to know. It cannot be told again.
pub struct Credentials {
    pub access_key: String,
    pub secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.access_key)
    }
}

impl Credentials {
    fn random() -> Self {
        let letters = |n: usize| {
            let mut random = vec![0; n];
            rt::fill_random(&mut random);
            let letter = |byte: &u8| char::from(LETTERS[usize::from(byte % 32)]);
            random.iter().map(letter).collect::<String>()
        };
        Self {
            access_key: letters(ACCESS_KEY_LEN),
            secret: letters(SECRET_LEN),
        }
    }

    /// As in the file that S3 clients read: `AWS_SHARED_CREDENTIALS_FILE`.
    #[must_use]
    pub fn ini(&self, region: &str) -> String {
        let Self { access_key, secret } = self;
        format!(
            "[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret}\nregion = {region}\n"
        )
    }

    /// Writes that file, for its owner only.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write(&self, path: &Path, region: &str) -> Result<()> {
        write(path, &self.ini(region))
    }
}

/// Adds a user of a tenant, and makes the file if there is none.
///
/// # Errors
/// `Invalid`: the tenant cannot be one, or the file is not as it should be.
pub fn add(path: &Path, tenant: &str) -> Result<Credentials> {
    front::s3::tenant(tenant)?;
    put(path, tenant)
}

/// Adds a credential for the nodes of the site.
///
/// # Errors
/// Those of [`add`].
pub fn add_peer(path: &Path) -> Result<Credentials> {
    put(path, PEER)
}

fn put(path: &Path, tenant: &str) -> Result<Credentials> {
    let credentials = Credentials::random();
    let Credentials { access_key, secret } = &credentials;
    change(path, |text| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        writeln!(text, "{access_key} {secret} {tenant}").expect("memory takes all");
        Ok(())
    })?;
    Ok(credentials)
}

/// The user is none any more.
///
/// # Errors
/// `NotFound`.
pub fn remove(path: &Path, access_key: &str) -> Result<()> {
    change(path, |text| {
        let is_of = |line: &&str| line.split_whitespace().next() == Some(access_key);
        let n_bytes = text.len();
        let kept = text.lines().filter(|line| !is_of(line));
        *text = kept.fold(String::new(), |text, line| text + line + "\n");
        if text.len() == n_bytes {
            let what = format!("there is no user `{access_key}`");
            return Err(Error::new(Kind::NotFound, what));
        }
        Ok(())
    })
}

/// Those of a file.
///
/// # Errors
/// `NotFound`: there is no file. `Invalid`: it is not as it should be, or others may read it.
pub fn read(path: &Path) -> Result<Vec<User>> {
    parse(path, &text(path)?)
}

/// A file of users that may change.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    users: Users,
    peers: Users,
    /// Of whom everybody knows whom to be known to.
    first_peer: Option<User>,
    /// Also let in, whatever the file says.
    own: Option<User>,
    /// Of the version that was looked at last.
    version: Option<Version>,
}

/// Tells one version of a file from another: each is a file of its own, save what people edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Watched {
    /// Nobody may come in as long as there is no file, but `own`: a node of the site.
    ///
    /// # Errors
    /// Those of [`read`], save that there is no file.
    pub(crate) fn open(path: PathBuf, own: Option<User>) -> Result<Self> {
        let mut watched = Self {
            path,
            users: Users::default(),
            peers: Users::new(own.clone()),
            first_peer: own.clone(),
            own,
            version: None,
        };
        watched.refresh()?;
        Ok(watched)
    }

    pub(crate) fn users(&self) -> &Users {
        &self.users
    }

    /// The nodes of the site.
    pub(crate) fn peers(&self) -> &Users {
        &self.peers
    }

    /// What this node shows to others of the site.
    pub(crate) fn as_peer(&self) -> Option<client::Credentials> {
        let of = self.first_peer.as_ref()?;
        let (access_key, secret) = (of.access_key.clone(), of.secret.expose().to_owned());
        Some(client::Credentials::new(access_key, secret))
    }

    /// Takes the users as they are by now, if that has changed. Of a version that cannot be understood, it complains once.
    ///
    /// # Errors
    /// Those of [`read`], save that there is no file. It stays as it was.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        let version = version_of(&self.path)?;
        if version == self.version {
            return Ok(());
        }
        self.version = version;
        let users = match version {
            Some(_) => read(&self.path)?,
            None => Vec::new(),
        };
        let (peers, users): (Vec<_>, Vec<_>) =
            (users.into_iter()).partition(|user| user.tenant.as_str() == PEER);
        tracing::info!(n_users = users.len(), n_peers = peers.len(), "users");
        let peers: Vec<_> = self.own.iter().cloned().chain(peers).collect();
        self.first_peer = peers.first().cloned();
        self.peers.replace(peers);
        self.users.replace(users);
        Ok(())
    }
}

fn version_of(path: &Path) -> Result<Option<Version>> {
    match fs::metadata(path) {
        Ok(file) => Ok(Some(Version {
            inode: file.ino(),
            bytes: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(reading(path, error)),
    }
}

fn parse(path: &Path, text: &str) -> Result<Vec<User>> {
    let mut users = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        // Nothing of the line is repeated: a secret may be anywhere in it.
        let wrong = |what: &str| {
            let what = format!("line {number} of {}: {what}", path.display());
            Error::new(Kind::Invalid, what)
        };
        let words: Vec<_> = line.split_whitespace().collect();
        let (access_key, secret, tenant) = match words[..] {
            [] => continue,
            [first, ..] if first.starts_with('#') => continue,
            [access_key, secret, tenant] => (access_key, secret, tenant),
            _ => return Err(wrong("a user is an access key, a secret and a tenant")),
        };
        if access_key.len().max(secret.len()) > WORD_LEN_MAX {
            return Err(wrong("access keys and secrets have at most 128 bytes"));
        }
        users.push(User {
            access_key: access_key.to_owned(),
            secret: Secret::new(secret.to_owned()),
            tenant: match tenant {
                PEER => front::s3::peer(),
                _ => front::s3::tenant(tenant).map_err(|error| wrong(&error.to_string()))?,
            },
        });
    }
    Ok(users)
}

fn text(path: &Path) -> Result<String> {
    let file = fs::metadata(path).map_err(|error| reading(path, error))?;
    let what = if file.permissions().mode() & 0o007 != 0 {
        "everybody may read secrets there, or write them: chmod 600"
    } else if file.len() > FILE_BYTES_MAX {
        "too large for a file of users"
    } else {
        return fs::read_to_string(path).map_err(|error| reading(path, error));
    };
    Err(Error::new(
        Kind::Invalid,
        format!("{}: {what}", path.display()),
    ))
}

fn reading(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::InvalidData => Kind::Invalid,
        _ => Kind::Unavailable,
    };
    Error::caused(kind, format!("read {}", path.display()), error)
}

/// Puts another version in its place. Others who want to do so wait.
fn change(path: &Path, edit: impl FnOnce(&mut String) -> Result<()>) -> Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        let making = |error| Error::io(format!("make {}", dir.display()), error);
        durable::make_private_dir(dir).map_err(making)?;
    }
    let lock = File::create(path.with_added_extension("lock"));
    let lock = lock.and_then(|lock| lock.lock().map(|()| lock));
    let locking = |error| Error::io(format!("lock {}", path.display()), error);
    let _lock = lock.map_err(locking)?;
    let mut text = match text(path) {
        Err(error) if error.kind == Kind::NotFound => String::new(),
        text => text?,
    };
    edit(&mut text)?;
    parse(path, &text)?;
    write(path, &text)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_added_extension("partial");
    let write = || {
        let mut file = durable::create_private(&partial)?;
        file.write_all(text.as_bytes())?;
        durable::publish(&file, &partial, path)
    };
    write().map_err(|error| Error::io(format!("write {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access_keys(path: &Path) -> Vec<String> {
        let users = read(path).expect("users");
        users.into_iter().map(|user| user.access_key).collect()
    }

    #[test]
    fn users_come_and_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deep/users");
        assert_eq!(read(&path).expect_err("no file").kind, Kind::NotFound);
        let one = add(&path, "one").expect("added");
        let two = add(&path, "two").expect("added");
        assert_eq!((one.access_key.len(), one.secret.len()), (20, 40));
        assert_ne!(one.secret, two.secret);
        assert_eq!(access_keys(&path), [&*one.access_key, &two.access_key]);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        remove(&path, &one.access_key).expect("removed");
        assert_eq!(access_keys(&path), [&*two.access_key]);
        let gone = remove(&path, &one.access_key).expect_err("it is gone");
        assert_eq!(gone.kind, Kind::NotFound);
        for tenant in ["geds-own", "Acme", "a b"] {
            assert_eq!(add(&path, tenant).expect_err(tenant).kind, Kind::Invalid);
        }
        assert!(!format!("{two:?}").contains(&two.secret));
        let ini = two.ini("here");
        assert!(ini.contains(&format!("aws_secret_access_key = {}\n", two.secret)));
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let text = "# people\n\nKEY s/+= acme\nOTHER secret two\n";
        let users = parse(Path::new("users"), text).expect("they are users");
        let found = users
            .iter()
            .map(|user| (&*user.access_key, user.tenant.as_str()));
        assert!(found.eq([("KEY", "acme"), ("OTHER", "two")]));
    }

    #[test]
    fn what_is_no_user_is_told_by_its_line_and_never_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users");
        let long = "x".repeat(WORD_LEN_MAX + 1);
        for line in [
            "KEY hunter2",
            "KEY hunter2 acme more",
            "KEY hunter2 Acme",
            "KEY hunter2 geds-own",
            &format!("KEY hunter2{long} acme"),
        ] {
            let text = format!("# hunter2\n\n{line}\n");
            let error = parse(&path, &text).expect_err(line);
            let shown = error.to_string();
            assert!(
                error.kind == Kind::Invalid && shown.contains("line 3"),
                "{shown}"
            );
            assert!(!format!("{error:?} {shown}").contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn a_file_that_everybody_may_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users");
        add(&path, "acme").expect("added");
        for (mode, is_fine) in [(0o604, false), (0o602, false), (0o640, true), (0o600, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            assert_eq!(read(&path).is_ok(), is_fine, "{mode:o}");
        }
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_one_that_is_wrong_is_told_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users");
        let mut watched = Watched::open(path.clone(), None).expect("no file is fine");
        let shown = |watched: &Watched| format!("{:?}", watched.users());
        assert_eq!(shown(&watched), "{}");
        let user = add(&path, "acme").expect("added");
        watched.refresh().expect("read");
        let expected = format!("{{{:?}}}", user.access_key);
        assert_eq!(shown(&watched), expected);
        fs::write(&path, "nonsense").expect("written");
        assert_eq!(watched.refresh().expect_err("wrong").kind, Kind::Invalid);
        watched.refresh().expect("it was told");
        assert_eq!(shown(&watched), expected);
        fs::remove_file(&path).expect("removed");
        watched.refresh().expect("nobody");
        assert_eq!(shown(&watched), "{}");
    }
}
