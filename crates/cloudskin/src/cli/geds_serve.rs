//! `cloudskin geds serve`, and who may use what is served.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use geds::users;

use super::say;
use crate::roles;

#[derive(Debug, Subcommand)]
pub(super) enum Geds {
    /// Be a node: keep objects in memory and on the disk, and serve them to S3 clients.
    Serve(roles::geds::Serve),
    /// Say who may use a node. A node that runs takes it up within a second or two.
    #[command(subcommand)]
    User(User),
}

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Make a user of a tenant, or with --peer a credential for the nodes of the site, and print the credentials, which cannot be shown again.
    Add {
        /// Users of one tenant have the same buckets.
        #[arg(required_unless_present = "peer")]
        tenant: Option<String>,
        /// For `site.credentials` in the settings of nodes that follow this one. Whoever has it can read everything.
        #[arg(long, conflicts_with = "tenant")]
        peer: bool,
        #[command(flatten)]
        of: Of,
        /// Write them to a file for AWS_SHARED_CREDENTIALS_FILE instead.
        #[arg(long, value_name = "FILE")]
        credentials: Option<PathBuf>,
        /// What the credentials say that buckets are in.
        #[arg(long, default_value = "us-east-1")]
        region: String,
    },
    /// List access keys and their tenants.
    Ls {
        #[command(flatten)]
        of: Of,
    },
    /// Let a user in no more.
    Rm {
        access_key: String,
        #[command(flatten)]
        of: Of,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Of {
    /// The node's directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The node's file of users, if that is elsewhere.
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
}

impl Geds {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(serve) => return serve.run(),
            Self::User(user) => user.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl User {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Add {
                tenant,
                peer: _,
                of,
                credentials,
                region,
            } => {
                let path = of.path();
                let user = match tenant {
                    Some(tenant) => users::add(&path, &tenant)?,
                    None => users::add_peer(&path)?,
                };
                match credentials {
                    Some(path) => Ok(user.write(&path, &region)?),
                    None => say(user.ini(&region).trim_end()),
                }
            }
            Self::Ls { of } => {
                for user in users::read(&of.path())? {
                    say(&format!("{}  {}", user.access_key, user.tenant))?;
                }
                Ok(())
            }
            Self::Rm { access_key, of } => Ok(users::remove(&of.path(), &access_key)?),
        }
    }
}

impl Of {
    fn path(self) -> PathBuf {
        let beside = |dir: PathBuf| dir.join("users");
        (self.users)
            .or_else(|| self.dir.map(beside))
            .expect("clap wants one of them")
    }
}
