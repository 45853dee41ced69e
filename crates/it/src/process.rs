//! A process under test: what it says is gathered while it runs, and nobody waits for it without a deadline.

use std::io::{self, BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long a test waits for anything. It is reached only when something hangs.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// What a process has said, in whole lines.
#[derive(Clone, Debug, Default)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    n_closed: usize,
}

/// How a process has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    gathered: Arc<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    output: Mutex<Output>,
    changed: Condvar,
}

impl Process {
    /// # Errors
    /// When the process cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let gathered = Arc::new(Gathered::default());
        let stdout = child.stdout.take().expect("it was piped");
        let stderr = child.stderr.take().expect("it was piped");
        gather(stdout, &gathered, |output| &mut output.stdout)?;
        gather(stderr, &gathered, |output| &mut output.stderr)?;
        Ok(Self { child, gathered })
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until what it has said is as wanted; this is asked again whenever it says something.
    ///
    /// # Errors
    /// When it ends, or the deadline comes, before that.
    pub fn wait_until(
        &self,
        what: &str,
        mut is_so: impl FnMut(&Output) -> bool,
    ) -> io::Result<Output> {
        let mut found = false;
        let output = self.wait(|output| {
            found = found || is_so(output);
            found
        });
        if found {
            return Ok(output);
        }
        let Output { stdout, stderr, .. } = output;
        let problem = format!("nothing came of waiting for {what}; it said\n{stdout}{stderr}");
        Err(io::Error::new(io::ErrorKind::TimedOut, problem))
    }

    /// Waits for its end, and for that of all processes that share its output.
    ///
    /// # Errors
    /// When they have not ended at the deadline.
    pub fn finish(mut self) -> io::Result<Ended> {
        let Output {
            stdout,
            stderr,
            n_closed,
        } = self.wait(|_| false);
        if n_closed < N_STREAMS {
            let problem = format!("no end after {DEADLINE:?}; it said\n{stdout}{stderr}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
        }
        let code = self.child.wait()?.code();
        Ok(Ended {
            code,
            stdout,
            stderr,
        })
    }

    /// Ends it as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    fn wait(&self, mut is_so: impl FnMut(&Output) -> bool) -> Output {
        let output = self
            .gathered
            .output
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (output, _) = self
            .gathered
            .changed
            .wait_timeout_while(output, DEADLINE, |output| {
                !is_so(output) && output.n_closed < N_STREAMS
            })
            .unwrap_or_else(PoisonError::into_inner);
        output.clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Kills any process, as `kill -9` does.
///
/// # Errors
/// When there is no such process.
pub fn kill(pid: u64) -> io::Result<()> {
    signal(pid, "KILL")
}

/// Sends any process a signal, by its name without `SIG`.
///
/// # Errors
/// When there is no such process.
pub fn signal(pid: u64, name: &str) -> io::Result<()> {
    let status = Command::new("sh")
        .args(["-c", "kill -\"$1\" \"$2\"", "sh", name, &pid.to_string()])
        .status()?;
    if status.success() {
        return Ok(());
    }
    let problem = format!("process {pid} takes no SIG{name}");
    Err(io::Error::other(problem))
}

/// Standard output and standard error.
const N_STREAMS: usize = 2;

#[expect(
    clippy::disallowed_methods,
    reason = "the tests see the program from outside and use none of its crates"
)]
fn gather(
    stream: impl Read + Send + 'static,
    gathered: &Arc<Gathered>,
    field: fn(&mut Output) -> &mut String,
) -> io::Result<()> {
    let gathered = Arc::clone(gathered);
    let note = move |change: &dyn Fn(&mut Output)| {
        change(
            &mut gathered
                .output
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        gathered.changed.notify_all();
    };
    std::thread::Builder::new()
        .name("gather".into())
        .spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            // A stream that breaks has ended, too.
            while stream
                .read_until(b'\n', &mut line)
                .is_ok_and(|n_bytes| n_bytes > 0)
            {
                note(&|output| field(output).push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            note(&|output| output.n_closed += 1);
        })?;
    Ok(())
}

/// Whether a process still runs. One that nobody has waited for yet does not.
#[must_use]
pub fn is_alive(process: u64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|fields| fields.split_whitespace().next());
    !matches!(state, Some("Z" | "X"))
}
