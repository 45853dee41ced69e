//! Processes of a site that hold data: each says where it is when it is ready, and comes back there.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::de::DeserializeOwned;

use super::{Guarded, first_line};

/// A running process; `R` is what it says when it is ready.
#[derive(Debug)]
pub struct Part<R> {
    pub site: &'static str,
    pub ready: R,
    pub(super) guarded: Guarded,
}

impl<R: DeserializeOwned + Clone + Send + 'static> Part<R> {
    /// `args` are those of a process that was ready there, if it was.
    pub(super) fn start(
        (name, site): (&'static str, &'static str),
        args: impl Fn(Option<&R>) -> Vec<OsString> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let bound = Arc::<Mutex<Option<R>>>::default();
        let started = Started {
            name,
            program: std::env::current_exe()?,
            args,
            bound: Arc::clone(&bound),
        };
        let child = started.spawn()?;
        let guarded = Guarded::new(name, child, None, move || started.spawn())?;
        let ready = bound.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Self {
            site,
            ready: ready.expect("it has said where it is"),
            guarded,
        })
    }
}

impl<R> Part<R> {
    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.guarded.current().pid
    }
}

/// What a process is started with.
struct Started<R, A> {
    name: &'static str,
    program: PathBuf,
    args: A,
    bound: Arc<Mutex<Option<R>>>,
}

impl<R: DeserializeOwned, A: Fn(Option<&R>) -> Vec<OsString>> Started<R, A> {
    fn spawn(&self) -> anyhow::Result<Child> {
        let Self { name, bound, .. } = self;
        let mut bound = bound.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Command::new(&self.program);
        command
            .args((self.args)(bound.as_ref()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        let said = first_line(&mut child, name).and_then(|line| {
            serde_json::from_str(&line)
                .with_context(|| format!("{name} ended before it was ready: see above"))
        });
        match said {
            Ok(ready) => {
                *bound = Some(ready);
                Ok(child)
            }
            Err(error) => {
                // It may have ended by itself.
                child.kill().ok();
                child.wait()?;
                Err(error)
            }
        }
    }
}
