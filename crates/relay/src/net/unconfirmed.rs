//! unconfirmed: how much of what was sent has not arrived. Needs unsafe: no library asks the kernel this.

use rustix::ioctl::{Getter, Opcode, ioctl};
use std::ffi::c_int;
use std::os::fd::AsFd;

/// `SIOCOUTQ` of tcp(7), the same number on all but a few processors.
const SIOCOUTQ: Opcode = 0x5411;
const IS_THAT_NUMBER: bool = cfg!(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "aarch64",
    target_arch = "arm",
    target_arch = "riscv64",
    target_arch = "loongarch64",
    target_arch = "s390x"
));

/// How many bytes that were written to a TCP `socket` its peer's kernel has not confirmed; also after the end of the connection. `None` where
/// nobody can tell.
#[allow(unsafe_code)]
pub fn unconfirmed(socket: impl AsFd) -> Option<usize> {
    if !IS_THAT_NUMBER {
        return None;
    }
    // SAFETY: for a TCP socket this number means that the kernel writes one `int` to the place it is given, and does nothing else.
    let count = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) };
    usize::try_from(count.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    #[test]
    fn what_came_too_late_is_told_from_what_was_read() {
        let (mut ours, theirs) = pair();
        drop(theirs);
        ours.write_all(&[7; 50]).unwrap();
        assert_eq!(ours.read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(unconfirmed(&ours), Some(50));
        let (mut ours, mut theirs) = pair();
        ours.write_all(&[7; 50]).unwrap();
        theirs.read_exact(&mut [0; 50]).unwrap();
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(unconfirmed(&ours), Some(0));
    }
}
