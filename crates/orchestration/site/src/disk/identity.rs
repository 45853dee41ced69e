//! Who the site is to its controller, and where that one is. The file has a private key in it.

use std::path::{Path, PathBuf};

use auth::Identity;
use ids::{Labels, Name};
use serde::{Deserialize, Serialize};

use super::{read, replace};
use crate::error::{Error, Kind};

const VERSION: u32 = 1;
const BYTES_MAX: u64 = 1 << 20;

/// A site that has joined.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub site: Name,
    pub labels: Labels,
    /// `HOST:PORT`
    pub controller: String,
    pub identity: Identity,
}

#[derive(Serialize, Deserialize)]
struct Body {
    version: u32,
    site: Name,
    labels: Labels,
    controller: String,
    identity: Identity,
}

impl Membership {
    /// What [`save`](Self::save) kept there, if anything.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>, Error> {
        let path = path(folder);
        let corrupt = |why: String| {
            Error::new(
                Kind::Corrupt,
                format!(
                    "{}: {why}; remove it and join again with a new token",
                    path.display()
                ),
            )
        };
        let found = read(&path, BYTES_MAX)
            .map_err(|error| Error::io(format!("read {}", path.display()), error))?;
        let Some(bytes) = found else {
            return Ok(None);
        };
        let body: Body = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        if body.version != VERSION {
            return Err(corrupt(format!("version {} is not known", body.version)));
        }
        Ok(Some(Self {
            site: body.site,
            labels: body.labels,
            controller: body.controller,
            identity: body.identity,
        }))
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<(), Error> {
        let body = Body {
            version: VERSION,
            site: self.site.clone(),
            labels: self.labels.clone(),
            controller: self.controller.clone(),
            identity: self.identity.clone(),
        };
        let bytes = serde_json::to_vec(&body).expect("keys are text and numbers are numbers");
        let path = path(folder);
        replace(&path, &bytes)
            .map_err(|error| Error::io(format!("write {}", path.display()), error))
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("identity.json")
}
