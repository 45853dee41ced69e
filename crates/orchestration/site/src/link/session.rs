//! One connection: what is said and what is heard.

use std::io;
use std::net::TcpStream;

use auth::Stream;
use ids::Digest;
use workload::link::{Down, Inventory, PAYLOAD_BYTES_MAX, Up};

use super::connection::{Connection, TooLong};
use crate::disk::modules::{Incoming, Modules};
use crate::hub::{BUSY, Hub, LOG_READS_MAX, LogPiece, LogRead, keep_offers};

pub(crate) const LINK_LOST: &str = "LinkLost";

/// Samples in one message.
const SAMPLES_MAX: usize = 1_000;
/// Messages that are taken before the agent's own turn comes.
const MESSAGES_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Session<'a> {
    connection: Connection,
    hub: &'a Hub,
    modules: &'a Modules,
    /// The module that is on its way, or that was asked for.
    fetch: Option<Fetch>,
}

#[derive(Debug)]
struct Fetch {
    digest: Digest,
    /// What has come so far, or why it is of no use; the rest of it comes all the same.
    incoming: io::Result<Option<Incoming>>,
}

impl<'a> Session<'a> {
    pub(super) fn new(stream: Stream, hub: &'a Hub, modules: &'a Modules) -> Self {
        Self {
            connection: Connection::new(stream),
            hub,
            modules,
            fetch: None,
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        self.connection.stream().socket()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.stream().is_handshaking()
    }

    pub(super) fn wants_write(&self) -> bool {
        self.connection.stream().wants_write()
    }

    pub(super) fn introduce(&mut self, hello: &Up) -> io::Result<()> {
        self.say(hello, &[])?;
        let latest = self.hub.outbox().latest.clone();
        self.say_inventory(latest)
    }

    /// Says and hears what can be said and heard now. Whether there may be more to hear.
    pub(super) fn exchange(&mut self) -> io::Result<bool> {
        let mut n_heard = 0;
        while n_heard < MESSAGES_MAX
            && let Some((message, payload)) = self.connection.receive()?
        {
            n_heard += 1;
            self.hear(message, &payload)?;
        }
        // One message at a time: what waits in the outbox is bounded, what is encoded is not.
        while self.connection.flush()? && self.say_next()? {}
        Ok(n_heard == MESSAGES_MAX)
    }

    /// Says the next thing in the outbox, if there is one.
    fn say_next(&mut self) -> io::Result<bool> {
        let mut outbox = self.hub.outbox();
        if let Some(inventory) = outbox.inventory.take() {
            drop(outbox);
            self.say_inventory(inventory)?;
        } else if let Some(piece) = outbox.logs.pop_front() {
            drop(outbox);
            self.say_log(piece)?;
        } else if let Some(digest) = self.next_to_fetch(&outbox.wanted) {
            drop(outbox);
            let digest = digest.clone();
            self.fetch = Some(Fetch {
                digest: digest.clone(),
                incoming: Ok(None),
            });
            self.say(&Up::WantModule { digest }, &[])?;
        } else if !outbox.samples.is_empty() {
            let n_samples = outbox.samples.len().min(SAMPLES_MAX);
            let samples = outbox.samples.drain(..n_samples).collect();
            self.hub.show_samples(&outbox);
            drop(outbox);
            self.say(&Up::Samples { samples }, &[])?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn next_to_fetch(&self, wanted: &std::collections::BTreeSet<Digest>) -> Option<Digest> {
        let is_busy = self.fetch.is_some();
        (!is_busy).then(|| wanted.first().cloned()).flatten()
    }

    fn say(&mut self, message: &Up, payload: &[u8]) -> io::Result<()> {
        let too_long = |TooLong| io::Error::other("a message is longer than a frame");
        self.connection.send(message, payload).map_err(too_long)
    }

    /// Who hears it has the link. An inventory that is too long for a frame goes without its history: what runs is more important than what has moved.
    fn say_inventory(&mut self, mut inventory: Inventory) -> io::Result<()> {
        inventory
            .conditions
            .retain(|condition| condition.kind != LINK_LOST);
        let mut message = Up::Inventory(inventory);
        if self.connection.send(&message, &[]).is_ok() {
            return Ok(());
        }
        if let Up::Inventory(inventory) = &mut message {
            for unit in &mut inventory.units {
                unit.moves.clear();
            }
        }
        self.say(&message, &[])
    }

    fn say_log(&mut self, piece: LogPiece) -> io::Result<()> {
        let (offset, bytes, error) = match piece.result {
            Ok((offset, bytes)) => (offset, bytes, None),
            Err(error) => (0, Vec::new(), Some(error)),
        };
        let request = piece.request;
        let log = Up::Log {
            request,
            offset,
            error,
        };
        self.say(&log, &bytes)
    }

    fn hear(&mut self, message: Down, payload: &[u8]) -> io::Result<()> {
        match message {
            Down::Configure { config } => self.hub.tell(|inbox| {
                let waiting = inbox.config.as_ref().map(|config| config.generation);
                if waiting.is_none_or(|generation| generation <= config.generation) {
                    inbox.config = Some(config);
                }
            }),
            Down::Offers {
                unit,
                epoch,
                offers,
            } => self.hub.tell(|inbox| {
                keep_offers(&mut inbox.offers, [(unit, (epoch, offers))].into());
            }),
            Down::Module { digest, error } => self.hear_module(&digest, error, payload),
            Down::ReadLog {
                request,
                unit,
                offset,
                max,
            } => self.hear_log_read(LogRead {
                request,
                unit,
                offset,
                max: usize::try_from(max)
                    .map_or(PAYLOAD_BYTES_MAX, |max| max.min(PAYLOAD_BYTES_MAX)),
                session: self.hub.outbox().session,
            }),
            Down::Refused { reason } => {
                let reason: String = reason.chars().take(500).collect();
                return Err(io::Error::other(format!(
                    "the controller refuses: {reason}"
                )));
            }
            Down::Joined { .. } => {
                return Err(io::Error::other(
                    "the controller speaks nonsense: this site has joined",
                ));
            }
        }
        Ok(())
    }

    /// The agent takes a bounded number of readings at once.
    fn hear_log_read(&self, read: LogRead) {
        let refused = self.hub.tell(|inbox| {
            if inbox.log_reads.len() < LOG_READS_MAX {
                inbox.log_reads.push(read);
                return None;
            }
            Some(read)
        });
        if let Some(read) = refused {
            self.hub.answer(read.refused(BUSY));
        }
    }

    fn hear_module(&mut self, digest: &Digest, error: Option<String>, piece: &[u8]) {
        // What nobody asked for is passed over.
        let Some(mut fetch) = self.fetch.take_if(|fetch| fetch.digest == *digest) else {
            return;
        };
        let result = match error {
            Some(error) => {
                let error: String = error.chars().take(500).collect();
                Err(io::Error::other(error))
            }
            None if piece.is_empty() => fetch.finish(self.modules),
            None => {
                fetch.write(piece, self.modules);
                self.fetch = Some(fetch);
                return;
            }
        };
        let digest = digest.clone();
        self.hub.outbox().wanted.remove(&digest);
        self.hub.tell(|inbox| inbox.fetched.push((digest, result)));
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.hub.end_session();
    }
}

impl Fetch {
    fn write(&mut self, piece: &[u8], modules: &Modules) {
        let written = match &mut self.incoming {
            Ok(Some(incoming)) => incoming.write(piece),
            Ok(None) => match modules.receive(&self.digest) {
                Ok(mut incoming) => {
                    let written = incoming.write(piece);
                    self.incoming = Ok(Some(incoming));
                    written
                }
                Err(error) => Err(error),
            },
            Err(_) => return,
        };
        if let Err(error) = written {
            self.incoming = Err(error);
        }
    }

    fn finish(self, modules: &Modules) -> io::Result<()> {
        match self.incoming? {
            Some(incoming) => incoming.finish(),
            None => modules.receive(&self.digest)?.finish(),
        }
    }
}
