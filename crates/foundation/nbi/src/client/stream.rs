//! Answers without end: what a unit writes, and what changes.
//!
//! The server ends every stream after a while. Both readers here ask again from where they are, so that neither a restart of the controller
//! nor a broken connection shows, unless it lasts.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use ureq::{Body, BodyReader};

use super::{Client, Error, Request, TRIES, pause};

/// One line of a stream is not longer.
const LINE_BYTES_MAX: usize = 8 << 20;

/// A body without end.
struct Bytes(BodyReader<'static>);

impl Bytes {
    fn new(body: Body) -> Self {
        Self(body.into_with_config().limit(u64::MAX).reader())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bytes(…)")
    }
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// What a unit has written, as a reader. It ends where the unit has ended, or, if it does not follow, where the unit is.
#[derive(Debug)]
pub struct Follow {
    client: Client,
    path: String,
    query: Vec<(&'static str, String)>,
    follow: bool,
    offset: u64,
    body: Option<Bytes>,
    /// Nothing has come of this body.
    is_dry: bool,
    /// Asked for since something came.
    n_tries: u32,
    is_over: bool,
}

impl Follow {
    pub(super) fn new(
        client: Client,
        service: &str,
        unit: Option<(&str, u32)>,
        offset: u64,
        follow: bool,
    ) -> Self {
        let mut query = vec![("follow", follow.to_string())];
        if let Some((block, replica)) = unit {
            query.push(("block", block.to_owned()));
            query.push(("replica", replica.to_string()));
        }
        Self {
            client,
            path: super::service_path(service, "/logs"),
            query,
            follow,
            offset,
            body: None,
            is_dry: true,
            n_tries: 0,
            is_over: false,
        }
    }

    /// Where the next byte is in all that the unit has written: to go on there another time.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Asks for what comes next.
    fn open(&mut self) -> Result<(), Error> {
        let offset = self.offset.to_string();
        let mut query: Vec<(&str, &str)> = vec![("offset", &offset)];
        query.extend(
            self.query
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let answer = self.client.ask(Request::get(&self.path, &query))?;
        let header = |name: &str| {
            answer
                .headers()
                .get(name)?
                .to_str()
                .ok()?
                .parse::<u64>()
                .ok()
        };
        let Some(offset) = header("x-log-offset") else {
            return Err(self.client.not_understood("a log without X-Log-Offset"));
        };
        // Later than asked for when the beginning is not kept any more.
        self.offset = offset;
        self.is_over = answer
            .headers()
            .get("x-log-end")
            .is_some_and(|end| end == "true");
        self.body = Some(Bytes::new(answer.into_body()));
        self.is_dry = true;
        Ok(())
    }
}

impl Read for Follow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(body) = &mut self.body else {
                if self.is_over {
                    return Ok(0);
                }
                self.open().map_err(io::Error::other)?;
                continue;
            };
            match body.read(buffer) {
                Ok(0) => {
                    // It may have been cut at the end of its time; an empty one was not.
                    self.is_over |= self.is_dry && !self.follow;
                    self.body = None;
                }
                Ok(n_bytes) => {
                    self.n_tries = 0;
                    self.is_dry = false;
                    self.offset += n_bytes as u64;
                    return Ok(n_bytes);
                }
                Err(error) if self.n_tries >= TRIES => return Err(error),
                Err(_) => {
                    self.n_tries += 1;
                    self.is_over = false;
                    self.body = None;
                    pause(self.n_tries);
                }
            }
        }
    }
}

/// Something changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchEvent {
    /// To go on after it.
    pub revision: String,
    /// `Service`, `Site`, `Migration` or `Operation`
    pub kind: String,
    pub name: String,
    /// As GET would show it; absent: it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<serde_json::Value>,
}

/// What changes, in order. It ends with an error only: after a problem 410 its reader lists everything again and watches anew.
#[derive(Debug)]
pub struct Watching {
    client: Client,
    /// What came last.
    since: Option<String>,
    body: Option<Lines>,
    n_tries: u32,
    has_failed: bool,
}

impl Watching {
    pub(super) fn new(client: Client, since: Option<&str>) -> Self {
        Self {
            client,
            since: since.map(str::to_owned),
            body: None,
            n_tries: 0,
            has_failed: false,
        }
    }

    fn lines(&mut self) -> Result<&mut Lines, Error> {
        if self.body.is_none() {
            let since = self.since.as_deref().map(|since| ("since", since));
            let query: Vec<_> = since.into_iter().collect();
            let answer = self.client.ask(Request {
                headers: &[("accept", "text/event-stream")],
                ..Request::get("/v1/watch", &query)
            })?;
            self.body = Some(Lines::new(answer.into_body()));
        }
        Ok(self.body.as_mut().expect("it is there now"))
    }

    /// The next event of the stream; `None` when the stream has ended.
    fn event(&mut self) -> Result<Option<WatchEvent>, Error> {
        let mut id = None;
        let mut data = String::new();
        loop {
            let line = self.lines()?.next();
            let Ok(Some(line)) = line else {
                // Cut short or over: what was read of an event does not count.
                return Ok(None);
            };
            if line.is_empty() {
                if let Some(id) = id.take() {
                    self.since = Some(id);
                }
                if data.is_empty() {
                    continue;
                }
                let event = serde_json::from_str(&data);
                return event
                    .map(Some)
                    .map_err(|error| self.client.not_understood(error));
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => id = Some(value.to_owned()),
                "data" => data.push_str(value),
                _ => {}
            }
        }
    }
}

impl Iterator for Watching {
    type Item = Result<WatchEvent, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        loop {
            match self.event() {
                Ok(Some(event)) => {
                    self.n_tries = 0;
                    return Some(Ok(event));
                }
                Ok(None) => {
                    // Streams end all the time; only those that end at once are waited for.
                    let was_empty = self.body.take().is_none_or(|lines| lines.is_fresh);
                    if was_empty {
                        self.n_tries = (self.n_tries + 1).min(TRIES);
                        pause(self.n_tries);
                    }
                }
                Err(error) => {
                    self.has_failed = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// A body by lines.
#[derive(Debug)]
struct Lines {
    body: Bytes,
    ahead: VecDeque<u8>,
    /// Nothing has come.
    is_fresh: bool,
}

impl Lines {
    fn new(body: Body) -> Self {
        Self {
            body: Bytes::new(body),
            ahead: VecDeque::new(),
            is_fresh: true,
        }
    }

    /// `None` at the end.
    fn next(&mut self) -> io::Result<Option<String>> {
        let mut n_searched = 0;
        loop {
            let found = self
                .ahead
                .range(n_searched..)
                .position(|byte| *byte == b'\n');
            if let Some(len) = found {
                let line: Vec<u8> = self.ahead.drain(..=n_searched + len).collect();
                let line = String::from_utf8_lossy(&line[..line.len() - 1]).into_owned();
                return Ok(Some(line.trim_end_matches('\r').to_owned()));
            }
            n_searched = self.ahead.len();
            if n_searched > LINE_BYTES_MAX {
                return Err(io::Error::other("a line of the stream is too long"));
            }
            let mut buffer = [0; 16 << 10];
            let n_bytes = self.body.read(&mut buffer)?;
            if n_bytes == 0 {
                return Ok(None);
            }
            self.is_fresh = false;
            self.ahead.extend(&buffer[..n_bytes]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_lies_between_line_feeds() {
        let lines = |text: &'static str| {
            let mut lines = Lines::new(Body::builder().data(text));
            std::iter::from_fn(move || lines.next().expect("a text")).collect::<Vec<_>>()
        };
        assert_eq!(lines("id: 1\r\n\ndata: x\n"), ["id: 1", "", "data: x"]);
        assert_eq!(lines("cut off"), [] as [&str; 0]);
        let long = "x".repeat(LINE_BYTES_MAX + (32 << 10));
        let mut lines = Lines::new(Body::builder().data(long));
        lines.next().expect_err("too long a line");
    }
}
