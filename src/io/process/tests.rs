//! Real children are killed, and the fake is held to the same words.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError::Disconnected, channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::{EVENTS, SystemProcesses, boot_number, started_at, started_in};
use crate::app::outside::{Death, Processes, WatchError, Watched};
use crate::testing::processes::FakeProcesses;

/// Nothing takes longer, on whatever machine.
const WITHIN: Duration = Duration::from_mins(1);

/// A child that lives until it is killed; it is, at the latest when the test ends.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        let mut command = Command::new("sleep");
        Sleeper(command.arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    /// Until then its number is nobody else's.
    fn bury(&mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Watches a process, and where its death is told.
fn watch(
    processes: &dyn Processes,
    pid: u32,
    started: Option<u64>,
) -> Result<(Watched, Receiver<Death>), WatchError> {
    let (told, deaths) = channel();
    let ended = Box::new(move |death| drop(told.send(death)));
    Ok((processes.watch(pid, started, ended)?, deaths))
}

#[test]
fn a_process_that_is_killed_is_told_dead_once() {
    let processes = SystemProcesses::start(100).unwrap();
    let mut child = Sleeper::new();
    let (watched, deaths) = watch(&processes, child.pid(), None).unwrap();
    let (again, deaths_again) = watch(&processes, child.pid(), watched.started).unwrap();
    assert_eq!((watched.pid, watched.started), (child.pid(), started_at(child.pid())));
    assert_eq!((again.started, processes.watched()), (watched.started, 2));
    assert!(watched.started.is_some_and(|started| 0 < started));

    child.kill();
    let how = format!("process {} ended", child.pid());
    for deaths in [deaths, deaths_again] {
        let death = Death { how: how.clone(), was_there: true };
        assert_eq!(deaths.recv_timeout(WITHIN), Ok(death), "also before its parent has looked");
        assert_eq!(deaths.recv_timeout(WITHIN), Err(Disconnected), "nobody tells it again");
    }
    assert_eq!(processes.watched(), 0, "the descriptors are closed");
}

#[test]
fn a_process_that_is_not_there_is_told_dead_but_not_from_within_the_call() {
    let processes = SystemProcesses::start(100).unwrap();
    let mut child = Sleeper::new();
    child.kill();
    let (_zombie, deaths) = watch(&processes, child.pid(), None).unwrap();
    assert!(deaths.recv_timeout(WITHIN).unwrap().was_there, "nobody has asked how it ended yet");
    child.bury();

    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock();
    let missing = [child.pid(), u32::MAX].map(|pid| {
        let (told, deaths) = channel();
        let its = Arc::clone(&lock);
        let ended = Box::new(move |death| {
            drop(its.lock());
            drop(told.send(death));
        });
        // Would never come back if it told us here.
        let watched = processes.watch(pid, Some(7), ended).unwrap();
        assert_eq!((watched.pid, watched.started), (pid, Some(7)));
        (watched, deaths)
    });
    drop(held);
    for (watched, deaths) in missing {
        let how = format!("there is no process {} any more", watched.pid);
        assert_eq!(deaths.recv_timeout(WITHIN), Ok(Death { how, was_there: false }));
    }
    assert_eq!(processes.watched(), 0);
}

#[test]
fn another_process_of_the_same_number_is_not_the_one_that_was_meant() {
    let processes = SystemProcesses::start(100).unwrap();
    let child = Sleeper::new();
    let other = started_at(child.pid()).unwrap() + 1;
    let (watched, deaths) = watch(&processes, child.pid(), Some(other)).unwrap();
    assert!(!deaths.recv_timeout(WITHIN).unwrap().was_there);
    assert_eq!((watched.started, processes.watched()), (Some(other), 0));
}

#[test]
fn who_is_no_longer_watched_is_not_told_dead() {
    let processes = SystemProcesses::start(100).unwrap();
    let mut child = Sleeper::new();
    let (watched, deaths) = watch(&processes, child.pid(), None).unwrap();
    let (_other, still_watched) = watch(&processes, child.pid(), None).unwrap();
    drop(watched);
    assert_eq!(deaths.recv_timeout(WITHIN), Err(Disconnected), "nobody is left to tell it");
    assert_eq!(processes.watched(), 1, "its descriptor is closed");
    child.kill();
    assert!(still_watched.recv_timeout(WITHIN).is_ok());
    assert!(deaths.try_recv().is_err());
}

#[test]
fn who_is_told_may_drop_what_it_holds_and_may_panic() {
    let processes = SystemProcesses::start(100).unwrap();
    let mut child = Sleeper::new();
    let slot = Arc::new(Mutex::new(None));
    let (told, deaths) = channel();
    let its = Arc::clone(&slot);
    let ended = Box::new(move |death: Death| {
        drop(its.lock().take());
        drop(told.send(death));
        panic!("a planned panic");
    });
    *slot.lock() = Some(processes.watch(child.pid(), None, ended).unwrap());
    let (_watched, deaths_of_another) = watch(&processes, child.pid(), None).unwrap();
    child.kill();
    assert!(deaths.recv_timeout(WITHIN).is_ok());
    assert!(deaths_of_another.recv_timeout(WITHIN).is_ok(), "the other watch goes on");
    let (_missing, deaths) = watch(&processes, u32::MAX, None).unwrap();
    assert!(deaths.recv_timeout(WITHIN).is_ok(), "and so does the thread");
    assert!(slot.lock().is_none());
}

#[test]
fn nobody_watches_the_machine_this_server_or_a_thread() {
    let processes = SystemProcesses::start(100).unwrap();
    for pid in [0, 1, std::process::id()] {
        let refused = watch(&processes, pid, None).map(|(watched, _)| watched);
        assert!(matches!(refused, Err(WatchError::NotAWorker(n)) if n == pid), "{refused:?}");
    }
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let threads =
        threads.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let thread = threads.into_iter().find(|id: &u32| *id != std::process::id()).unwrap();
    let refused = watch(&processes, thread, None).map(|(watched, _)| watched);
    assert!(matches!(refused, Err(WatchError::Thread(n)) if n == thread), "{refused:?}");
    assert_eq!(processes.watched(), 0, "a refusal takes nothing");
}

#[test]
fn there_are_as_many_watches_as_there_may_be() {
    let processes = SystemProcesses::start(2).unwrap();
    let child = Sleeper::new();
    let first = watch(&processes, child.pid(), None).unwrap();
    let _second = watch(&processes, child.pid(), None).unwrap();
    let refused = watch(&processes, child.pid(), None).map(|(watched, _)| watched);
    assert!(matches!(refused, Err(WatchError::TooMany)), "{refused:?}");
    drop(first);
    assert!(watch(&processes, child.pid(), None).is_ok(), "there is room again");
}

#[test]
fn many_that_end_at_once_are_all_told() {
    let processes = SystemProcesses::start(10_000).unwrap();
    let mut children: Vec<Sleeper> = (0..10).map(|_| Sleeper::new()).collect();
    let watches: Vec<_> =
        (0..EVENTS * 3).map(|n| watch(&processes, children[n % 10].pid(), None).unwrap()).collect();
    let missing: Vec<_> = (0..20).map(|_| watch(&processes, u32::MAX, None).unwrap()).collect();
    children.iter_mut().for_each(Sleeper::kill);
    for (watched, deaths) in watches.iter().chain(&missing) {
        assert!(deaths.recv_timeout(WITHIN).is_ok(), "{watched:?}");
    }
    assert_eq!(processes.watched(), 0);
}

#[test]
fn the_end_of_watching_tells_nobody_and_may_come_from_within() {
    let child = Sleeper::new();
    let processes = SystemProcesses::start(100).unwrap();
    let (watched, deaths) = watch(&processes, child.pid(), None).unwrap();
    drop(processes);
    assert!(deaths.try_recv().is_err());
    drop(watched);

    let processes = Arc::new(Mutex::new(Some(SystemProcesses::start(100).unwrap())));
    let (told, deaths) = channel();
    let its = Arc::clone(&processes);
    let ended = Box::new(move |death| {
        let last = its.lock().take();
        drop(last);
        drop(told.send(death));
    });
    let watched = processes.lock().as_ref().unwrap().watch(u32::MAX, None, ended).unwrap();
    assert!(deaths.recv_timeout(WITHIN).is_ok());
    drop(watched);
}

#[test]
fn the_machine_has_a_name_and_a_number_for_its_start() {
    let processes = SystemProcesses::start(100).unwrap();
    let said = Command::new("uname").arg("-n").output().unwrap().stdout;
    assert_eq!(processes.host_name(), String::from_utf8(said).unwrap().trim());
    let another = SystemProcesses::start(100).unwrap();
    assert!(processes.boot_id().is_some());
    assert_eq!(processes.boot_id(), another.boot_id());

    let text = "00000000-0000-0001-0000-000000000004\n";
    assert_eq!(boot_number(text), Some(5));
    for text in
        ["", "1", "00000000-0000-0001-0000-00000000000g", "+0000000-0000-0001-0000-000000000000"]
    {
        assert_eq!(boot_number(text), None, "{text:?}");
    }
}

#[test]
fn the_start_of_a_process_is_read_behind_any_name() {
    let numbers: Vec<String> = (4..=30).map(|field| field.to_string()).collect();
    let stat = format!("7 (a) b) S {}", numbers.join(" "));
    assert_eq!(started_in(&stat), Some(22));
    assert_eq!(started_in("7 (a) S 1 2"), None);
    assert_eq!(started_at(std::process::id()).map(|began| 0 < began), Some(true));
}

#[test]
fn the_fake_says_the_same() {
    let fake = FakeProcesses::default();
    assert!(matches!(watch(&fake, 1, None), Err(WatchError::NotAWorker(1))));
    let began = fake.start(40);
    let (watched, deaths) = watch(&fake, 40, None).unwrap();
    let (unwatched, silent) = watch(&fake, 40, Some(began)).unwrap();
    let (_never, missing) = watch(&fake, 41, None).unwrap();
    let (_other, replaced) = watch(&fake, 40, Some(began + 1)).unwrap();
    assert_eq!((watched.started, fake.watched()), (Some(began), 2));
    drop(unwatched);
    assert!(
        missing.try_recv().is_err() && replaced.try_recv().is_err(),
        "not from within the call"
    );
    fake.settle();
    assert!(!missing.try_recv().unwrap().was_there && !replaced.try_recv().unwrap().was_there);
    assert!(deaths.try_recv().is_err());
    fake.kill(40);
    assert!(deaths.try_recv().unwrap().was_there);
    assert!(deaths.try_recv().is_err() && silent.try_recv().is_err());
    let before = fake.boot_id();
    fake.reboot();
    assert_ne!(fake.boot_id(), before);
    fake.refuse();
    assert!(matches!(watch(&fake, 40, None), Err(WatchError::Unsupported)));
}
