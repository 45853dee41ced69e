//! Leaving a host, and coming back on another.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::poll::Start;
use super::table::{DESCRIPTORS_MAX, Descriptor, OpenFile, Place, Table};
use super::types::FDFLAGS;
use super::{Errno, Mount, Stream, Wasi};
use crate::vfs::{How, Kind, Opened, PATH_BYTES_MAX, Stat, Vfs};

/// A guest's WASI state as plain data. Whoever stores it gives it a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// The guest's names of its mounts.
    mounts: Vec<String>,
    /// By number.
    descriptors: Vec<Option<Saved>>,
    pending: Option<Start>,
}

impl State {
    /// The guest's names of the mounts that [`Wasi::restore`] needs.
    pub fn mounts(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().map(String::as_str)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Saved {
    Stdin,
    Output(Stream),
    /// The root of a mount.
    Root {
        mount: u32,
    },
    Directory {
        at: SavedPlace,
    },
    File {
        at: SavedPlace,
        read: bool,
        write: bool,
        flags: u16,
        offset: u64,
    },
}

/// A place in a mount, and the identity of what is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedPlace {
    mount: u32,
    path: String,
    device: u64,
    inode: u64,
}

/// Why a guest must stay where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotSave {
    /// Its last name is gone, or was moved by others.
    #[error("`{path}` was removed while open: the file cannot follow the cell")]
    Removed {
        /// As the guest says it.
        path: String,
    },
    /// Another file has its name now.
    #[error("`{path}` was replaced while open: the file cannot follow the cell")]
    Replaced {
        /// As the guest says it.
        path: String,
    },
    /// It cannot be looked at.
    #[error("`{path}` cannot be found again: {errno}")]
    Lost {
        /// As the guest says it.
        path: String,
        /// Why.
        errno: Errno,
    },
}

/// Why a guest cannot go on here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// There is no such mount here.
    #[error("nothing is mounted at `{guest}`")]
    NoMount {
        /// The guest's name of it.
        guest: String,
    },
    /// An open file cannot be opened here.
    #[error("`{path}`, which the cell has open, cannot be opened here: {errno}")]
    Open {
        /// As the guest says it.
        path: String,
        /// Why.
        errno: Errno,
    },
    /// An open file is another one here.
    #[error("`{path}`, which the cell has open, is not the same file here")]
    NotTheSame {
        /// As the guest says it.
        path: String,
    },
    /// No guest leaves such a state behind.
    #[error("the state of the cell is damaged: {0}")]
    Damaged(&'static str),
}

impl Wasi {
    /// Writes down the state, for [`Wasi::restore`]. Changes nothing: the guest can go on here.
    ///
    /// # Errors
    /// When an open file is not where its path says any more.
    pub fn save(&self) -> Result<State, CannotSave> {
        let descriptors = self
            .table
            .slots()
            .map(|slot| slot.map(|descriptor| self.save_one(descriptor)).transpose());
        Ok(State {
            args: self.args.clone(),
            env: self.env.clone(),
            mounts: self
                .mounts
                .iter()
                .map(|mount| mount.guest.clone())
                .collect(),
            descriptors: descriptors.collect::<Result<_, _>>()?,
            pending: self.pending,
        })
    }

    fn save_one(&self, descriptor: &Descriptor) -> Result<Saved, CannotSave> {
        Ok(match descriptor {
            Descriptor::Stdin => Saved::Stdin,
            Descriptor::Output(stream) => Saved::Output(*stream),
            Descriptor::Directory(at) => match self.save_place(at)? {
                Some(at) => Saved::Directory { at },
                None => Saved::Root {
                    mount: number(at.mount),
                },
            },
            Descriptor::File(file) => {
                let at = self
                    .save_place(&file.at)?
                    .expect("the root of a mount is no file");
                Saved::File {
                    at,
                    read: file.read,
                    write: file.write,
                    flags: file.flags,
                    offset: file.offset,
                }
            }
        })
    }

    /// None for the root of a mount, which has no identity that it could lose.
    fn save_place(&self, at: &Place) -> Result<Option<SavedPlace>, CannotSave> {
        let Some((device, inode)) = at.identity else {
            return Ok(None);
        };
        let path = || shown(&self.mounts[at.mount].guest, &at.path);
        match self.vfs(at).stat(&at.path, true) {
            Ok(stat) if (stat.device, stat.inode) == (device, inode) => Ok(Some(SavedPlace {
                mount: number(at.mount),
                path: at.path.clone(),
                device,
                inode,
            })),
            Ok(_) => Err(CannotSave::Replaced { path: path() }),
            Err(Errno::NoEnt | Errno::NotDir) => Err(CannotSave::Removed { path: path() }),
            Err(errno) => Err(CannotSave::Lost {
                path: path(),
                errno,
            }),
        }
    }

    /// Opens everything again as it was. Nothing is created, cut or moved by this, so that it can
    /// be tried anywhere.
    ///
    /// `mounts` are the mounts here by the guest's name; the guest gets those that it had.
    ///
    /// # Errors
    /// When a mount or an open file is not there, or the state is not one.
    pub fn restore(state: State, mounts: &[(String, Arc<dyn Vfs>)]) -> Result<Self, RestoreError> {
        if state.descriptors.len() > DESCRIPTORS_MAX.max(state.mounts.len() + 3) {
            return Err(RestoreError::Damaged("it has too many descriptors"));
        }
        let mounts = state
            .mounts
            .into_iter()
            .map(
                |guest| match mounts.iter().find(|(name, _)| *name == guest) {
                    Some((_, vfs)) => Ok(Mount {
                        guest,
                        vfs: Arc::clone(vfs),
                    }),
                    None => Err(RestoreError::NoMount { guest }),
                },
            )
            .collect::<Result<Vec<_>, _>>()?;
        let slots = state
            .descriptors
            .into_iter()
            .map(|slot| slot.map(|saved| open_again(&mounts, saved)).transpose());
        let table = Table::from_slots(slots.collect::<Result<_, _>>()?);
        Ok(Self {
            args: state.args,
            env: state.env,
            mounts,
            table,
            pending: state.pending,
            listing: None,
            memory: None,
        })
    }
}

fn open_again(mounts: &[Mount], saved: Saved) -> Result<Descriptor, RestoreError> {
    Ok(match saved {
        Saved::Stdin => Descriptor::Stdin,
        Saved::Output(stream) => Descriptor::Output(stream),
        Saved::Root { mount } => {
            let (mount, _) = mount_at(mounts, mount)?;
            let at = Place {
                mount,
                path: ".".to_owned(),
                identity: None,
            };
            Descriptor::Directory(at)
        }
        Saved::Directory { at } => {
            let (place, stat) = place_again(mounts, at)?;
            if stat.kind != Kind::Directory {
                return Err(RestoreError::NotTheSame {
                    path: shown(&mounts[place.mount].guest, &place.path),
                });
            }
            Descriptor::Directory(place)
        }
        Saved::File {
            at,
            read,
            write,
            flags,
            offset,
        } => {
            if flags & !FDFLAGS != 0 || i64::try_from(offset).is_err() {
                return Err(RestoreError::Damaged(
                    "a file has impossible flags or an impossible offset",
                ));
            }
            let (place, _) = place_again(mounts, at)?;
            let path = || shown(&mounts[place.mount].guest, &place.path);
            let how = How {
                read,
                write,
                follow: true,
                ..How::default()
            };
            let (file, stat) = match mounts[place.mount].vfs.open(&place.path, how) {
                Ok(Opened::File(file, stat)) => (file, stat),
                Ok(Opened::Directory(_)) => return Err(RestoreError::NotTheSame { path: path() }),
                Err(errno) => {
                    return Err(RestoreError::Open {
                        path: path(),
                        errno,
                    });
                }
            };
            if place.identity != Some((stat.device, stat.inode)) {
                return Err(RestoreError::NotTheSame { path: path() });
            }
            Descriptor::File(OpenFile {
                at: place,
                read,
                write,
                flags,
                offset,
                file,
            })
        }
    })
}

/// Finds a place here. The inode must be the one that it was; the device has another number on
/// every host that mounts it.
fn place_again(mounts: &[Mount], saved: SavedPlace) -> Result<(Place, Stat), RestoreError> {
    let (mount, Mount { guest, vfs }) = mount_at(mounts, saved.mount)?;
    if saved.path.len() > PATH_BYTES_MAX {
        return Err(RestoreError::Damaged("a path is too long"));
    }
    let path = || shown(guest, &saved.path);
    let stat = vfs
        .stat(&saved.path, true)
        .map_err(|errno| RestoreError::Open {
            path: path(),
            errno,
        })?;
    if stat.inode != saved.inode {
        return Err(RestoreError::NotTheSame { path: path() });
    }
    Ok((
        Place {
            mount,
            path: saved.path,
            identity: Some((stat.device, stat.inode)),
        },
        stat,
    ))
}

fn mount_at(mounts: &[Mount], number: u32) -> Result<(usize, &Mount), RestoreError> {
    usize::try_from(number)
        .ok()
        .and_then(|index| Some((index, mounts.get(index)?)))
        .ok_or(RestoreError::Damaged("a file is in no mount"))
}

/// A path for people, as the guest says it.
fn shown(mount: &str, path: &str) -> String {
    match mount.trim_end_matches('/') {
        "." => path.to_owned(),
        mount => format!("{mount}/{path}"),
    }
}

fn number(mount: usize) -> u32 {
    u32::try_from(mount).expect("there are not that many mounts")
}
