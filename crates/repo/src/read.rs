//! Finds a repo and reads its files.
//!
//! Not here: what the files say ([`crate::parse`]).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The file that makes a folder a repo.
pub const DEPLOYMENT_FILE: &str = "vintner.yaml";

/// The folder that is looked into when there is no repo upwards.
const DEFAULT_FOLDER: &str = "feature_repo";

/// One file of a repo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoFile {
    /// The path relative to the repo root, with `/`, as diagnostics show it.
    pub path: String,
    /// The text.
    pub text: String,
}

/// Why a repo could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A folder could not be listed.
    #[error("could not list the folder {path} of the feature repo")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("could not read the file {path} of the feature repo")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not UTF-8.
    #[error("the file {path} is not UTF-8 (byte {byte}, line {line}); save it as UTF-8")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is wrong, from 0.
        byte: usize,
        /// Its line, from 1.
        line: usize,
    },
}

/// The repo that `start` is in: the nearest folder upwards with a `vintner.yaml`; else `feature_repo` in `start`, if
/// that has one.
pub fn find_repo(start: &Path) -> Option<PathBuf> {
    let is_repo = |folder: &Path| folder.join(DEPLOYMENT_FILE).is_file();
    // A relative path has no ancestors beyond itself.
    let absolute = std::path::absolute(start).unwrap_or_else(|_| start.to_owned());
    absolute
        .ancestors()
        .find(|folder| is_repo(folder))
        .map(Path::to_owned)
        .or_else(|| Some(absolute.join(DEFAULT_FOLDER)).filter(|folder| is_repo(folder)))
}

/// The YAML files of the repo: `vintner.yaml` first, then all others in the order of their paths. Hidden files and
/// folders and Delta tables are passed over; links to folders are not followed.
///
/// # Errors
/// [`ReadError`] when a folder or a file cannot be read, or a file is not UTF-8.
pub fn read_repo(root: &Path) -> Result<Vec<RepoFile>, ReadError> {
    let mut paths = Vec::new();
    list(root, "", &mut paths)?;
    // False sorts before true.
    paths.sort_by(|(a, _), (b, _)| (a != DEPLOYMENT_FILE, a).cmp(&(b != DEPLOYMENT_FILE, b)));
    paths
        .into_iter()
        .map(|(path, on_disk)| {
            Ok(RepoFile {
                path,
                text: read_text(on_disk)?,
            })
        })
        .collect()
}

/// Adds the YAML files below `folder`, by their paths from the root and on disk.
fn list(folder: &Path, prefix: &str, paths: &mut Vec<(String, PathBuf)>) -> Result<(), ReadError> {
    let failed = |source| ReadError::Folder {
        path: folder.to_owned(),
        source,
    };
    if folder.join("_delta_log").is_dir() {
        return Ok(()); // a table may have thousands of folders, and none of its files is ours
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type().map_err(failed)?.is_dir() {
            list(&entry.path(), &format!("{path}/"), paths)?;
        } else if is_yaml(&name) && entry.path().is_file() {
            paths.push((path, entry.path()));
        }
    }
    Ok(())
}

fn is_yaml(name: &str) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn read_text(path: PathBuf) -> Result<String, ReadError> {
    match fs::read(&path) {
        Err(source) => Err(ReadError::File { path, source }),
        Ok(bytes) => String::from_utf8(bytes).map_err(|error| {
            let byte = error.utf8_error().valid_up_to();
            let before = error.as_bytes().iter().take(byte);
            let line = before.filter(|byte| **byte == b'\n').count() + 1;
            ReadError::NotUtf8 { path, byte, line }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    #[test]
    fn the_deployment_comes_first_and_only_yaml_is_read() {
        let root = repo(&[
            ("a.yaml", b"a"),
            ("views/z.yml", b""),
            ("views/b.yaml", b""),
            ("vintner.yaml", b"project: x"),
            ("data/weather.csv", b"\xff"),
            (".vintner/cache.yaml", b""),
            (".hidden.yaml", b""),
            ("tables/x/_delta_log/0.json", b""),
            ("tables/x/part.yaml", b""),
        ]);
        let files = read_repo(root.path()).unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            ["vintner.yaml", "a.yaml", "views/b.yaml", "views/z.yml"]
        );
        assert_eq!(files[0].text, "project: x");
    }

    #[test]
    fn a_file_that_is_not_utf_8_is_named() {
        let root = repo(&[("vintner.yaml", b"a: b\nc: \xe4\n")]);
        let error = read_repo(root.path()).unwrap_err();
        let message = error
            .to_string()
            .replace(root.path().to_str().unwrap(), "ROOT");
        insta::assert_snapshot!(message, @"the file ROOT/vintner.yaml is not UTF-8 (byte 8, line 2); save it as UTF-8");
    }

    #[test]
    fn a_repo_is_found_upwards_or_in_its_usual_folder() {
        let root = repo(&[
            ("one/vintner.yaml", b""),
            ("one/views/deep/a.yaml", b""),
            ("two/feature_repo/vintner.yaml", b""),
            ("three/a.yaml", b""),
        ]);
        let at = |path: &str| root.path().join(path);
        for (start, want) in [
            ("one", Some("one")),
            ("one/views/deep", Some("one")),
            ("two", Some("two/feature_repo")),
            ("two/feature_repo", Some("two/feature_repo")),
            ("three", None),
        ] {
            assert_eq!(find_repo(&at(start)), want.map(at), "{start}");
        }
    }
}
