//! Several nodes with one namespace.
//!
//! One node of a site owns the index; the others are members. A member follows the records of the owner and has a replica of the index: what a name
//! stands for is looked up there, without asking anybody, as long as it has a lease (see `core::site`).
//!
//! ```text
//!  client ─▶ member ─ Commit ─▶ owner: decide, log, apply ─ records ─▶ each member: apply, and say so with the next call
//!              │                   │                                                      │
//!              └──── Confirm ─────▶│◀─── all who have a lease have applied it, and it is durable
//!  client ◀── answer ◀─────────────┘
//! ```
//!
//! - A change is acknowledged, wherever it was made, when all nodes that answer know of it. A node that cannot be reached holds that up until its
//!   lease is over; then the index says that it is lost, and so is what only it had.
//! - What a client has read of a change that is not acknowledged yet, another node may not know of yet.
//! - What depends on what there is is decided by the member's replica, and carried out by the owner only if nothing of that has changed since.
//! - A connection to the owner is one membership: if it ends, the member joins again, under a new epoch, and tells what it has. What an owner did
//!   not carry out by then it never will.
//! - Data goes from node to node when it is read ([`peers`]): an object has a number, and never changes.
//! - A node of the site is trusted with all tenants: it asks for the bytes of an object in the name of the tenant that it acts for.
//!
//! Read `core/site`, `wire/site.rs` of geds-client, then `owner`, `member`, `peers`; what a store does as a member is in `store/member.rs`.

pub mod member;
pub mod owner;
pub mod peers;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use self::owner::Owner;
use self::peers::Peers;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::wire::site::SiteId;

/// In the directory of a node: of which site it is, and what it is there.
const FILE: &str = "site";

/// What a directory is. One that has objects of a member is of no use to an owner, who would let go what its index does not know, and the other
/// way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Of the index.
    Owner,
    /// It follows the owner.
    Member,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
        }
    }
}

/// The site that a directory is of; `None`: it is new.
///
/// # Errors
/// `Invalid`: it is of a node of another kind.
pub fn read(dir: &Path, role: Role) -> Result<Option<SiteId>> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("read {}", path.display()), error)),
    };
    let wrong = |what: &str| {
        let what = format!("{}: {what}", path.display());
        Error::new(Kind::Invalid, what)
    };
    let words: Vec<_> = text.split_whitespace().collect();
    let [is, id] = words[..] else {
        return Err(wrong("a role and a site are expected"));
    };
    if is != role.name() {
        let role = role.name();
        let what = format!(
            "this directory is of an {is} of a site, and not of its {role}: look at `site` in the settings"
        );
        return Err(wrong(&what));
    }
    let number = u128::from_str_radix(id, 16).map_err(|_| wrong("that is no site"))?;
    Ok(Some(number.to_be_bytes()))
}

/// Makes the node of a directory one that others may follow. `known`: of which site it is, as [`read`] has said.
///
/// # Errors
/// Those of the system.
pub fn begin(dir: &Path, known: Option<SiteId>, store: &Store, peers: Arc<Peers>) -> Result<()> {
    let id = match known {
        Some(id) => id,
        None => {
            let mut id = SiteId::default();
            rt::fill_random(&mut id);
            write(dir, Role::Owner, id)?;
            id
        }
    };
    store.set_peers(Arc::clone(&peers));
    store.set_owner(Arc::new(Owner::new(id, store, peers)));
    Ok(())
}

/// Says durably of which site a directory is.
///
/// # Errors
/// Those of the system.
fn write(dir: &Path, role: Role, id: SiteId) -> Result<()> {
    let path = dir.join(FILE);
    let partial = path.with_added_extension("partial");
    let text = format!("{} {:032x}\n", role.name(), u128::from_be_bytes(id));
    let write = || {
        let mut file = durable::create_private(&partial)?;
        file.write_all(text.as_bytes())?;
        durable::publish(&file, &partial, &path)
    };
    write().map_err(|error| Error::io(format!("write {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_stays_what_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(read(dir.path(), Role::Owner).expect("new"), None);
        let id = [7; 16];
        write(dir.path(), Role::Member, id).expect("written");
        assert_eq!(read(dir.path(), Role::Member).expect("it is"), Some(id));
        let other = read(dir.path(), Role::Owner).expect_err("it is a member's");
        assert_eq!(other.kind, Kind::Invalid);
        fs::write(dir.path().join(FILE), "member x").expect("written");
        assert!(read(dir.path(), Role::Member).is_err());
    }
}
