//! `cloudskin ctl`: a running platform, through its north-bound interface and nothing else.

mod show;

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use nbi::{Client, MigrationSpec, NewJoinToken, Operation, Service, Target};
use serde::Serialize;
use serde_json::{Value, json};

use super::say;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Ctl {
    /// The directory of a running `cloudskin up`.
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The sites, and how they are.
    Sites,
    /// Make a token with which one more site may join.
    JoinToken {
        /// Only for this site.
        #[arg(long)]
        site: Option<String>,
        /// How long it can be used: `1h`.
        #[arg(long)]
        ttl: Option<String>,
    },
    /// Overrule what a site has that waits for an operator.
    Adopt {
        site: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Forget a site that does not come back: its certificate counts no more.
    Forget { site: String },
    /// Create or change a service; a module may be a path beside the file, and is uploaded.
    Apply {
        /// YAML or JSON; `-` is standard input.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        wait: Wait,
    },
    /// List services, or show one whole.
    Get { service: Option<String> },
    /// The units of a service: where they are, and how.
    Units { service: String },
    /// What a unit has written.
    Logs {
        service: String,
        /// BLOCK/REPLICA, if the service has several units.
        #[arg(long, value_name = "UNIT")]
        unit: Option<String>,
        /// Go on with what it writes from now on.
        #[arg(short, long)]
        follow: bool,
        /// Begin at this byte of all that it has written.
        #[arg(long, default_value_t = 0)]
        offset: u64,
    },
    /// Move a running service to another site.
    Migrate {
        #[command(flatten)]
        migration: Migrate,
        #[command(flatten)]
        wait: Wait,
    },
    /// The migrations, oldest first.
    Migrations,
    /// The operations, oldest first.
    Operations,
    /// Run so many replicas of a block.
    Scale {
        /// SERVICE/BLOCK
        block: String,
        replicas: u32,
        #[command(flatten)]
        wait: Wait,
    },
    /// End a service, and forget it.
    Delete {
        service: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Print what changes, as it changes.
    Watch {
        /// Begin after this revision.
        #[arg(long)]
        since: Option<String>,
    },
    /// Why a service is where it is, and what the Learning Plane thinks.
    Explain { service: String },
    /// Run the rules `apiRequest("PATH")` of a block's policy now, and show what they decide.
    Request {
        /// SERVICE/BLOCK
        block: String,
        /// As it stands in the policy: `/analyze_qos`.
        path: String,
    },
    /// The newest points of series: `cell_iteration_seconds{service="x"}`.
    Query { selector: String },
}

#[derive(Debug, Args)]
struct Migrate {
    service: String,
    /// The site.
    #[arg(long)]
    to: String,
    /// Only this block.
    #[arg(long)]
    block: Option<String>,
    /// Only these ranks.
    #[arg(long, value_delimiter = ',')]
    ranks: Option<Vec<u32>>,
    /// Ranks that have not begun to move by then stay.
    #[arg(long)]
    deadline: Option<String>,
}

impl Migrate {
    fn spec(self) -> anyhow::Result<MigrationSpec> {
        Ok(MigrationSpec {
            service: self.service.parse()?,
            block: self.block.map(|block| block.parse()).transpose()?,
            to: Target::Site(self.to.parse()?),
            ranks: self.ranks,
            deadline: self.deadline,
            reason: None,
        })
    }
}

#[derive(Clone, Copy, Debug, Args)]
struct Wait {
    /// Return as soon as the wish is recorded.
    #[arg(long)]
    no_wait: bool,
    /// Wait at most so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

impl Ctl {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let dir = self.dir.clone();
        let dir = dir.unwrap_or_else(|| config.data_dir.join("up"));
        let ctl = Session {
            client: platform::Context::read(&dir)?.client()?,
            json: self.json,
        };
        match ctl.run(self.command) {
            // Whoever reads has had enough.
            Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            result => result,
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

struct Session {
    client: Client,
    json: bool,
}

impl Session {
    fn run(&self, command: Command) -> anyhow::Result<ExitCode> {
        let client = &self.client;
        match command {
            Command::Sites => self.list(&client.sites()?, show::sites)?,
            Command::Get { service: None } => self.list(&client.services()?, show::services)?,
            Command::Get {
                service: Some(name),
            } => {
                say(&serde_json::to_string_pretty(&client.service(&name)?)?)?;
            }
            Command::Units { service } => self.list(&client.units(&service)?, show::units)?,
            Command::Migrations => self.list(&client.migrations()?, show::migrations)?,
            Command::Operations => self.list(&client.operations()?, show::operations)?,
            Command::Explain { service } => {
                let explanation = client.explain(&service)?;
                self.list(&[explanation], |all| show::explanation(&all[0]))?;
            }
            Command::Request { block, path } => {
                let (service, block) = block.split_once('/').context("SERVICE/BLOCK is wanted")?;
                let decisions = client.request(service, block, &path)?;
                self.list(&decisions, show::decisions)?;
            }
            Command::Query { selector } => self.query(&selector)?,
            Command::Logs {
                service,
                unit,
                follow,
                offset,
            } => self.logs(&service, unit.as_deref(), offset, follow)?,
            Command::Watch { since } => self.watch(since.as_deref())?,
            Command::JoinToken { site, ttl } => {
                let site = site.map(|site| site.parse()).transpose()?;
                let token = client.issue_join_token(&NewJoinToken { site, ttl })?;
                self.list(&[token], |tokens| tokens[0].token.clone())?;
            }
            Command::Forget { site } => {
                client.forget_site(&site)?;
                self.list(&[json!({"site": site})], |_| format!("{site} is forgotten"))?;
            }
            Command::Adopt { site, wait } => {
                return self.follow_up(client.adopt_site(&site)?, wait);
            }
            Command::Apply { file, wait } => {
                let service = self.read(&file)?;
                return self.follow_up(client.apply(&service)?, wait);
            }
            Command::Migrate { migration, wait } => {
                return self.follow_up(client.migrate(&migration.spec()?)?, wait);
            }
            Command::Scale {
                block,
                replicas,
                wait,
            } => {
                let (service, block) = block.split_once('/').context("SERVICE/BLOCK is wanted")?;
                return self.follow_up(client.scale(service, block, replicas)?, wait);
            }
            Command::Delete { service, wait } => {
                return self.follow_up(client.delete(&service)?, wait);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn list<T: Serialize>(&self, items: &[T], text: impl Fn(&[T]) -> String) -> anyhow::Result<()> {
        if !self.json {
            return say(text(items).trim_end());
        }
        for item in items {
            say(&serde_json::to_string(item)?)?;
        }
        Ok(())
    }

    /// Waits for an operation, and shows how far it is.
    fn follow_up(&self, operation: Operation, wait: Wait) -> anyhow::Result<ExitCode> {
        let mut operation = operation;
        let began = rt::now();
        let patience = Duration::from_secs(wait.timeout);
        let mut shown = None;
        while !wait.no_wait && operation.done_at_ms.is_none() {
            if shown != Some(operation.progress) && !self.json {
                let progress = operation.progress;
                shown = Some(progress);
                let line = format!("{} {}/{}", operation.kind, progress.step, progress.goal);
                writeln!(io::stderr(), "{line}")?;
            }
            if began.elapsed() >= patience {
                bail!(
                    "{} of {} goes on after {patience:?}: see `cloudskin ctl operations`",
                    operation.kind,
                    operation.target
                );
            }
            operation = self
                .client
                .wait_operation(&operation.id, Duration::from_secs(1))?;
        }
        if self.json {
            say(&serde_json::to_string(&operation)?)?;
        } else {
            say(&format!(
                "{} {}: {}",
                operation.kind, operation.target, operation.phase
            ))?;
        }
        if let Some(error) = &operation.error {
            bail!("{error}");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A service from a file; modules that are paths are uploaded.
    fn read(&self, path: &Path) -> anyhow::Result<Service> {
        let text = if path == Path::new("-") {
            io::read_to_string(io::stdin())?
        } else {
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
        };
        // JSON is YAML, too.
        let mut value: Value = serde_saphyr::from_str(&text)
            .with_context(|| format!("understand {}", path.display()))?;
        let beside = path.parent().unwrap_or(Path::new(""));
        let blocks = value
            .pointer_mut("/spec/blocks")
            .and_then(Value::as_array_mut);
        for block in blocks.into_iter().flatten() {
            let Some(module) = block.get_mut("module") else {
                continue;
            };
            let Some(file) = module.as_str().filter(|text| !text.starts_with("sha256:")) else {
                continue;
            };
            let file = beside.join(file);
            let wasm = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            *module = self.client.put_module(&wasm)?.into();
        }
        nbi::parse(&serde_json::to_vec(&value)?)
            .map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))
    }

    fn logs(
        &self,
        service: &str,
        unit: Option<&str>,
        offset: u64,
        follow: bool,
    ) -> anyhow::Result<()> {
        let unit = match unit {
            None => None,
            Some(text) => {
                let (block, replica) = text.split_once('/').context("BLOCK/REPLICA is wanted")?;
                Some((block, replica.parse().context("REPLICA is a number")?))
            }
        };
        let mut log = io::BufReader::new(self.client.logs(service, unit, offset, follow));
        let mut out = io::stdout().lock();
        loop {
            let piece = log.fill_buf()?;
            if piece.is_empty() {
                return Ok(());
            }
            out.write_all(piece)?;
            out.flush()?;
            let len = piece.len();
            log.consume(len);
        }
    }

    fn watch(&self, since: Option<&str>) -> anyhow::Result<()> {
        for event in self.client.watch(since) {
            let event = event?;
            if self.json {
                say(&serde_json::to_string(&event)?)?;
            } else {
                say(&show::event(&event))?;
            }
        }
        Ok(())
    }

    fn query(&self, selector: &str) -> anyhow::Result<()> {
        ensure!(!selector.is_empty(), "a selector is wanted: site_cpu_used");
        for series in self.client.query(selector, None)? {
            let point = series.points.last();
            if self.json {
                say(&json!({"labels": series.labels, "point": point}).to_string())?;
            } else if let Some((at, value)) = point {
                let labels = series.labels.iter();
                let labels: Vec<_> = labels
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                say(&format!("{value}\t@{at}\t{}", labels.join(" ")))?;
            }
        }
        Ok(())
    }
}
