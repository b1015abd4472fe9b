//! A thread for something that waits for the system most of the time.
//!
//! **Invariant**: it is named and joined. What runs on it ends when it is told to, by means of its own:
//! whoever made it tells it before [`Aside::join`], or waits for ever.

use std::io;
use std::thread::JoinHandle;

use super::start_thread;

/// A thread that waits. It is joined when this is dropped.
#[derive(Debug)]
pub struct Aside(Option<JoinHandle<()>>);

impl Aside {
    /// Runs `body` on a thread of this name.
    pub fn start(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Aside> {
        Ok(Aside(Some(start_thread(name, body)?)))
    }

    /// Waits until it has ended. On the thread itself, where somebody may drop the last handle, it does
    /// not: that would be for ever.
    pub fn join(&mut self) {
        let Some(thread) = self.0.take() else {
            return;
        };
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("a thread that waits panicked");
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.join();
    }
}
