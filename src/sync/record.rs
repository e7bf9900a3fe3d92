//! Carries the host's stat cache between the endpoint, which knows nothing of databases, and the
//! manifest, which knows nothing of endpoints.

use skync_agent::endpoint::Endpoint;
use skync_agent::scan::{FileRecord, StatCache};

use super::manifest::{Manifest, ManifestError, StatRow};

/// Fills the endpoint's stat cache from the manifest, and has what changes in it logged.
pub(super) fn load_stats(
    manifest: &mut Manifest,
    endpoint: &Endpoint,
) -> Result<(), ManifestError> {
    let rows = manifest.load_stats()?.into_iter().map(|row| {
        let record = FileRecord {
            size: row.size,
            mtime_ns: row.mtime_ns,
            ctime_ns: row.ctime_ns,
            inode: row.inode,
            digest: row.digest,
            recorded_ns: row.recorded_ns,
        };
        (row.path, record)
    });
    let mut cache: StatCache = rows.collect();
    cache.start_log();
    *endpoint.cache() = cache;
    Ok(())
}

/// Saves what changed in the endpoint's stat cache since the last time.
pub(super) fn save_stats(
    manifest: &mut Manifest,
    endpoint: &Endpoint,
) -> Result<(), ManifestError> {
    let (mut rows, mut removals) = (Vec::new(), Vec::new());
    {
        let mut cache = endpoint.cache();
        for path in cache.take_log() {
            match cache.get(&path) {
                None => removals.push(path),
                Some(record) => rows.push(StatRow {
                    size: record.size,
                    mtime_ns: record.mtime_ns,
                    ctime_ns: record.ctime_ns,
                    inode: record.inode,
                    digest: record.digest,
                    recorded_ns: record.recorded_ns,
                    path,
                }),
            }
        }
    }
    // What could not be saved is read again by the next session: nothing is lost with the log.
    if rows.is_empty() && removals.is_empty() {
        return Ok(());
    }
    manifest.save_stats(&rows, &removals)
}
