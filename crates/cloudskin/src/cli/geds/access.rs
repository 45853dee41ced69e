//! Which node, and who asks it.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use geds::client::{Client, Credentials, Tls};

use crate::config::Config;

#[derive(Debug, Args)]
pub(in crate::cli) struct Access {
    /// HOST:PORT of a node; else what CLOUDSKIN_GEDS says.
    #[arg(long, value_name = "ADDR")]
    node: Option<String>,
    /// What `cloudskin geds user add` has written, or an access key and its secret, separated by blanks; else GEDS_ACCESS_KEY and
    /// GEDS_SECRET_KEY.
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Speak TLS, and trust the authority whose certificate (PEM) is in this file.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// What the node's certificate says it is, if that is not HOST.
    #[arg(long, value_name = "NAME", requires = "ca")]
    tls_name: Option<String>,
}

impl Access {
    pub(super) async fn connect(&self, config: &Config) -> anyhow::Result<Client> {
        let node = self.node.as_ref().or(config.geds.node.as_ref());
        let node = node.context("which node? Say --node ADDR, or set CLOUDSKIN_GEDS")?;
        let addr = resolve(node)?;
        let credentials = self.credentials(config)?;
        let tls = match &self.ca {
            Some(path) => {
                let pem = fs::read_to_string(path)
                    .with_context(|| format!("read the certificate in {}", path.display()))?;
                let config = auth::anonymous_client(&pem)
                    .with_context(|| format!("use the certificate in {}", path.display()))?;
                let host = node.rsplit_once(':').map_or(&**node, |(host, _)| host);
                let name = self.tls_name.clone();
                Some(Tls {
                    config,
                    name: name.unwrap_or_else(|| host.to_owned()),
                })
            }
            None => None,
        };
        Ok(Client::connect(addr, &credentials, tls.as_ref()).await?)
    }

    fn credentials(&self, config: &Config) -> anyhow::Result<Credentials> {
        if let Some(path) = &self.credentials {
            let doing = || format!("read the credentials in {}", path.display());
            let text = fs::read_to_string(path).with_context(doing)?;
            return Credentials::parse(&text).with_context(doing);
        }
        match (&config.geds.access_key, &config.geds.secret_key) {
            (Some(access_key), Some(secret)) => {
                Ok(Credentials::new(access_key.clone(), secret.clone()))
            }
            _ => bail!(
                "who asks? Set GEDS_ACCESS_KEY and GEDS_SECRET_KEY, or say --credentials FILE"
            ),
        }
    }
}

fn resolve(node: &str) -> anyhow::Result<SocketAddr> {
    let mut found = node
        .to_socket_addrs()
        .with_context(|| format!("find the node at `{node}`; HOST:PORT is wanted"))?;
    found
        .next()
        .with_context(|| format!("`{node}` has no address"))
}
