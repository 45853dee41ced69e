//! The agent of one site.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use ids::{Labels, Name};
use site::{Share, StopMode, Wanted};
use workload::Driver;

use super::{Asked, Signals};

/// How soon a fault of the agent itself ends the process.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Site {
    /// What the site is called.
    #[arg(long)]
    name: Name,
    /// Where it keeps who it is, what it is to run, and the state of its units.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The controller that it joins; needed once, and again when the controller has moved.
    #[arg(long, value_name = "HOST:PORT", requires = "token")]
    join: Option<String>,
    /// The token that the controller has given out for joining.
    #[arg(long, requires = "join")]
    token: Option<String>,
    /// What the site is said to be, for placement: `tier=edge`.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The processors that its units may use: `0,2-3`.
    #[arg(long, value_name = "LIST", conflicts_with = "cpu_share", value_parser = processors)]
    cpus: Option<Processors>,
    /// How much processor time its units may use: 0.5 is half a processor.
    #[arg(long, value_name = "PROCESSORS")]
    cpu_share: Option<f64>,
    /// A directory that units may mount, with all that is below it; may be given several times.
    #[arg(long, value_name = "DIR")]
    mountable: Vec<PathBuf>,
    /// The address at which other sites reach this one.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    address: String,
    /// Where metrics and health are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    metrics: SocketAddr,
    /// Stop the units that an agent has left here, and end.
    #[arg(long)]
    stop_units: bool,
    /// End, and stop the units, when the process that started this one ends.
    #[arg(long, hide = true)]
    with_parent: bool,
    /// What to log: a tracing filter such as `info` or `site=debug`.
    #[arg(long, default_value = "info")]
    log: String,
}

/// Numbers of processors.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Processors(Vec<usize>);

/// What drivers are made for.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub site: &'a Name,
    pub dir: &'a std::path::Path,
    /// Modules are here, each as `SHA256.wasm`.
    pub modules: PathBuf,
    /// The address at which other sites reach this one.
    pub address: &'a str,
    /// Directories that units may mount.
    pub mountable: &'a [PathBuf],
    /// Log filter of processes that drivers start.
    pub log: &'a str,
}

/// The drivers of this program: cells.
pub(crate) fn drivers(place: &Place<'_>) -> anyhow::Result<Vec<Arc<dyn Driver>>> {
    let modules = place.modules.clone();
    let module = move |digest: &ids::Digest| {
        let path = modules.join(format!("{digest}.wasm"));
        path.exists().then_some(path)
    };
    let cells = cells::driver::CellDriver::new(cells::driver::Config {
        dir: place.dir.join("cells"),
        site: place.site.clone(),
        program: std::env::current_exe().context("find this program")?,
        log: place.log.to_owned(),
        listen: place
            .address
            .parse()
            .context("--address is an IP address")?,
        modules: Arc::new(module),
        mountable: place
            .mountable
            .iter()
            .map(canonical)
            .collect::<anyhow::Result<_>>()?,
    })?;
    Ok(vec![Arc::new(cells)])
}

impl Site {
    /// Runs the agent with these drivers until it is asked to end: SIGTERM leaves the units, SIGINT stops them.
    pub(crate) fn run(
        self,
        make_drivers: impl FnOnce(&Place<'_>) -> anyhow::Result<Vec<Arc<dyn Driver>>>,
    ) -> anyhow::Result<ExitCode> {
        // Before anything is started, because what is started inherits it.
        let share = Share::take(&self.wanted(), &self.name, &self.dir);
        if self.with_parent {
            super::end_with_parent().context("end with the parent process")?;
        }
        let telemetry = super::telemetry("site", &self.log, self.metrics)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut signals = runtime.block_on(async { Signals::new() })?;
        if let (Some(controller), Some(token)) = (&self.join, &self.token) {
            let labels: Labels = self.labels.into_iter().collect();
            site::join(&self.dir, controller, token, &self.name, &labels)?;
        }
        let drivers = make_drivers(&Place {
            site: &self.name,
            dir: &self.dir,
            modules: self.dir.join(site::MODULES),
            address: &self.address,
            mountable: &self.mountable,
            log: &self.log,
        })?;
        let config = site::Config {
            dir: self.dir,
            site: self.name,
            share,
        };
        let agent = site::start(config, drivers, &telemetry.metrics)?;
        telemetry.health.clear("starting");
        if self.stop_units {
            agent.stop(StopMode::StopUnits)?;
            return Ok(ExitCode::SUCCESS);
        }
        let asked = runtime.block_on(async {
            let mut check = tokio::time::interval(CHECK_PERIOD);
            loop {
                tokio::select! {
                    asked = signals.any() => return Some(asked),
                    _ = check.tick() => if agent.has_failed() { return None },
                }
            }
        });
        match asked {
            Some(Asked::Terminate) => agent.stop(StopMode::LeaveUnits)?,
            Some(Asked::Interrupt) => agent.stop(StopMode::StopUnits)?,
            None => bail!("a thread of the agent has ended: see the log"),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn wanted(&self) -> Wanted {
        match (&self.cpus, self.cpu_share) {
            (Some(Processors(list)), _) => Wanted::Processors(list.clone()),
            (None, Some(part)) => Wanted::Part(part),
            (None, None) => Wanted::All,
        }
    }
}

fn canonical(dir: &PathBuf) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(dir).with_context(|| format!("--mountable {}", dir.display()))
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".into()),
    }
}

/// Reads `0,2-3`.
fn processors(text: &str) -> Result<Processors, String> {
    /// No machine has more; a range must not fill the memory.
    const MAX: usize = 4_096;
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < MAX => list.extend(first..=last),
            _ => return Err(format!("`{part:.20}` is no processor and no range of them")),
        }
    }
    Ok(Processors(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        let check = |text, expected: Option<&[usize]>| {
            let list = processors(text).ok();
            assert_eq!(list.as_ref().map(|list| &list.0[..]), expected, "{text}");
        };
        check("0", Some(&[0]));
        check("0,2-4", Some(&[0, 2, 3, 4]));
        for bad in ["", ",", "a", "3-2", "0-99999999", "-1"] {
            check(bad, None);
        }
    }

    #[test]
    fn labels_have_a_key_and_a_value() {
        assert_eq!(label("tier=edge=1"), Ok(("tier".into(), "edge=1".into())));
        label("tier").expect_err("no value");
        label("=edge").expect_err("no key");
    }
}
