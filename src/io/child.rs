//! Other processes: signals to those that we started, and what they are called; and the name of this machine.

use rustix::process::{
    Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal,
    test_kill_process_group,
};

/// A process that was started at the head of a group of its own: everything it starts belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(Pid);

impl Group {
    /// The group whose first process has this number.
    pub fn of(pid: u32) -> Option<Group> {
        // Group 0 would be our own, and 1 is whoever started the machine.
        i32::try_from(pid).ok().filter(|pid| 1 < *pid).and_then(Pid::from_raw).map(Group)
    }

    /// Asks all of them to end. Nobody there is no error: that is what was wanted.
    pub fn terminate(self) {
        kill_process_group(self.0, Signal::TERM).ok();
    }

    /// Ends all of them.
    pub fn kill(self) {
        kill_process_group(self.0, Signal::KILL).ok();
    }

    /// Whether one of them is left.
    pub fn is_there(self) -> bool {
        test_kill_process_group(self.0).is_ok()
    }
}

/// Has this process killed when its parent ends, whose number this is. That outlives becoming another program.
pub fn die_with(parent: &str) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before that.
    let is_there = getppid().is_some_and(|pid| pid.as_raw_nonzero().to_string() == parent);
    if is_there { Ok(()) } else { Err(std::io::Error::other("the worker has ended")) }
}

/// What a signal is called, without `SIG`; nothing for those that only have a number.
pub fn signal_name(number: i32) -> Option<&'static str> {
    const NAMES: [(Signal, &str); 18] = [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::ILL, "ILL"),
        (Signal::TRAP, "TRAP"),
        (Signal::ABORT, "ABRT"),
        (Signal::BUS, "BUS"),
        (Signal::FPE, "FPE"),
        (Signal::KILL, "KILL"),
        (Signal::USR1, "USR1"),
        (Signal::SEGV, "SEGV"),
        (Signal::USR2, "USR2"),
        (Signal::PIPE, "PIPE"),
        (Signal::ALARM, "ALRM"),
        (Signal::TERM, "TERM"),
        (Signal::XCPU, "XCPU"),
        (Signal::XFSZ, "XFSZ"),
        (Signal::SYS, "SYS"),
    ];
    let found = NAMES.into_iter().find(|(signal, _)| signal.as_raw() == number);
    found.map(|(_, name)| name)
}

/// What this machine is called.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Group, host, signal_name};

    #[test]
    fn nobody_signals_everybody() {
        assert_eq!([0, 1, u32::MAX].map(Group::of), [None, None, None]);
        assert!(Group::of(2).is_some());
    }

    #[test]
    fn signals_and_the_machine_have_names() {
        assert_eq!((signal_name(9), signal_name(15)), (Some("KILL"), Some("TERM")));
        assert_eq!((signal_name(0), signal_name(64)), (None, None));
        assert!(!host().is_empty());
    }
}
