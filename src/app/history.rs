//! The history as something that one thread keeps, and its reader as something that another one keeps.

use std::path::Path;

use crate::catalog::history::{History, HistoryReader};
use crate::catalog::{self, Error};
use crate::exec::keeper::{Kept, Opener};
use crate::store::{Opening, disk};

impl Kept for History {
    type Error = Error;

    fn broken(&self) -> Option<String> {
        History::broken(self)
    }

    fn margin_bytes(&self) -> u64 {
        History::margin_bytes(self)
    }

    fn file_bytes(&self) -> u64 {
        History::file_bytes(self)
    }

    fn commits(&self) -> u64 {
        History::commits(self)
    }
}

/// It takes no space and commits nothing.
impl Kept for HistoryReader {
    type Error = Error;

    fn broken(&self) -> Option<String> {
        HistoryReader::broken(self)
    }

    fn margin_bytes(&self) -> u64 {
        u64::MAX
    }

    fn file_bytes(&self) -> u64 {
        HistoryReader::file_bytes(self)
    }

    fn commits(&self) -> u64 {
        0
    }
}

/// Opens the history's file at `path`: made when it is missing, also after a failure, because it may be
/// deleted at any time; after a failure, read from the disk anew.
pub fn opener(path: &Path) -> Opener<History> {
    let path = path.to_owned();
    Box::new(move |opening| {
        prepare(&path, opening).map_err(|error| Error::Sql(error.to_string()))?;
        let opening = match opening {
            Opening::Start => catalog::Opening::Start,
            Opening::AfterFailure => catalog::Opening::AfterFailure,
        };
        let its = path.clone();
        History::open(&path, opening, Box::new(move || disk::free_bytes(&its).unwrap_or(0)))
    })
}

/// Opens the history's file to read, once that of [`opener`] is open.
pub fn reader_opener(path: &Path) -> Opener<HistoryReader> {
    let path = path.to_owned();
    Box::new(move |_| HistoryReader::open(&path))
}

fn prepare(path: &Path, opening: Opening) -> std::io::Result<()> {
    disk::create_file(path)?;
    match opening {
        Opening::Start => Ok(()),
        Opening::AfterFailure => {
            disk::forget_cached_file(path)?;
            disk::forget_cached_file(&disk::beside(path, "-wal"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{opener, reader_opener};
    use crate::base::id::{JobId, TenantId};
    use crate::base::time::Clock;
    use crate::catalog::history::{Change, History};
    use crate::exec::keeper::{Keeper, Options, Task};
    use crate::exec::writer::{Effect, State};
    use crate::testing::clock::SystemClock;
    use crate::testing::wait_until;

    fn gone() -> [Change; 1] {
        [Change::Gone { tenant: TenantId::from_raw(1), id: JobId::from_raw(1) }]
    }

    #[test]
    fn a_history_is_kept_beside_its_reader_and_made_anew_when_its_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        let clock = Arc::new(SystemClock::new());
        let its_clock = || -> Arc<dyn Clock> { Arc::<SystemClock>::clone(&clock) };
        let options = Options {
            reopen_after: [Duration::ZERO; 3],
            ..Options::new("history", Box::new(|| ()))
        };
        let keeper = Keeper::start(options, opener(&path), its_clock()).unwrap();
        let until = clock.mono().plus(Duration::from_hours(1));
        let task = Task { name: "history.apply", until, effect: Effect::Frees };

        let options = Options::new("history_reader", Box::new(|| ()));
        let reader = Keeper::start(options, reader_opener(&path), its_clock()).unwrap();
        let figures = reader.call(task, |reader| reader.figures()).unwrap().unwrap();
        assert_eq!(figures.rows, 0);
        assert!(0 < reader.figures().file_bytes);

        std::fs::remove_file(&path).unwrap();
        let panicked = keeper
            .call(task, |_: &mut History| std::panic::resume_unwind(Box::new("a planned panic")));
        assert!(matches!(panicked, Err::<(), _>(crate::exec::Error::Panicked)));
        wait_until("it is open again", || keeper.state() == State::Open);
        keeper.call(task, |history| history.apply(&gone())).unwrap().unwrap();
        assert!(path.exists());
        assert!(keeper.stop(Duration::from_mins(1)) && reader.stop(Duration::from_mins(1)));
    }
}
