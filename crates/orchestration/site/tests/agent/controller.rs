//! A controller that is there for its tests: it speaks the real protocol, and does what it is told.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth::{Authority, JoinToken, Secret, Stream, Tls};
use ids::{Generation, Name};
use workload::link::{
    CONTROLLER_NAME, Down, Inventory, Sample, Up, frame_head, parse_frame_head,
    site_certificate_name,
};
use workload::{Phase, SiteConfig};

use super::{MODULE, PATIENCE, name, unit, wait};

pub(super) struct Controller {
    pub address: SocketAddr,
    pub authority: Arc<Authority>,
    pub token: JoinToken,
    pub heard: Arc<Mutex<Heard>>,
    /// What is said next, as frames.
    to_say: Arc<Mutex<Vec<u8>>>,
    /// The newest configuration, said to every agent that has an older one.
    target: Arc<Mutex<Option<SiteConfig>>>,
    current: Arc<Mutex<Option<TcpStream>>>,
    listener: Arc<TcpListener>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What agents have said.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub n_joins: u32,
    /// Who has used up the token: its site and public key.
    pub joined: Option<(Name, String)>,
    /// The connection ends before the answer to a `Join`.
    pub loses_answers: bool,
    pub hellos: Vec<Generation>,
    pub inventory: Option<Inventory>,
    pub n_inventories: u32,
    pub samples: Vec<Sample>,
    pub logs: Vec<(u64, u64, Option<String>, Vec<u8>)>,
    pub n_modules: u32,
    /// Connections that have ended.
    pub n_ended: u32,
    /// What is sent instead of the module.
    pub bad_module: Option<&'static [u8]>,
    /// Nobody is let in.
    pub is_deaf: bool,
    pub is_over: bool,
}

impl Controller {
    pub(super) fn start() -> Self {
        let authority = Arc::new(Authority::new().expect("an authority"));
        let token = JoinToken::new(authority.certificate(), Secret::random()).expect("a token");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let mut controller = Self {
            address: listener.local_addr().expect("it is bound"),
            listener: Arc::new(listener),
            authority,
            token,
            heard: Arc::default(),
            to_say: Arc::default(),
            target: Arc::default(),
            current: Arc::default(),
            thread: None,
        };
        let server = Server {
            tls: Tls::new(&controller.authority.identity(CONTROLLER_NAME).expect("one"))
                .expect("an identity"),
            authority: Arc::clone(&controller.authority),
            secret: controller.token.secret.clone(),
            heard: Arc::clone(&controller.heard),
            to_say: Arc::clone(&controller.to_say),
            target: Arc::clone(&controller.target),
            current: Arc::clone(&controller.current),
        };
        let listener = Arc::clone(&controller.listener);
        let body = move || {
            while let Ok((socket, _)) = listener.accept() {
                let (is_over, is_deaf) = {
                    let heard = lock(&server.heard);
                    (heard.is_over, heard.is_deaf)
                };
                if is_over {
                    return;
                }
                if !is_deaf {
                    server.serve(socket).ok();
                }
                lock(&server.heard).n_ended += 1;
            }
        };
        let thread = rt::thread("controller".into(), 1 << 20, body).expect("a thread");
        controller.thread = Some(thread);
        controller
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }

    pub(super) fn configure(&self, config: SiteConfig) {
        *lock(&self.target) = Some(config.clone());
        self.say(&Down::Configure { config }, &[]);
    }

    pub(super) fn say(&self, message: &Down, payload: &[u8]) {
        self.say_bytes(&frame(message, payload));
    }

    pub(super) fn say_bytes(&self, bytes: &[u8]) {
        lock(&self.to_say).extend(bytes);
    }

    /// Ends the present connection.
    pub(super) fn cut(&self) {
        if let Some(socket) = &*lock(&self.current) {
            socket.shutdown(Shutdown::Both).ok();
        }
    }

    /// Lets nobody in any more, or again.
    pub(super) fn be_deaf(&self, is_deaf: bool) {
        self.heard().is_deaf = is_deaf;
        if is_deaf {
            self.cut();
        }
    }

    pub(super) fn await_inventory(
        &self,
        what: &str,
        is_so: impl Fn(&Inventory) -> bool,
    ) -> Inventory {
        wait(what, || {
            self.heard()
                .inventory
                .clone()
                .filter(|inventory| is_so(inventory))
        })
    }

    /// Waits until exactly these units (replica, epoch) are reported to be so.
    pub(super) fn await_phases(&self, generation: u64, units: &[(u32, u64)], phase: Phase) {
        let what = format!("generation {generation}, {units:?} {phase:?}");
        self.await_inventory(&what, |inventory| {
            let is = |(replica, epoch): &(u32, u64)| {
                inventory.units.iter().any(|seen| {
                    (&seen.id, seen.epoch.0, seen.phase) == (&unit(*replica), *epoch, phase)
                })
            };
            inventory.generation.0 == generation
                && inventory.units.len() == units.len()
                && units.iter().all(is)
        });
    }

    /// Waits for two more inventories: what was said before has been heard.
    pub(super) fn await_news(&self) -> Inventory {
        let before = self.heard().n_inventories;
        wait("more inventories", || {
            let heard = self.heard();
            (heard.n_inventories >= before + 2).then(|| heard.inventory.clone())
        })
        .expect("there is one")
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.heard().is_over = true;
        self.cut();
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(
                joined.is_ok() || std::thread::panicking(),
                "the controller panicked"
            );
        }
    }
}

struct Server {
    tls: Tls,
    authority: Arc<Authority>,
    secret: Secret,
    heard: Arc<Mutex<Heard>>,
    to_say: Arc<Mutex<Vec<u8>>>,
    target: Arc<Mutex<Option<SiteConfig>>>,
    current: Arc<Mutex<Option<TcpStream>>>,
}

impl Server {
    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        *lock(&self.current) = Some(socket.try_clone()?);
        let mut stream = self.tls.accept_admitting_anonymous(socket)?;
        stream
            .socket()
            .set_read_timeout(Some(Duration::from_millis(2)))?;
        lock(&self.to_say).clear();
        let mut incoming = Vec::new();
        let mut piece = vec![0; 1 << 16];
        let began = rt::now();
        let mut last = began;
        while last.duration_since(began) < PATIENCE * 2 {
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => incoming.extend(&piece[..len]),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
            while let Some((message, payload)) = take_frame(&mut incoming) {
                self.hear(&mut stream, message, payload)?;
            }
            let bytes = std::mem::take(&mut *lock(&self.to_say));
            stream.write_all(&bytes)?;
            stream.flush()?;
            last = rt::now();
        }
        Ok(())
    }

    fn answer(
        &self,
        heard: &mut Heard,
        token: &str,
        site: &Name,
        public_key: &str,
    ) -> io::Result<Down> {
        let refused = |reason: &str| Down::Refused {
            reason: reason.into(),
        };
        if token != self.secret.as_str() {
            return Ok(refused("the token is not known"));
        }
        let user = (site.clone(), public_key.to_owned());
        if *heard.joined.get_or_insert(user.clone()) != user {
            return Ok(refused("this token was used before"));
        }
        let name = site_certificate_name(site);
        let certificate = self.authority.sign(&name, &bytes(public_key))?;
        Ok(Down::Joined {
            authority: digits(self.authority.certificate()),
            certificate: digits(&certificate),
        })
    }

    fn hear(&self, stream: &mut Stream, message: Up, payload: Vec<u8>) -> io::Result<()> {
        let mut heard = lock(&self.heard);
        let is_known = stream.peer_is(&site_certificate_name(&name("edge")));
        assert_ne!(
            is_known,
            matches!(message, Up::Join { .. }),
            "who joins is not known"
        );
        match message {
            Up::Join {
                token,
                site,
                public_key,
                ..
            } => {
                heard.n_joins += 1;
                let answer = self.answer(&mut heard, &token, &site, &public_key)?;
                if heard.loses_answers {
                    return stream.socket().shutdown(Shutdown::Both);
                }
                stream.write_all(&frame(&answer, &[]))?;
            }
            Up::Hello { generation, .. } => {
                heard.hellos.push(generation);
                let target = lock(&self.target).clone();
                if let Some(config) = target.filter(|config| config.generation > generation) {
                    stream.write_all(&frame(&Down::Configure { config }, &[]))?;
                }
            }
            Up::Inventory(inventory) => {
                heard.inventory = Some(inventory);
                heard.n_inventories += 1;
            }
            Up::Samples { samples } => heard.samples.extend(samples),
            Up::WantModule { digest } => {
                heard.n_modules += 1;
                let module = heard.bad_module.unwrap_or(MODULE);
                for piece in [&module[..1], &module[1..], &[]] {
                    let message = Down::Module {
                        digest: digest.clone(),
                        error: None,
                    };
                    stream.write_all(&frame(&message, piece))?;
                }
            }
            Up::Log {
                request,
                offset,
                error,
            } => {
                heard.logs.push((request, offset, error, payload));
            }
        }
        Ok(())
    }
}

pub(super) fn frame(message: &Down, payload: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(message).expect("JSON");
    let mut frame = frame_head(header.len(), payload.len())
        .expect("short")
        .to_vec();
    frame.extend(header);
    frame.extend(payload);
    frame
}

fn take_frame(incoming: &mut Vec<u8>) -> Option<(Up, Vec<u8>)> {
    let (header_len, payload_len) =
        parse_frame_head(*incoming.first_chunk()?).expect("an agent keeps the limits");
    let frame: Vec<u8> = if incoming.len() >= 8 + header_len + payload_len {
        incoming.drain(..8 + header_len + payload_len).collect()
    } else {
        return None;
    };
    let message = serde_json::from_slice(&frame[8..8 + header_len]).expect("an agent's message");
    Some((message, frame[8 + header_len..].to_vec()))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(digits: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(pair).collect()
}
