//! Writing to a descriptor that somebody else reads, slowly or not at all, without ever waiting for him.
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// How a descriptor can be written to without waiting, and without making it non-blocking for whoever shares it.
#[derive(Debug)]
pub enum FdSink {
    /// A pipe or a terminal: opened anew, non-blocking.
    Own(OwnedFd),
    /// A socket takes the wish with each message.
    Socket(RawFd),
    /// A file does not keep anybody waiting.
    File(RawFd),
    /// What cannot be opened anew is asked whether it has room.
    Asked(RawFd),
}

impl FdSink {
    /// Must be called before the rights to open `/proc/self/fd` are given up.
    pub fn open(fd: RawFd) -> Self {
        // SAFETY: all zeros is a valid stat, which the call overwrites.
        let mut st: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `st` is valid for writing.
        if unsafe { libc::fstat(fd, &raw mut st) } != 0 {
            return Self::File(fd);
        }
        match st.st_mode & libc::S_IFMT {
            libc::S_IFREG => Self::File(fd),
            libc::S_IFSOCK => Self::Socket(fd),
            _ => {
                let Ok(path) = std::ffi::CString::new(format!("/proc/self/fd/{fd}")) else { return Self::Asked(fd) };
                let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NOCTTY;
                // SAFETY: `path` is a C string.
                let own = unsafe { libc::open(path.as_ptr(), flags) };
                if own < 0 {
                    return Self::Asked(fd);
                }
                // SAFETY: just opened, and nobody else's.
                Self::Own(unsafe { OwnedFd::from_raw_fd(own) })
            }
        }
    }

    /// False if the message could not be taken whole at this moment, and is lost.
    pub fn write(&self, bytes: &[u8]) -> bool {
        let (p, len) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: `bytes` is valid for its length; a closed descriptor is answered with EBADF.
        let n = unsafe {
            match self {
                Self::Own(fd) => libc::write(fd.as_raw_fd(), p, len),
                Self::Socket(fd) => libc::send(*fd, p, len, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL),
                Self::File(fd) => libc::write(*fd, p, len),
                Self::Asked(fd) => {
                    let mut room = libc::pollfd { fd: *fd, events: libc::POLLOUT, revents: 0 };
                    if libc::poll(&raw mut room, 1, 0) != 1 || room.revents & libc::POLLOUT == 0 {
                        return false;
                    }
                    libc::write(*fd, p, len)
                }
            }
        };
        // Whoever is gone does not listen: only what has no room is lost.
        n >= 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::WouldBlock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pipe_loses_lines_and_keeps_nobody_waiting() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let sink = FdSink::open(write.as_raw_fd());
        assert!(matches!(sink, FdSink::Own(_)));
        let line = [b'x'; 1024];
        let taken = (0..1000).take_while(|_| sink.write(&line)).count();
        assert!((1..1000).contains(&taken), "{taken}");
        // The descriptor that others share is what it was.
        let flags = nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        drop(read);
    }
}
