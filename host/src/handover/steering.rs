//! The program by which the kernel chooses a process's socket for each packet of a QUIC port.

use std::io;
use std::os::fd::AsFd;

use lockgate_steering::{Instruction, attach};

/// Length in bytes of the ids of our connections.
pub(crate) const CONNECTION_ID: usize = 12;

/// Bytes of an id that tell whose it is.
pub(super) const TAG: usize = 4;

/// Operations (`linux/bpf_common.h`): load a byte or four; jump if a bit is set, if equal, always; return a number.
const LOAD_BYTE: u16 = 0x30;
const LOAD_FOUR: u16 = 0x20;
const IF_SET: u16 = 0x45;
const IF_EQUAL: u16 = 0x15;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// The bit of a long header. In a short one, the id is at 1; in a long one, its length is at 5 and the id at 6, in all
/// versions of QUIC (RFC 8999 §5).
const LONG_HEADER: u32 = 0x80;
const ID_AFTER_SHORT: u32 = 1;
const LENGTH_IN_LONG: u32 = 5;
const ID_AFTER_LONG: u32 = 6;

/// Has the kernel give packets to the process of their tag, and all others to `newest`. The tags have the order of the
/// sockets.
pub(super) fn steer(socket: impl AsFd, tags: &[[u8; TAG]], newest: [u8; TAG]) -> io::Result<()> {
    attach(socket, &program(tags, newest))
}

fn program(tags: &[[u8; TAG]], newest: [u8; TAG]) -> Vec<Instruction> {
    let at = |code, jumps, operand| Instruction {
        code,
        jumps,
        operand,
    };
    let number = |tag| tags.iter().position(|own| *own == tag).unwrap_or_default() as u32;
    // The bound of the processes on a port keeps it below 256.
    let past_tags = (2 * tags.len() + 1) as u8;
    let mut program = vec![
        at(LOAD_BYTE, (0, 0), 0),
        at(IF_SET, (2, 0), LONG_HEADER),
        at(LOAD_FOUR, (0, 0), ID_AFTER_SHORT),
        at(JUMP, (0, 0), 3),
        at(LOAD_BYTE, (0, 0), LENGTH_IN_LONG),
        at(IF_EQUAL, (0, past_tags), CONNECTION_ID as u32),
        at(LOAD_FOUR, (0, 0), ID_AFTER_LONG),
    ];
    for tag in tags {
        program.push(at(IF_EQUAL, (0, 1), u32::from_be_bytes(*tag)));
        program.push(at(RETURN, (0, 0), number(*tag)));
    }
    program.push(at(RETURN, (0, 0), number(newest)));
    program
}
