//! Asks a world, with little patience.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::wire;
use crate::world::admin::{self, Answer, Request, Status};

/// How long an answer may take once the world is known to listen.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long each look for an answer takes.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Asks for the status of one world, again and again. While an answer is awaited nothing more is asked: a process that is stopped would find
/// all the questions later.
#[derive(Debug, Default)]
pub(super) struct Client {
    awaited: Option<(UnixStream, Instant)>,
}

#[derive(Debug)]
pub(super) enum Reply {
    Status(Box<Status>),
    /// There is nobody to ask.
    Nobody,
    /// No answer yet, and for how long.
    Silence(Duration),
}

impl Client {
    pub(super) fn status(&mut self, dir: &Path) -> Reply {
        match self.try_status(dir) {
            Ok(reply) => reply,
            Err(error) => {
                tracing::debug!(%error, "a world was not asked");
                self.awaited = None;
                Reply::Nobody
            }
        }
    }

    fn try_status(&mut self, dir: &Path) -> io::Result<Reply> {
        if self.awaited.is_none() {
            let stream = send(dir, &Request::Status)?;
            self.awaited = Some((stream, rt::now()));
        }
        let (stream, since) = self.awaited.as_mut().expect("it was asked");
        let mut polled = [PollFd::new(&*stream, PollFlags::IN)];
        if poll(&mut polled, Some(&LOOK))? == 0 {
            return Ok(Reply::Silence(since.elapsed()));
        }
        let answer = wire::receive(stream)?;
        self.awaited = None;
        match answer {
            Answer::Status(status) => Ok(Reply::Status(status)),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }
}

/// Asks for anything else.
pub(super) fn ask(dir: &Path, request: &Request) -> io::Result<Answer> {
    wire::receive(&mut send(dir, request)?)
}

fn send(dir: &Path, request: &Request) -> io::Result<UnixStream> {
    let mut stream = admin::connect(dir)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    wire::send(&mut stream, request)?;
    Ok(stream)
}
