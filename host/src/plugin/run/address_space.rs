//! The address space of the process: its size, and the layout of the instances' memory in it.

use std::fs;

use clap::ValueEnum;
use rustix::process::{Resource, getrlimit};

/// Instances of all plugins together, if the address space allows: 17 TiB of the 128 TiB that a process has on most
/// machines.
const INSTANCES: u32 = 4_096;

/// Address space of a reserved instance: 4 GiB of memory, the guard behind it, tables, a stack.
const RESERVED_EACH: u64 = 17 << 28;

/// Address space of a checked instance: 64 MiB of memory, as much again to move to, and a stack.
const CHECKED_EACH: u64 = 160 << 20;

/// The fewest instances that are worth reserving. A gateway has that many even where they hardly fit.
const FEWEST: u32 = 16;

/// How compiled code addresses a guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Addressing {
    /// The whole 32-bit range is reserved: an access beyond the memory is a page fault.
    Reserved,
    /// Only the memory itself is mapped: the code checks each address.
    Checked,
}

impl Addressing {
    /// Its name on a command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Checked => "checked",
        }
    }
}

/// The layout of the memory of all instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) addressing: Addressing,
    pub(crate) instances: u32,
}

impl Layout {
    /// The roomiest layout for the available bytes. Some of them are left for threads, code and everything else.
    pub(crate) fn fitting(available: u64) -> Self {
        let fit = |part: u64, each: u64| {
            let count = u32::try_from(part / each).unwrap_or(u32::MAX);
            count.min(INSTANCES)
        };
        let reserved = fit(available / 4 * 3, RESERVED_EACH);
        if reserved >= FEWEST {
            return Self {
                addressing: Addressing::Reserved,
                instances: reserved,
            };
        }
        Self {
            addressing: Addressing::Checked,
            instances: fit(available / 2, CHECKED_EACH).max(FEWEST),
        }
    }

    /// A smaller layout, for a machine that refuses this one.
    pub(crate) fn smaller(self) -> Option<Self> {
        match self.addressing {
            Addressing::Reserved if self.instances / 2 >= FEWEST => Some(Self {
                instances: self.instances / 2,
                ..self
            }),
            Addressing::Reserved => Some(Self {
                addressing: Addressing::Checked,
                instances: FEWEST,
            }),
            Addressing::Checked => None,
        }
    }

    /// Warns of the cost of little address space.
    pub(crate) fn warn(self, available: u64) {
        let Self {
            addressing,
            instances,
        } = self;
        let address_space_gib = available >> 30;
        match addressing {
            Addressing::Reserved if instances == INSTANCES => {}
            Addressing::Reserved => tracing::warn!(
                address_space_gib,
                instances,
                "there is room for {instances} instances of all plugins together, and for {INSTANCES} on most machines: \
                 each reserves 4 GiB of address space; for more raise `ulimit -v`, or run a kernel whose addresses have \
                 more than 39 bits"
            ),
            Addressing::Checked => tracing::warn!(
                address_space_gib,
                instances,
                "there is little address space: instances are made without reserving any, {instances} of them at most; \
                 handlers check each access to their memory and compute up to 60 % longer, and a new instance takes some 70 µs \
                 more; raise `ulimit -v` to 128 GiB or more"
            ),
        }
    }
}

/// Bytes of address space that this process may still use.
pub(crate) fn available() -> u64 {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let whole = total(&read("/proc/self/maps")).unwrap_or(1 << 47);
    let allowed = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
    let used = used(&read("/proc/self/status")).unwrap_or(0);
    whole.min(allowed).saturating_sub(used)
}

/// The size of the address space, from the highest user mapping, which is the stack. The kernel's own mappings lie
/// above.
fn total(maps: &str) -> Option<u64> {
    let end = |line: &str| {
        let (_, end) = line.split_whitespace().next()?.split_once('-')?;
        u64::from_str_radix(end, 16).ok()
    };
    let ends = maps.lines().filter_map(end).filter(|end| end >> 63 == 0);
    ends.max()?.checked_next_power_of_two()
}

/// Bytes of address space in use, from the file `status`.
fn used(status: &str) -> Option<u64> {
    let size = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))?;
    let kib: u64 = size.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn size_follows_from_the_highest_mapping() {
        for (bits, stack) in [
            (
                47,
                "7ffd4c3d1000-7ffd4c3f2000 rw-p 00000000 00:00 0 [stack]",
            ),
            (39, "7fdbd01000-7fdbd22000 rw-p 00000000 00:00 0 [stack]"),
            (38, "3fffdc1000-3fffde2000 rw-p 00000000 00:00 0 [stack]"),
        ] {
            let maps = format!(
                "00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/lockgate\n{stack}\n\
                 ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n"
            );
            assert_eq!(total(&maps), Some(1 << bits));
        }
        assert_eq!(total(""), None);
        assert_eq!(used("Name:\tlockgate\nVmSize:\t  12 kB\n"), Some(12 << 10));
    }

    #[test]
    fn instances_are_reserved_as_far_as_they_fit_and_checked_where_few_do() {
        let fitting = |available| {
            let layout = Layout::fitting(available);
            (layout.addressing, layout.instances)
        };
        assert_eq!(fitting(1 << 47), (Addressing::Reserved, 4_096));
        assert_eq!(fitting(1 << 39), (Addressing::Reserved, 90));
        assert_eq!(fitting(1 << 38), (Addressing::Reserved, 45));
        assert_eq!(fitting(64 * GIB), (Addressing::Checked, 204));
        assert_eq!(fitting(8 * GIB), (Addressing::Checked, 25));
        assert_eq!(fitting(0), (Addressing::Checked, 16));
    }

    #[test]
    fn refused_layout_shrinks_to_the_smallest() {
        let mut layout = Layout::fitting(1 << 47);
        let mut tries = 1;
        while let Some(smaller) = layout.smaller() {
            (layout, tries) = (smaller, tries + 1);
        }
        assert_eq!(
            (layout.addressing, layout.instances),
            (Addressing::Checked, 16)
        );
        assert_eq!(tries, 10);
    }
}
