//! The error numbers of WASI preview 1, which are POSIX's under other numbers.

use std::fmt;

/// Declares [`Errno`] from the table of its numbers, names and meanings, so that the three cannot
/// drift apart.
macro_rules! errno {
    ($($variant:ident = $number:literal, $name:literal, $text:literal;)*) => {
        /// Why a file system or a WASI call refuses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Errno {
            $(#[doc = $text] $variant = $number,)*
        }

        impl fmt::Display for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => concat!($text, " (", $name, ")"),)*
                })
            }
        }
    };
}

errno! {
    TooBig = 1, "E2BIG", "argument list too long";
    Acces = 2, "EACCES", "permission denied";
    AddrInUse = 3, "EADDRINUSE", "address in use";
    AddrNotAvail = 4, "EADDRNOTAVAIL", "address not available";
    AfNoSupport = 5, "EAFNOSUPPORT", "address family not supported";
    Again = 6, "EAGAIN", "resource unavailable, try again";
    Already = 7, "EALREADY", "connection already in progress";
    Badf = 8, "EBADF", "bad file descriptor";
    BadMsg = 9, "EBADMSG", "bad message";
    Busy = 10, "EBUSY", "device or resource busy";
    Canceled = 11, "ECANCELED", "operation canceled";
    Child = 12, "ECHILD", "no child processes";
    ConnAborted = 13, "ECONNABORTED", "connection aborted";
    ConnRefused = 14, "ECONNREFUSED", "connection refused";
    ConnReset = 15, "ECONNRESET", "connection reset";
    Deadlk = 16, "EDEADLK", "resource deadlock would occur";
    DestAddrReq = 17, "EDESTADDRREQ", "destination address required";
    Dom = 18, "EDOM", "argument out of the domain of the function";
    Dquot = 19, "EDQUOT", "disk quota exceeded";
    Exist = 20, "EEXIST", "file exists";
    Fault = 21, "EFAULT", "bad address";
    Fbig = 22, "EFBIG", "file too large";
    HostUnreach = 23, "EHOSTUNREACH", "host is unreachable";
    Idrm = 24, "EIDRM", "identifier removed";
    Ilseq = 25, "EILSEQ", "illegal byte sequence";
    InProgress = 26, "EINPROGRESS", "operation in progress";
    Intr = 27, "EINTR", "interrupted";
    Inval = 28, "EINVAL", "invalid argument";
    Io = 29, "EIO", "input/output error";
    IsConn = 30, "EISCONN", "socket is connected";
    IsDir = 31, "EISDIR", "is a directory";
    Loop = 32, "ELOOP", "too many levels of symbolic links";
    Mfile = 33, "EMFILE", "too many open files in this cell";
    Mlink = 34, "EMLINK", "too many links";
    MsgSize = 35, "EMSGSIZE", "message too large";
    Multihop = 36, "EMULTIHOP", "multihop attempted";
    NameTooLong = 37, "ENAMETOOLONG", "file name too long";
    NetDown = 38, "ENETDOWN", "network is down";
    NetReset = 39, "ENETRESET", "connection reset by the network";
    NetUnreach = 40, "ENETUNREACH", "network is unreachable";
    Nfile = 41, "ENFILE", "too many open files on this host";
    NoBufs = 42, "ENOBUFS", "no buffer space";
    NoDev = 43, "ENODEV", "no such device";
    NoEnt = 44, "ENOENT", "no such file or directory";
    NoExec = 45, "ENOEXEC", "not executable";
    NoLck = 46, "ENOLCK", "no locks available";
    NoLink = 47, "ENOLINK", "link has been severed";
    NoMem = 48, "ENOMEM", "not enough memory";
    NoMsg = 49, "ENOMSG", "no message of this type";
    NoProtoOpt = 50, "ENOPROTOOPT", "protocol option not available";
    NoSpc = 51, "ENOSPC", "no space left on device";
    NoSys = 52, "ENOSYS", "function not implemented";
    NotConn = 53, "ENOTCONN", "socket is not connected";
    NotDir = 54, "ENOTDIR", "not a directory";
    NotEmpty = 55, "ENOTEMPTY", "directory not empty";
    NotRecoverable = 56, "ENOTRECOVERABLE", "state not recoverable";
    NotSock = 57, "ENOTSOCK", "not a socket";
    NotSup = 58, "ENOTSUP", "not supported";
    NotTty = 59, "ENOTTY", "not a terminal";
    Nxio = 60, "ENXIO", "no such device or address";
    Overflow = 61, "EOVERFLOW", "value too large";
    OwnerDead = 62, "EOWNERDEAD", "previous owner died";
    Perm = 63, "EPERM", "operation not permitted";
    Pipe = 64, "EPIPE", "broken pipe";
    Proto = 65, "EPROTO", "protocol error";
    ProtoNoSupport = 66, "EPROTONOSUPPORT", "protocol not supported";
    Prototype = 67, "EPROTOTYPE", "wrong protocol type for socket";
    Range = 68, "ERANGE", "result too large";
    Rofs = 69, "EROFS", "read-only file system";
    Spipe = 70, "ESPIPE", "not seekable";
    Srch = 71, "ESRCH", "no such process";
    Stale = 72, "ESTALE", "stale file handle";
    TimedOut = 73, "ETIMEDOUT", "timed out";
    TxtBsy = 74, "ETXTBSY", "text file busy";
    Xdev = 75, "EXDEV", "link across file systems";
    NotCapable = 76, "ENOTCAPABLE", "capabilities insufficient";
}

impl Errno {
    /// The number that the guest sees; never 0, which is success.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}

impl std::error::Error for Errno {}
