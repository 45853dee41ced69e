//! Connections between machines.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt;

/// So long the other side may be silent at the level of TCP until the connection counts as cut: what was sent is not acknowledged, or
/// the probes of an idle connection are not answered.
const CUT_AFTER_MS: u32 = 5_000;
const IDLE: Duration = Duration::from_secs(2);
const BETWEEN_PROBES: Duration = Duration::from_secs(1);
const PROBES: u32 = 3;

/// Lets a connection break within seconds when the network is cut, though neither side has ended.
pub(crate) fn notice_cuts(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, IDLE)?;
    sockopt::set_tcp_keepintvl(socket, BETWEEN_PROBES)?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    sockopt::set_tcp_user_timeout(socket, CUT_AFTER_MS)?;
    Ok(())
}
