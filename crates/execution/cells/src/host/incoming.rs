//! A rank that is on its way to this host.

use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::core::moving::{Target, TargetEffect, TargetInput};
use crate::wire::Stream;
use crate::wire::messages::Epoch;

/// Where the thread that takes the rank in meets those who decide about it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub epoch: Epoch,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    target: Target,
    /// The connection, and how much memory the rank has.
    stream: Option<(Stream, u64)>,
    /// The same connection: shut down to wake who reads from it.
    socket: Option<TcpStream>,
}

impl Incoming {
    pub(crate) fn new(epoch: Epoch) -> Self {
        let state = State {
            target: Target::Expecting,
            stream: None,
            socket: None,
        };
        Self {
            epoch,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source is on the line.
    pub(crate) fn offer(&self, stream: Stream, memory_bytes: u64) {
        let mut state = self.lock();
        if state.target == Target::Expecting && state.socket.is_none() {
            state.socket = stream.socket().try_clone().ok();
            state.stream = Some((stream, memory_bytes));
        }
        self.changed.notify_all();
    }

    /// Waits for the source; `None`: it will not come.
    pub(crate) fn wait_for_stream(&self) -> Option<(Stream, u64)> {
        let mut state = self.lock();
        loop {
            if state.target != Target::Expecting {
                return None;
            }
            if let Some(stream) = state.stream.take() {
                return Some(stream);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The state of the rank is here, whole.
    pub(crate) fn received(&self) {
        self.step(TargetInput::Received);
    }

    /// The source has recorded the move.
    pub(crate) fn commit(&self) {
        self.step(TargetInput::Commit);
    }

    /// The source has not recorded the move and never will.
    pub(crate) fn discard(&self) {
        self.step(TargetInput::Discard);
    }

    fn step(&self, input: TargetInput) {
        let mut state = self.lock();
        let (target, effect) = state.target.step(input);
        state.target = target;
        if effect != TargetEffect::None
            && let Some(socket) = state.socket.take()
        {
            // It may be closed already: then nobody reads from it.
            socket.shutdown(Shutdown::Both).ok();
        }
        self.changed.notify_all();
    }

    /// Waits until it is decided whether the rank runs here.
    pub(crate) fn wait_for_decision(&self) -> bool {
        let mut state = self.lock();
        while state.target == Target::Held {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.target == Target::Running
    }
}
