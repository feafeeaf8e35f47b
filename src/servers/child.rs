//! Starts and signals child processes: the house's one file with `unsafe` code. Knows processes and file
//! descriptors, nothing of what the children are.
//!
//! Invariant: between fork and exec a child makes system calls only; it allocates nothing and takes no lock.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal};

/// Whom a child runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunAs {
    /// As this process.
    Same,
    /// As another user.
    User {
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
    /// As this process, which looks like another user to the child: in a user namespace of its own. Files stay
    /// ours, and folders that only we may enter work.
    Looking {
        /// The user id that the child sees.
        uid: u32,
        /// The group id that the child sees.
        gid: u32,
    },
}

/// Prepares `command` so that its process runs as `run_as`, gets `on_owner_death` when the calling *thread* ends for
/// whatever reason, keeps `lock` open, and stays out of the terminal's Ctrl-C.
pub(super) fn prepare(
    command: &mut Command,
    run_as: RunAs,
    on_owner_death: Signal,
    lock: Option<&File>,
) {
    command.process_group(0);
    let mut maps = None;
    match run_as {
        RunAs::Same => {}
        RunAs::User { uid, gid } => {
            command.uid(uid).gid(gid);
        }
        RunAs::Looking { uid, gid } => maps = Some(IdMaps::new(uid, gid)),
    }
    let owner = rustix::process::getpid();
    let lock = lock.map(AsRawFd::as_raw_fd);
    let before_exec = move || {
        if let Some(maps) = &maps {
            maps.enter()?;
        }
        if let Some(lock) = lock {
            inherit(lock)?;
        }
        // Last, because a change of user clears it.
        die_with(owner, on_owner_death)
    };
    #[expect(
        unsafe_code,
        reason = "only pre_exec can set a death signal; see the file's invariant"
    )]
    // SAFETY: `before_exec` makes system calls on values that were built before the fork, and returns.
    unsafe {
        command.pre_exec(before_exec);
    }
}

/// Sends a signal to a child that hasn't been waited for; one that is gone already is fine.
pub(super) fn signal(child: &Child, signal: Signal) {
    let _ = rustix::process::kill_process(Pid::from_child(child), signal);
}

/// Lets the file stay open across exec.
fn inherit(lock: i32) -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "a closure that outlives its borrow can carry only the number"
    )]
    // SAFETY: the caller of `prepare` keeps the file open until the command has been spawned.
    let lock = unsafe { BorrowedFd::borrow_raw(lock) };
    Ok(rustix::io::fcntl_setfd(lock, FdFlags::empty())?)
}

/// Asks the kernel for `signal` when the parent dies, and fails if it has died before it could be asked.
#[cfg(target_os = "linux")]
fn die_with(owner: Pid, signal: Signal) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(signal))?;
    if rustix::process::getppid() == Some(owner) {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::NotConnected))
    }
}

/// Other systems have no death signal: there the servers outlive a killed owner, and the lock says so.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "the signature of the Linux one")]
fn die_with(_owner: Pid, _signal: Signal) -> io::Result<()> {
    Ok(())
}

/// What to write below `/proc/self` to look like another user in a new user namespace.
struct IdMaps {
    uid: String,
    gid: String,
}

impl IdMaps {
    fn new(uid: u32, gid: u32) -> Self {
        Self {
            uid: format!("{uid} {} 1", rustix::process::geteuid().as_raw()),
            gid: format!("{gid} {} 1", rustix::process::getegid().as_raw()),
        }
    }

    #[cfg(target_os = "linux")]
    fn enter(&self) -> io::Result<()> {
        #[expect(
            unsafe_code,
            reason = "unshare is unsafe for flags that take file descriptors away"
        )]
        // SAFETY: NEWUSER touches credentials only, and the process has one thread between fork and exec.
        unsafe {
            rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER)?;
        }
        write(c"/proc/self/setgroups", "deny")?;
        write(c"/proc/self/gid_map", &self.gid)?;
        write(c"/proc/self/uid_map", &self.uid)
    }

    #[cfg(not(target_os = "linux"))]
    fn enter(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// `fs::write` without its allocations.
fn write(path: &CStr, text: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}
