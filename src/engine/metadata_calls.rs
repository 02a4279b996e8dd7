//! The kernel calls that change what a file is called by, may be done with or says of its times, and not what is in it:
//! modes, owners, times, attributes. Landlock sees none of them; whoever is confined by it is refused these by number.
//!
//! The workers (`worker::confine`) and programs in the sandbox's tier C are; both lists are this one.

use libc::c_long;

/// Newer than the constants in libc, and of one number on every machine.
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;
const FILE_SETATTR: c_long = 469;

/// Calls every machine has.
#[rustfmt::skip]
const CALLS: &[c_long] = &[
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchmodat2, libc::SYS_fchown, libc::SYS_fchownat,
    libc::SYS_utimensat, libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr, libc::SYS_removexattr,
    libc::SYS_lremovexattr, libc::SYS_fremovexattr, SETXATTRAT, REMOVEXATTRAT, FILE_SETATTR,
];

/// Calls newer machines no longer have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD: &[c_long] = &[
    libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// Requests to ioctl that do the same to an open file: FS_IOC_SETFLAGS (of either width) and FS_IOC_FSSETXATTR.
pub const REQUESTS: [u32; 3] = [0x4008_6602, 0x4004_6602, 0x401c_5820];

/// Every such call of this machine.
pub fn metadata_calls() -> impl Iterator<Item = c_long> {
    CALLS.iter().chain(OLD).copied()
}
