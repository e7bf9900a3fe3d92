//! Carries the host's stat cache between the endpoint, which knows nothing of databases, and the
//! manifest, which knows nothing of endpoints.

use skync_agent::endpoint::Endpoint;
use skync_agent::scan::{FileRecord, StatCache};

use super::manifest::{Manifest, ManifestError, StatRow};

/// Fills the endpoint's stat cache from the manifest; returns what was loaded.
pub(super) fn load_stats(
    manifest: &mut Manifest,
    endpoint: &Endpoint,
) -> Result<StatCache, ManifestError> {
    let mut cache = StatCache::default();
    for row in manifest.load_stats()? {
        let record = FileRecord {
            size: row.size,
            mtime_ns: row.mtime_ns,
            ctime_ns: row.ctime_ns,
            inode: row.inode,
            digest: row.digest,
            recorded_ns: row.recorded_ns,
        };
        cache.insert(&row.path, record);
    }
    endpoint.cache().clone_from(&cache);
    Ok(cache)
}

/// Saves what changed in the endpoint's stat cache since `saved`, and brings `saved` up to date.
pub(super) fn save_stats(
    manifest: &mut Manifest,
    endpoint: &Endpoint,
    saved: &mut StatCache,
) -> Result<(), ManifestError> {
    let now = endpoint.cache().clone();
    let (upserts, removals) = now.changed_since(saved);
    let rows: Vec<_> = upserts
        .into_iter()
        .map(|(path, record)| StatRow {
            path,
            size: record.size,
            mtime_ns: record.mtime_ns,
            ctime_ns: record.ctime_ns,
            inode: record.inode,
            digest: record.digest,
            recorded_ns: record.recorded_ns,
        })
        .collect();
    manifest.save_stats(&rows, &removals)?;
    *saved = now;
    Ok(())
}
