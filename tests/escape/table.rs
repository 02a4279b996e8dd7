//! Every known way out of the sandbox, as a Python program and a shell would try it.
//!
//! `@name@` is filled in by the runner: the bait's folder and secret, listeners of this process, its id. A
//! probe got out when its Python expression raises no OSError, or its shell command ends with 0. `door(N, ...)`
//! makes system call N and counts as out unless the answer is EPERM or ENOSYS: what the kernel says about bad
//! arguments would mean that the call itself was let through.

/// One way out.
pub struct Probe {
    pub name: &'static str,
    pub python: &'static str,
    pub shell: &'static str,
    /// It works outside the sandbox, without harm: run there first, so that a probe that could not get out
    /// anywhere is noticed.
    pub control: bool,
    /// The numbers in it are those of x86-64.
    pub x86: bool,
}

/// Works outside.
const fn way(name: &'static str, python: &'static str, shell: &'static str) -> Probe {
    Probe { name, python, shell, control: true, x86: false }
}

/// Refused outside as well, or not to be tried there.
const fn bad(name: &'static str, python: &'static str, shell: &'static str) -> Probe {
    Probe { name, python, shell, control: false, x86: false }
}

/// A system call by its number.
const fn sys(name: &'static str, python: &'static str, shell: &'static str) -> Probe {
    Probe { name, python, shell, control: false, x86: true }
}

pub const READING: &[Probe] = &[
    way("read a secret", "open('@secret@').read()", "cat '@secret@'"),
    bad(
        "read by way of the first process",
        "open('/proc/1/root@secret@').read()",
        "cat '/proc/1/root@secret@'",
    ),
    way(
        "read by way of its own root",
        "open('/proc/self/root@secret@').read()",
        "cat '/proc/self/root@secret@'",
    ),
    way(
        "read by way of parents",
        "open('/proc/self/cwd/../../../../../../..@secret@').read()",
        "cat '/proc/self/cwd/../../../../../../..@secret@'",
    ),
    way(
        "read through a link",
        "(os.symlink('@secret@', '@own@/link'), open('@own@/link').read())",
        "ln -s '@secret@' '@own@/link' && cat '@own@/link'",
    ),
    bad("read what root left behind", "os.listdir('/old')", "ls /old"),
    way("list the home", "need(os.listdir('@home@'))", "test -n \"$(ls -A '@home@')\""),
    way("read the project", "open('@project@/Cargo.toml').read()", "cat '@project@/Cargo.toml'"),
    bad("read password hashes", "open('/etc/shadow').read()", "cat /etc/shadow"),
    way("know the machine", "need(os.uname().nodename == '@host@')", "test \"$(uname -n)\" = '@host@'"),
    way("read the account list", "need('root:' in open('/etc/passwd').read())", "grep root: /etc/passwd"),
    bad(
        "environment of the first process",
        "need(open('/proc/1/environ','rb').read())",
        "test -n \"$(tr -d '\\0' < /proc/1/environ)\"",
    ),
    bad("memory of the first process", "open('/proc/1/mem','rb').read(1)", "head -c1 /proc/1/mem"),
    bad("maps of the first process", "need(open('/proc/1/maps').read())", "test -n \"$(cat /proc/1/maps)\""),
    bad("descriptors of the first process", "os.listdir('/proc/1/fd')", "ls /proc/1/fd/"),
    bad("folder of the first process", "os.listdir('/proc/1/cwd/')", "ls /proc/1/cwd/"),
    bad("program of the first process", "open('/proc/1/exe','rb').read(1)", "head -c1 /proc/1/exe"),
    way("an inherited descriptor", "os.lseek(@fd@, 0, 0)", "test -e /proc/self/fd/@fd@"),
    way(
        "an inherited variable",
        "need(os.environ.get('CARGO_MANIFEST_DIR'))",
        "test -n \"$CARGO_MANIFEST_DIR\"",
    ),
    way("shared memory of the machine", "open('/dev/shm/@shm@').read()", "cat '/dev/shm/@shm@'"),
    bad("kernel memory", "open('/dev/mem','rb').read(1)", "head -c1 /dev/mem"),
    bad("kernel messages", "open('/dev/kmsg','rb').read(1)", "timeout 2 head -c1 /dev/kmsg"),
    bad("kernel image", "open('/proc/kcore','rb').read(1)", "head -c1 /proc/kcore"),
    bad(
        "kernel settings",
        "open('/proc/sys/kernel/core_pattern').read()",
        "cat /proc/sys/kernel/core_pattern",
    ),
    bad("the tree of the kernel", "os.listdir('/sys/kernel')", "ls /sys/kernel"),
];

pub const WRITING: &[Probe] = &[
    way("write outside", "open('@bait@/new','w').write('x')", "echo x > '@bait@/new'"),
    way("overwrite", "open('@secret@','w').write('x')", "echo x > '@secret@'"),
    way("append", "open('@secret@','a').write('x')", "echo x >> '@secret@'"),
    way("truncate", "os.truncate('@secret@', 1)", "truncate -s 1 '@secret@'"),
    way("remove", "os.remove('@secret@')", "rm '@secret@'"),
    way("move", "os.rename('@secret@','@bait@/moved')", "mv '@secret@' '@bait@/moved'"),
    way("chmod outside", "os.chmod('@secret@', 0o600)", "chmod 600 '@secret@'"),
    way(
        "chown outside",
        "os.chown('@secret@', os.getuid(), os.getgid())",
        "chown $(id -u):$(id -g) '@secret@'",
    ),
    way("change a time outside", "os.utime('@secret@', (1, 1))", "touch -d @1 '@secret@'"),
    way("a folder outside", "os.mkdir('@bait@/folder')", "mkdir '@bait@/folder'"),
    way("a link outside", "os.symlink('/', '@bait@/link')", "ln -s / '@bait@/link'"),
    way("a pipe outside", "os.mkfifo('@bait@/pipe')", "mkfifo '@bait@/pipe'"),
    way(
        "write through a link",
        "(os.symlink('@bait@/new2','@own@/link'), open('@own@/link','w').write('x'))",
        "ln -s '@bait@/new2' '@own@/link' && echo x > '@own@/link'",
    ),
    way("hard link out", "os.link('@secret@','@bait@/hard')", "ln '@secret@' '@bait@/hard'"),
    bad("hard link of a program", "os.link('/usr/bin/env','/work/env')", "ln /usr/bin/env /work/env"),
    bad(
        "a protected file that is not there yet",
        "os.makedirs('@home@/.config/tillerman')",
        "mkdir -p '@home@/.config/tillerman'",
    ),
    bad("a start file of the shell", "open('@home@/.profile','a')", ": >> '@home@/.profile'"),
    bad("write to the system", "open('/usr/bin/new','w')", ": > /usr/bin/new"),
    bad("change a program", "os.chmod('/usr/bin/env', 0o777)", "chmod 777 /usr/bin/env"),
    bad("write to the root", "open('/new','w')", ": > /new"),
    bad("write to etc", "open('/etc/passwd','a')", ": >> /etc/passwd"),
    bad("a library for every program", "open('/etc/ld.so.preload','w')", ": > /etc/ld.so.preload"),
    bad("a device of its own", "os.mknod('/work/null', 0o20666, os.makedev(1, 3))", "mknod /work/null c 1 3"),
    bad("a disk of its own", "os.mknod('/work/disk', 0o60666, os.makedev(8, 0))", "mknod /work/disk b 8 0"),
    bad("a disk of the machine", "open('/dev/sda','rb')", "head -c1 /dev/sda"),
    bad("the terminal", "open('/dev/tty','w')", ": > /dev/tty"),
    bad("a terminal of its own", "os.open('/dev/ptmx', os.O_RDWR)", ": > /dev/ptmx"),
    bad(
        "the core dump's handler",
        "open('/proc/sys/kernel/core_pattern','w')",
        ": > /proc/sys/kernel/core_pattern",
    ),
    bad("the magic keys", "open('/proc/sysrq-trigger','w')", ": > /proc/sysrq-trigger"),
    bad(
        "a control group's agent",
        "open('/sys/fs/cgroup/release_agent','w')",
        ": > /sys/fs/cgroup/release_agent",
    ),
    bad("its own id map", "open('/proc/self/uid_map','w').write('0 0 1')", "echo 0 0 1 > /proc/self/uid_map"),
    bad(
        "less for the memory killer",
        "open('/proc/self/oom_score_adj','w').write('-1000')",
        "echo -1000 > /proc/self/oom_score_adj",
    ),
];

pub const SPEAKING: &[Probe] = &[
    way(
        "a socket of the machine",
        "socket.socket(socket.AF_UNIX).connect('@socket@')",
        "perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0) && connect(S,sockaddr_un(\"@socket@\")) or exit 1'",
    ),
    way(
        "an abstract socket",
        "socket.socket(socket.AF_UNIX).connect('\\0@abstract@')",
        "perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0) && connect(S,pack(\"S a*\",AF_UNIX,\"\\0@abstract@\")) or exit 1'",
    ),
    way(
        "a datagram to a path",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x','@datagrams@')",
        "perl -MSocket -e 'socketpair(A,B,AF_UNIX,SOCK_DGRAM,0) && send(A,\"x\",0,sockaddr_un(\"@datagrams@\")) or exit 1'",
    ),
    // A pair of raw ones is a pair for datagrams by another name.
    way(
        "a datagram of another kind",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)[0].sendto(b'x','@datagrams@')",
        "perl -MSocket -e 'socketpair(A,B,AF_UNIX,SOCK_RAW,0) && send(A,\"x\",0,sockaddr_un(\"@datagrams@\")) or exit 1'",
    ),
    way(
        "tcp to this machine",
        "socket.create_connection(('127.0.0.1', @port@), 5)",
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/@port@'",
    ),
    bad(
        "tcp over version 6",
        "socket.socket(socket.AF_INET6).connect(('::1', @port@))",
        "bash -c 'exec 3<>/dev/tcp/::1/@port@'",
    ),
    way(
        "udp",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x',('127.0.0.1', @udp@))",
        "bash -c 'echo x > /dev/udp/127.0.0.1/@udp@'",
    ),
    bad(
        "the cloud's own data",
        "socket.create_connection(('169.254.169.254', 80), 2)",
        "timeout 5 bash -c 'exec 3<>/dev/tcp/169.254.169.254/80'",
    ),
    bad("a name", "socket.gethostbyname('example.org')", "timeout 20 getent hosts example.org"),
    way(
        "listen",
        "socket.create_server(('127.0.0.1', 0))",
        "perl -MSocket -e 'socket(S,AF_INET,SOCK_STREAM,0) && bind(S,sockaddr_in(0,INADDR_LOOPBACK)) && listen(S,1) or exit 1'",
    ),
    bad(
        "raw packets",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "perl -MSocket -e 'socket(S,AF_INET,SOCK_RAW,1) or exit 1'",
    ),
    bad(
        "frames",
        "socket.socket(17, socket.SOCK_RAW)",
        "perl -MSocket -e 'socket(S,17,SOCK_RAW,0) or exit 1'",
    ),
    way(
        "the kernel's own socket",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "perl -MSocket -e 'socket(S,16,SOCK_RAW,0) or exit 1'",
    ),
    bad(
        "the hypervisor",
        "socket.socket(40, socket.SOCK_STREAM)",
        "perl -MSocket -e 'socket(S,40,SOCK_STREAM,0) or exit 1'",
    ),
    bad(
        "the kernel's cryptography",
        "socket.socket(38, socket.SOCK_SEQPACKET)",
        "perl -MSocket -e 'socket(S,38,5,0) or exit 1'",
    ),
    bad(
        "bind one of a pair",
        "socket.socketpair()[0].bind('/work/here')",
        "perl -MSocket -e 'socketpair(A,B,AF_UNIX,SOCK_STREAM,0) && bind(A,sockaddr_un(\"/work/here\")) or exit 1'",
    ),
];

pub const PROCESSES: &[Probe] = &[
    way("see this machine's processes", "need('@pid@' in os.listdir('/proc'))", "test -d /proc/@pid@"),
    way("signal a process outside", "os.kill(@pid@, 0)", "kill -0 @pid@"),
    bad(
        "look behind the first process",
        "(os.kill(1, 0), need(os.readlink('/proc/1/exe')))",
        "kill -0 1 && readlink /proc/1/exe",
    ),
    way(
        "slow a process down outside",
        "os.setpriority(os.PRIO_PROCESS, @pid@, os.getpriority(os.PRIO_PROCESS, @pid@))",
        "renice -n 0 -p @pid@",
    ),
    way(
        "limits of a process outside",
        "__import__('resource').prlimit(@pid@, 7)",
        "prlimit --pid @pid@ --nofile",
    ),
    way("cores of a process outside", "os.sched_getaffinity(@pid@)", "taskset -p @pid@"),
    way(
        "move a process outside to other cores",
        "os.sched_setaffinity(@pid@, range(os.cpu_count()))",
        "taskset -p -c 0-$(($(nproc --all) - 1)) @pid@",
    ),
    way(
        "change limits of a process outside",
        "__import__('resource').prlimit(@pid@, 4, (0, 0))",
        "prlimit --pid @pid@ --core=0:0",
    ),
    way(
        "a handle on a process outside",
        "os.pidfd_open(@pid@)",
        "perl -e 'exit(syscall(434, @pid@, 0) == -1 ? 1 : 0)'",
    ),
    bad(
        "become root",
        "os.setuid(0) or need(os.getuid() == 0)",
        "perl -e '$< = 0; $> = 0; exit($> == 0 ? 0 : 1)'",
    ),
    bad(
        "a set-user program",
        "need(os.system('su -c true </dev/null >/dev/null 2>&1') == 0)",
        "su -c true </dev/null",
    ),
    bad(
        "the name of the machine",
        "__import__('socket').sethostname('mine')",
        "hostname mine; test \"$(uname -n)\" = mine",
    ),
    bad("raise a limit", "raised()", "ulimit -H -v unlimited && ulimit -v unlimited"),
    bad("a namespace by a program", "need(os.system('unshare -U true 2>/dev/null') == 0)", "unshare -U true"),
    bad(
        "another's namespace by a program",
        "need(os.system('nsenter -t 1 -m true 2>/dev/null') == 0)",
        "nsenter -t 1 -m true",
    ),
    bad(
        "remount by a program",
        "need(os.system('mount -o remount,rw /usr 2>/dev/null') == 0)",
        "mount -o remount,rw /usr",
    ),
    bad(
        "bind by a program",
        "need(os.system('mount --bind /usr /work 2>/dev/null') == 0)",
        "mount --bind /usr /work",
    ),
    bad("another root by a program", "os.chroot('/tmp')", "/usr/sbin/chroot / true"),
];

/// Names of the probes that get out of tier C; what that means stands in [`Tier::lacks`].
///
/// [`Tier::lacks`]: tillerman::tools::sandbox::Tier::lacks
pub const TIER_C_LACKS: &[&str] = &[
    "know the machine",
    "see this machine's processes",
    "cores of a process outside",
    "a handle on a process outside",
];

pub const CALLS: &[Probe] = &[
    sys("unshare", "door(272, 0x10000000)", "door 'syscall(272, 0x10000000)'"),
    sys(
        "clone a user namespace",
        "door(56, 0x10000011, 0, 0, 0, 0)",
        "door 'syscall(56, 0x10000011, 0, 0, 0, 0)'",
    ),
    sys(
        "clone a mount namespace",
        "door(56, 0x00020011, 0, 0, 0, 0)",
        "door 'syscall(56, 0x00020011, 0, 0, 0, 0)'",
    ),
    sys(
        "clone3 a user namespace",
        "door(435, (ctypes.c_uint64 * 11)(0x10000000), 88)",
        "door 'syscall(435, $clone, 88)'",
    ),
    sys("setns", "door(308, 0, 0)", "door 'syscall(308, 0, 0)'"),
    sys("ptrace", "door(101, 16, 1, 0, 0)", "door 'syscall(101, 16, 1, 0, 0)'"),
    sys("read another's memory", "door(310, 1, 0, 0, 0, 0, 0)", "door 'syscall(310, 1, 0, 0, 0, 0, 0)'"),
    sys("write another's memory", "door(311, 1, 0, 0, 0, 0, 0)", "door 'syscall(311, 1, 0, 0, 0, 0, 0)'"),
    sys("another's descriptor", "door(438, 0, 0, 0)", "door 'syscall(438, 0, 0, 0)'"),
    sys("mount", "door(165, 0, b'/tmp', b'tmpfs', 0, 0)", "door 'syscall(165, $none, $tmp, $tmpfs, 0, 0)'"),
    sys("umount", "door(166, b'/proc', 2)", "door 'syscall(166, $proc, 2)'"),
    sys("pivot_root", "door(155, b'/tmp', b'/tmp')", "door 'syscall(155, $tmp, $tmp)'"),
    sys("fsopen", "door(430, b'tmpfs', 0)", "door 'syscall(430, $tmpfs, 0)'"),
    sys("open_tree", "door(428, -100, b'/', 1)", "door 'syscall(428, -100, $root, 1)'"),
    sys(
        "move_mount",
        "door(429, -100, b'/tmp', -100, b'/tmp', 0)",
        "door 'syscall(429, -100, $tmp, -100, $tmp, 0)'",
    ),
    sys("mount_setattr", "door(442, -100, b'/', 0, 0, 0)", "door 'syscall(442, -100, $root, 0, 0, 0)'"),
    sys("a file by its handle", "door(304, -100, 0, 0)", "door 'syscall(304, -100, 0, 0)'"),
    sys(
        "the handle of a file",
        "door(303, -100, b'/', 0, 0, 0)",
        "door 'syscall(303, -100, $root, 0, 0, 0)'",
    ),
    sys("bpf", "door(321, 0, 0, 0)", "door 'syscall(321, 0, 0, 0)'"),
    sys("io_uring", "door(425, 1, 0)", "door 'syscall(425, 1, 0)'"),
    sys("keys of the kernel", "door(250, 0, -3, 0, 0, 0)", "door 'syscall(250, 0, -3, 0, 0, 0)'"),
    sys("a new key", "door(248, b'user', b'x', b'x', 1, -3)", "door 'syscall(248, $user, $x, $x, 1, -3)'"),
    sys("ask for a key", "door(249, b'user', b'x', 0, -3)", "door 'syscall(249, $user, $x, 0, -3)'"),
    sys("performance events", "door(298, 0, 0, -1, -1, 0)", "door 'syscall(298, 0, 0, -1, -1, 0)'"),
    sys("userfaultfd", "door(323, 0)", "door 'syscall(323, 0)'"),
    sys("personality", "door(135, 0x0040000)", "door 'syscall(135, 0x0040000)'"),
    sys("kernel modules", "door(175, 0, 0, b'')", "door 'syscall(175, 0, 0, $empty)'"),
    sys("kexec", "door(246, 0, 0, 0, 0)", "door 'syscall(246, 0, 0, 0, 0)'"),
    sys("reboot", "door(169, 0, 0, 0, 0)", "door 'syscall(169, 0, 0, 0, 0)'"),
    sys("swap", "door(167, b'/x', 0)", "door 'syscall(167, $none, 0)'"),
    sys("the clock", "door(227, 0, 0)", "door 'syscall(227, 0, 0)'"),
    sys("ports of the machine", "door(172, 3)", "door 'syscall(172, 3)'"),
    sys("accounting", "door(163, b'/work/a')", "door 'syscall(163, $none)'"),
    sys("secret memory", "door(447, 0)", "door 'syscall(447, 0)'"),
    sys(
        "segments of another process",
        "door(29, 0x7469, 4096, 0o600)",
        "door 'syscall(29, 0x7469, 4096, 0600)'",
    ),
    sys("message queues", "door(240, b'/q', 64, 0o600, 0)", "door 'syscall(240, $none, 64, 0600, 0)'"),
    sys("watch everything", "door(300, 0, 0)", "door 'syscall(300, 0, 0)'"),
    sys(
        "old numbers: ptrace",
        "door(0x40000000 | 521, 0, 0, 0, 0)",
        "door 'syscall(0x40000209, 0, 0, 0, 0)'",
    ),
    sys("old numbers: a socket", "door(0x40000000 | 41, 2, 1, 0)", "door 'syscall(0x40000029, 2, 1, 0)'"),
    sys("type into the terminal", "door(16, 0, 0x5412, b'x')", "door 'syscall(16, 0, 0x5412, $x)'"),
];
