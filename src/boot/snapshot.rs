//! The cache's snapshot: loaded before anybody is let in, written when everybody is gone.
//!
//! It is a convenience. Whatever goes wrong with it is told, and the server starts or ends as it would without.

use crate::app::CacheSettings;
use crate::base::time::Clock;
use crate::cache::snapshot::Tenants;
use crate::cache::space::Cache;
use crate::io::snapshot::{self, SNAPSHOT_FILE};

use super::data_dir::DataDir;

/// Loads the snapshot that the last process left, if settings want that; removes it in any case.
pub(super) fn load(
    cache: &Cache,
    settings: &CacheSettings,
    data_dir: &DataDir,
    clock: &dyn Clock,
    tenants: Tenants<'_>,
) {
    let path = data_dir.file(SNAPSHOT_FILE);
    if !settings.snapshot || !settings.enabled {
        match snapshot::discard(&path) {
            Ok(false) => {}
            Ok(true) => tracing::info!("the snapshot of the cache is not wanted; it is removed"),
            Err(error) => tracing::warn!(%error, "the snapshot of the cache cannot be removed"),
        }
        return;
    }
    let began = clock.mono();
    match snapshot::read(&path, cache, clock.now(), tenants) {
        Ok(None) => {}
        Ok(Some(counts)) => {
            let (loaded, ended, refused) = (counts.loaded, counts.ended, counts.refused);
            let ms = clock.mono().since(began).as_millis();
            tracing::info!(loaded, ended, refused, ms, "the snapshot of the cache was loaded");
        }
        Err(error) => tracing::warn!(%error, "the snapshot of the cache is not used"),
    }
}

/// Writes the snapshot, if settings want that.
pub(super) fn save(cache: &Cache, settings: &CacheSettings, data_dir: &DataDir, clock: &dyn Clock) {
    if !settings.snapshot || !settings.enabled {
        return;
    }
    let began = clock.mono();
    match snapshot::write(&data_dir.file(SNAPSHOT_FILE), cache, clock.now()) {
        Ok(counts) => {
            let ms = clock.mono().since(began).as_millis();
            tracing::info!(entries = counts.entries, ms, "the snapshot of the cache was written");
        }
        Err(error) => tracing::warn!(%error, "there is no snapshot of the cache"),
    }
}
