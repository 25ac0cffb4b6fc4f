//! Uploads that a killed process has left in a local folder. No object store lists them, since they are no objects.

use std::{fs, io, path::PathBuf, time::UNIX_EPOCH};

use tokio::task::spawn_blocking;
use vintner_core::Timestamp;

/// What is left of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) written: Timestamp,
}

/// What is in a folder of files whose names end so: `.parquet`. None when there is no folder.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) async fn find(
    folder: PathBuf,
    kinds: &'static [&'static str],
) -> io::Result<Vec<Leftover>> {
    let found = spawn_blocking(move || {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if !is_upload(&name, kinds) {
                continue;
            }
            // It may just have become an object.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let age = metadata.modified()?.duration_since(UNIX_EPOCH);
            let micros = age.map_or(0, |age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
            found.push(Leftover {
                name,
                bytes: metadata.len(),
                written: Timestamp::from_micros(micros),
            });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    });
    found.await.map_err(io::Error::other)?
}

/// Deletes them.
///
/// # Errors
/// When one cannot be deleted.
pub(crate) async fn delete(folder: PathBuf, names: Vec<String>) -> io::Result<()> {
    let deleted = spawn_blocking(move || {
        for name in names {
            match fs::remove_file(folder.join(name)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    });
    deleted.await.map_err(io::Error::other)?
}

/// While a file is written to a local folder its name ends in `#` and a number.
fn is_upload(name: &str, kinds: &[&str]) -> bool {
    name.split_once('#').is_some_and(|(file, number)| {
        kinds.iter().any(|kind| file.ends_with(kind))
            && !number.is_empty()
            && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: &[&str] = &[".parquet", ".arrows"];

    #[tokio::test]
    async fn only_unfinished_uploads_are_found_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "a.parquet",
            "a.parquet#1",
            "b.arrows#20",
            "b.parquet#x",
            "b.parquet#",
            "c.json#1",
        ] {
            fs::write(folder.path().join(name), "xyz").unwrap();
        }
        let path = folder.path().to_owned();
        let found = find(path.clone(), KINDS).await.unwrap();
        let names: Vec<_> = found.iter().map(|found| found.name.clone()).collect();
        assert_eq!(
            (names.as_slice(), found[0].bytes),
            (&["a.parquet#1".to_owned(), "b.arrows#20".to_owned()][..], 3)
        );
        delete(path.clone(), names.clone()).await.unwrap();
        delete(path.clone(), names).await.unwrap();
        assert_eq!(find(path.clone(), KINDS).await.unwrap(), []);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 4);
        assert_eq!(find(path.join("none"), KINDS).await.unwrap(), []);
    }
}
