//! What the kernel does with the packets of a UDP port: its choice among the sockets there, by a program of classic BPF
//! (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)), and whether it joins packets (`UDP_GRO`, udp(7)); and what it has not got rid of
//! for a TCP connection (`SIOCOUTQ`, tcp(7)). It takes no privilege.
//!
//! This is a crate of its own for its `unsafe` calls: the gateway forbids them.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// The option of `linux/udp.h`, which `libc` has for some targets alone.
const UDP_GRO: libc::c_int = 104;

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
    set(
        socket,
        (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF),
        &program,
    )
}

/// Has the kernel give each packet by itself, and not those of one client that have come together as one.
///
/// # Errors
///
/// If the kernel has no such option. Then it joins none.
pub fn separate(socket: impl AsFd) -> io::Result<()> {
    let off: libc::c_int = 0;
    set(socket, (libc::SOL_UDP, UDP_GRO), &off)
}

/// Gives the bytes of a TCP connection that were written and that the peer's system has not acknowledged; its FIN counts as
/// one.
///
/// # Errors
///
/// If the socket listens, or is none of TCP.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, since it is borrowed. The request has a second name for terminals, and stores an
    // `int` for any kind of descriptor; `bytes` is one, and lives longer than the call.
    let failed = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            libc::TIOCOUTQ,
            std::ptr::from_mut(&mut bytes),
        )
    };
    match failed {
        0 => Ok(usize::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets an option to a value that is of the option's type, and whose pointers are valid.
fn set<T>(socket: impl AsFd, (level, option): (i32, i32), value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is open, since it is borrowed; `value` has its own size. The kernel copies it, and the
    // instructions to which that of `attach` points, of which there are as many as it says: its vector lives longer than
    // the call.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    match failed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
