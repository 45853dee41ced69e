//! From a URL to a store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::{Class, Error, Result};

/// A store that a URL names.
#[derive(Clone, Debug)]
pub struct Opened {
    pub store: Arc<dyn ObjectStore>,
    /// Of its acknowledgements, if an answer does not say another: see [`Class::of`].
    pub class: Class,
}

/// What opens the URLs of one scheme.
pub trait Scheme: fmt::Debug + Send + Sync {
    /// `url` has this scheme, and neither user, password, query nor fragment. Its path is where the store begins.
    ///
    /// # Errors
    /// When there is no such store.
    fn open(&self, url: &Url) -> Result<Opened>;
}

/// Those that are known. Shared by its clones.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Mutex<BTreeMap<String, Arc<dyn Scheme>>>>);

impl Default for Registry {
    /// `file:///DIRECTORY`, which is there, and `memory://NAME`, which is another one in each registry.
    fn default() -> Self {
        let schemes: [(&str, Arc<dyn Scheme>); 2] = [
            ("file", Arc::new(File)),
            ("memory", Arc::<Memory>::default()),
        ];
        let schemes = schemes.map(|(name, scheme)| (name.to_owned(), scheme));
        Self(Arc::new(Mutex::new(schemes.into())))
    }
}

impl Registry {
    /// # Errors
    /// [`Error::Registered`].
    pub fn register(&self, scheme: &str, opens: Arc<dyn Scheme>) -> Result<()> {
        let mut schemes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if schemes.contains_key(scheme) {
            return Err(Error::Registered(scheme.to_owned()));
        }
        schemes.insert(scheme.to_owned(), opens);
        Ok(())
    }

    /// # Errors
    /// When it is no URL, could hold a secret, or names no store.
    pub fn open(&self, url: &str) -> Result<Opened> {
        let url = Url::parse(url).map_err(Error::Malformed)?;
        let held = [
            (!url.username().is_empty(), "a user"),
            (url.password().is_some(), "a password"),
            (url.query().is_some(), "a query"),
            (url.fragment().is_some(), "a fragment"),
        ];
        if let Some((_, what)) = held.iter().find(|(is_there, _)| *is_there) {
            return Err(Error::Secret(what));
        }
        let scheme = {
            let schemes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            schemes.get(url.scheme()).cloned()
        };
        let scheme = scheme.ok_or_else(|| Error::Unknown(url.scheme().to_owned()))?;
        scheme.open(&url)
    }
}

/// The part of a store that begins where the path of a URL says.
///
/// # Errors
/// When the path is none of `object_store`.
pub fn within(store: impl ObjectStore, url: &Url) -> Result<Arc<dyn ObjectStore>> {
    let prefix = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
    Ok(if prefix.is_root() {
        Arc::new(store)
    } else {
        Arc::new(PrefixStore::new(store, prefix))
    })
}

#[derive(Debug)]
struct File;

impl Scheme for File {
    fn open(&self, url: &Url) -> Result<Opened> {
        let wanted = || Error::Invalid("a directory is file:///DIRECTORY".to_owned());
        let directory = url.to_file_path().map_err(|()| wanted())?;
        let store = LocalFileSystem::new_with_prefix(directory)?.with_fsync(true);
        Ok(Opened {
            store: Arc::new(store),
            class: Class::Durable,
        })
    }
}

/// For tests and trials.
#[derive(Debug, Default)]
struct Memory(Mutex<BTreeMap<String, Arc<InMemory>>>);

impl Scheme for Memory {
    fn open(&self, url: &Url) -> Result<Opened> {
        let name = url.host_str().unwrap_or_default().to_owned();
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let store = Arc::clone(stores.entry(name).or_default());
        Ok(Opened {
            store: within(store, url)?,
            class: Class::Ephemeral,
        })
    }
}
