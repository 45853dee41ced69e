//! Scopes.

use clap::{Args, Subcommand};

use super::Server;
use crate::cli::say;

#[derive(Debug, Subcommand)]
pub(crate) enum Scope {
    /// Make a scope.
    Create(Named),
    /// List scopes.
    Ls(Ls),
    /// Delete an empty scope.
    Rm(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    scope: String,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Scope {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(it) => {
                let client = it.server.client()?;
                Ok(client.controller().create_scope(&it.scope).await?)
            }
            Self::Rm(it) => {
                let client = it.server.client()?;
                Ok(client.controller().delete_scope(&it.scope).await?)
            }
            Self::Ls(ls) => ls.run().await,
        }
    }
}

impl Ls {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let (mut scopes, mut token) = (Vec::new(), String::new());
        loop {
            let page = client.controller().scopes(&token).await?;
            if page.items.is_empty() {
                break;
            }
            scopes.extend(page.items);
            token = page.token;
        }
        if self.json {
            return say(&serde_json::to_string(&scopes)?);
        }
        scopes.iter().try_for_each(|scope| say(scope))
    }
}
