//! A server of streams, and clients of it.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use platform::servers::Ready;
use streams_client::Client;
use streams_client::client::{Config, Window};

use crate::prove::chance::wait;
use crate::prove::process::{self, Process, metric};

/// `cloudskin streams serve` in a directory, always in the same place. It ends with this.
pub(super) struct Server {
    pub process: Process<Ready>,
    pub dir: PathBuf,
    config: PathBuf,
    bound: Option<Ready>,
}

impl Server {
    /// `name`: of the process; the directory may be that of another one.
    pub(super) fn new(
        within: &Path,
        (name, dir): (&str, &str),
        config: &serde_json::Value,
    ) -> anyhow::Result<Self> {
        let path = within.join(format!("{name}.json"));
        fs::write(&path, config.to_string())?;
        Ok(Self {
            process: Process::new("a server", within.join(format!("{name}.txt"))),
            dir: within.join(dir),
            config: path,
            bound: None,
        })
    }

    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let args = self.args();
        let ready = self.process.start(&args)?.clone();
        self.bound.get_or_insert(ready);
        Ok(())
    }

    /// Kills it as soon as it has started for so long, whatever it is at.
    pub(super) fn start_and_kill(&self, after: Duration) -> anyhow::Result<()> {
        let mut child = self.process.begin(&self.args())?;
        wait(after);
        process::end(&mut child);
        Ok(())
    }

    fn args(&self) -> Vec<OsString> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = |of: fn(&Ready) -> SocketAddr| {
            let address = self.bound.as_ref().map_or(any_port, of);
            OsString::from(address.to_string())
        };
        let fixed = [
            "streams",
            "serve",
            "--json",
            "--with-parent",
            "--log",
            "info",
        ];
        let mut args: Vec<OsString> = fixed.map(OsString::from).into();
        args.extend(["--config".into(), self.config.clone().into()]);
        args.extend(["--dir".into(), self.dir.clone().into()]);
        args.extend(["--controller".into(), address(|ready| ready.controller)]);
        args.extend(["--store".into(), address(|ready| ready.store)]);
        args.extend(["--rest".into(), address(|ready| ready.rest)]);
        args
    }

    /// After it has run once.
    pub(super) fn controller(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.bound.as_ref().context("it has run")?.controller)
    }

    /// After it has run once.
    pub(super) fn store(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.bound.as_ref().context("it has run")?.store)
    }

    /// Within a runtime.
    pub(super) fn client(&self, patience: Duration) -> anyhow::Result<Client> {
        client(self.controller()?, patience)
    }

    pub(super) fn metric(&self, name: &str) -> anyhow::Result<u64> {
        metric(self.process.ready()?.metrics, name)
    }
}

/// Within a runtime.
pub(super) fn client(controller: SocketAddr, patience: Duration) -> anyhow::Result<Client> {
    let mut config = Config::new(format!("tcp://{controller}").parse()?);
    config.patience = patience;
    // Of a segment: no record is larger than a log with small segments takes.
    config.window = Window {
        events: 10_000,
        bytes: 512 << 10,
        appends: 4,
    };
    Ok(Client::new(config)?)
}
