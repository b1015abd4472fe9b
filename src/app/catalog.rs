//! The catalog as something that one thread keeps: row 2 does not know row 3, so they meet here.

use std::path::Path;

use crate::catalog::{self, Catalog, Error};
use crate::exec::keeper::{Kept, Opener};
use crate::store::{Opening, disk};

impl Kept for Catalog {
    type Error = Error;

    fn broken(&self) -> Option<String> {
        Catalog::broken(self)
    }

    fn margin_bytes(&self) -> u64 {
        Catalog::margin_bytes(self)
    }

    fn file_bytes(&self) -> u64 {
        Catalog::file_bytes(self)
    }

    fn commits(&self) -> u64 {
        Catalog::commits(self)
    }
}

/// Opens the catalog's file at `path`: made when it is missing; after a failure, read from the disk anew.
pub fn opener(path: &Path) -> Opener<Catalog> {
    let path = path.to_owned();
    Box::new(move |opening| {
        let prepared = match opening {
            Opening::Start => disk::create_file(&path),
            Opening::AfterFailure => disk::forget_cached_file(&path)
                .and_then(|()| disk::forget_cached_file(&disk::beside(&path, "-wal"))),
        };
        prepared.map_err(|error| Error::Sql(error.to_string()))?;
        let opening = match opening {
            Opening::Start => catalog::Opening::Start,
            Opening::AfterFailure => catalog::Opening::AfterFailure,
        };
        let its = path.clone();
        Catalog::open(&path, opening, Box::new(move || disk::free_bytes(&its).unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::opener;
    use crate::base::time::{Clock, Timestamp};
    use crate::catalog::Audit;
    use crate::exec;
    use crate::exec::keeper::{Keeper, Options, Task};
    use crate::exec::writer::{Effect, State};
    use crate::testing::clock::SystemClock;
    use crate::testing::wait_until;

    fn entry() -> Audit {
        Audit {
            at: Timestamp::MIN,
            request_id: String::new(),
            actor_token: None,
            actor_name: "server".to_owned(),
            tenant: None,
            action: "server.start".to_owned(),
            object: String::new(),
            detail: "{}".to_owned(),
        }
    }

    #[test]
    fn a_catalog_is_kept_and_opened_anew_when_an_operation_panics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sqlite");
        let clock = Arc::new(SystemClock::new());
        let its_clock: Arc<dyn Clock> = Arc::<SystemClock>::clone(&clock);
        let options = Options {
            reopen_after: [Duration::ZERO; 3],
            ..Options::new("catalog", Box::new(|| ()))
        };
        let keeper = Keeper::start(options, opener(&path), its_clock).unwrap();
        let until = clock.mono().plus(Duration::from_hours(1));
        let task = Task { name: "audit.add", until, effect: Effect::Frees };

        keeper.call(task, |catalog| catalog.audit_add(&entry())).unwrap().unwrap();
        assert_eq!(keeper.figures().commits, 1);
        assert!(0 < keeper.figures().file_bytes && 0 < keeper.figures().margin_bytes);
        let panicked = keeper.call(task, |catalog| {
            catalog.audit_add(&entry()).unwrap();
            std::panic::resume_unwind(Box::new("a planned panic"))
        });
        assert_eq!(panicked, Err::<(), _>(exec::Error::Panicked));
        wait_until("it is open again", || keeper.state() == State::Open);
        let page = keeper.call(task, |catalog| catalog.audit_page(None, 10)).unwrap().unwrap();
        assert_eq!(page.len(), 2, "what was committed before the panic is there");
        assert!(keeper.stop(Duration::from_mins(1)));
    }
}
