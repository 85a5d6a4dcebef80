//! System calls that the kernel refuses, as a sandbox has it.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

/// `setsockopt`, and the arguments that it is refused for: Linux on x86-64 and ARM64 (`asm-generic/socket.h`).
const SETSOCKOPT: i64 = if cfg!(target_arch = "x86_64") {
    54
} else {
    208
};
const SOL_SOCKET: u64 = 1;
const SO_ATTACH_REUSEPORT_CBPF: u64 = 51;

/// `EPERM`.
const NOT_PERMITTED: u32 = 1;

/// What this thread and the processes that it starts from now on are refused.
pub struct Refused;

impl Refused {
    /// A program by which the kernel chooses among the sockets of a port.
    pub fn steering() {
        let is = |argument, value| SeccompCondition::new(argument, Dword, Eq, value).unwrap();
        let option = vec![is(1, SOL_SOCKET), is(2, SO_ATTACH_REUSEPORT_CBPF)];
        let rules = [(SETSOCKOPT, vec![SeccompRule::new(option).unwrap()])];
        let filter = SeccompFilter::new(
            rules.into(),
            SeccompAction::Allow,
            SeccompAction::Errno(NOT_PERMITTED),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        apply_filter(&program).unwrap();
    }
}
