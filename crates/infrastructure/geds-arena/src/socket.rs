//! Packets between a client and the agent, with descriptors.
//!
//! They are sequential packets and not a stream: a packet is whole or not there, so none is half parsed, and the kernel keeps those
//! that a client has sent when the client is killed. That is what makes a seal safe without waiting for an answer.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// No packet is longer.
pub(crate) const PACKET_BYTES_MAX: usize = 64 << 10;
/// The kernel passes 253 at once.
pub(crate) const FDS_MAX: usize = 250;

const BACKLOG: i32 = 64;

pub(crate) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = new()?;
    at(path, |addr| rustix::net::bind(&socket, addr))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

pub(crate) fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = new()?;
    at(path, |addr| rustix::net::connect(&socket, addr))?;
    Ok(socket)
}

/// An address has 108 bytes at most, and paths may be longer: so it goes by way of their directory.
fn at(path: &Path, act: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    Ok(act(&SocketAddrUnix::new(short.join(name))?)?)
}

pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(rustix::net::socketpair(
        family,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

fn new() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(rustix::net::socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends a packet, or nothing if there is no room for it.
pub(crate) fn send(socket: impl AsFd, parts: [&[u8]; 2], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = parts.map(IoSlice::new);
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry(|| rustix::net::sendmsg(&socket, &parts, &mut control, flags))?;
    Ok(())
}

/// Receives a packet if there is one; 0 bytes are its end. Descriptors that come with it are closed.
pub(crate) fn try_recv(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<&[u8]>> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    match retry(|| rustix::net::recv(&socket, &mut *buffer, flags)) {
        // With `TRUNC`, the second number is how long the packet was.
        Ok((_, len)) if len > buffer.len() => Err(io::ErrorKind::InvalidData.into()),
        Ok((_, len)) => Ok(Some(&buffer[..len])),
        Err(Errno::AGAIN) => Ok(None),
        // Whoever is dead has no more to say.
        Err(Errno::CONNRESET) => Ok(Some(&[])),
        Err(error) => Err(error.into()),
    }
}

/// Waits for a packet; 0 bytes are its end.
pub(crate) fn recv_with_fds(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<(&[u8], Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry(|| {
        let parts = &mut [IoSliceMut::new(buffer)];
        rustix::net::recvmsg(&socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = fds.flatten().collect();
    let lost = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
    if received.flags.intersects(lost) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((&buffer[..received.bytes], fds))
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
