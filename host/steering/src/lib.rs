//! The kernel's choice among the sockets of one UDP port, by a program of classic BPF (`SO_ATTACH_REUSEPORT_CBPF`,
//! socket(7)). It takes no privilege.
//!
//! This is a crate of its own for its one `unsafe` call: the gateway forbids them.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// One instruction of classic BPF, as Linux's `struct sock_filter` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// Instructions that a jump passes over if its condition holds, and if it does not.
    pub jumps: (u8, u8),
    /// The operand.
    pub operand: u32,
}

/// Has the kernel ask `program` for each packet to the port of a socket, in place of an earlier program.
///
/// The program reads the packet's payload, and gives the number of a socket. The sockets of a port are numbered from 0 in
/// the order in which they were bound. When one closes, the last one takes its number. A number that no socket has leaves
/// the choice to a hash of the addresses; a read beyond the payload chooses 0.
///
/// # Errors
///
/// If the kernel refuses: the socket was bound without `SO_REUSEPORT`, the program is wrong, or a sandbox lacks the
/// option.
pub fn attach(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let instructions = program.iter().map(|instruction| libc::sock_filter {
        code: instruction.code,
        jt: instruction.jumps.0,
        jf: instruction.jumps.1,
        k: instruction.operand,
    });
    let mut instructions: Vec<_> = instructions.collect();
    let length = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len: length,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: the descriptor is open, since it is borrowed; `program` has its own size, and points to `instructions`, which
    // has `len` of them and lives longer than the call. The kernel copies both.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    match failed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
