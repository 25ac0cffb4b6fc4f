//! A local folder as an object store that keeps what it has said is written, also through a power cut.
//!
//! `LocalFileSystem` makes an object visible at once and whole, but leaves it to the operating system when its bytes
//! reach the disk. A commit whose name survives a power cut and whose bytes, or whose data files, do not, is a table
//! that nobody can read. So bytes go to the disk first, then the name, then the folder.

use std::{fmt, path::PathBuf};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart, local::LocalFileSystem, path::Path,
};
use uuid::Uuid;

/// How many folders above an object may be new with it: `project/view/version/_delta_log`.
const NEW_FOLDERS: usize = 5;

/// The machine's file system from its root. Paths are absolute, without the leading `/`.
#[derive(Debug)]
pub(super) struct LocalStore {
    inner: LocalFileSystem,
}

impl LocalStore {
    pub(super) fn new() -> Self {
        Self {
            inner: LocalFileSystem::new(),
        }
    }

    /// Creates an object that is not there yet: under another name first, so that its own name never stands for
    /// bytes that are not on the disk. What a killed process leaves behind has a name that log readers pass over.
    async fn create(&self, location: &Path, payload: PutPayload) -> Result<PutResult> {
        let staged = format!("_commit_{}.json.tmp", Uuid::new_v4());
        let mut parts: Vec<_> = location.parts().collect();
        parts.pop();
        let staged = Path::from_iter(parts).join(staged);
        let put = self.inner.put(&staged, payload).await?;
        let named = async {
            sync(self.inner.path_to_filesystem(&staged)?, 0).await?;
            self.inner.copy_if_not_exists(&staged, location).await
        };
        let named = named.await;
        // The object stands without its first name, and a name left over does no harm.
        let _ = self.inner.delete(&staged).await;
        named?;
        sync(self.inner.path_to_filesystem(location)?, NEW_FOLDERS).await?;
        Ok(put)
    }
}

/// Waits until a file's bytes are on the disk, and the entries of the folders above it.
async fn sync(file: PathBuf, folders: usize) -> Result<()> {
    let synced = tokio::task::spawn_blocking(move || {
        std::fs::File::open(&file)?.sync_all()?;
        for folder in file.ancestors().skip(1).take(folders) {
            // Some folders above our own may not be readable to us; they are not new either.
            if let Ok(folder) = std::fs::File::open(folder) {
                folder.sync_all()?;
            }
        }
        std::io::Result::Ok(())
    });
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
        store: "LocalStore",
        source,
    };
    match synced.await {
        Ok(result) => result.map_err(|e| failed(e.into())),
        Err(error) => Err(failed(error.into())),
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode == PutMode::Create {
            return self.create(location, payload).await;
        }
        let put = self.inner.put_opts(location, payload, options).await?;
        sync(self.inner.path_to_filesystem(location)?, NEW_FOLDERS).await?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, options).await?;
        let path = self.inner.path_to_filesystem(location)?;
        Ok(Box::new(SyncedUpload { inner, path }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[derive(Debug)]
struct SyncedUpload {
    inner: Box<dyn MultipartUpload>,
    path: PathBuf,
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.inner.complete().await?;
        sync(self.path.clone(), NEW_FOLDERS).await?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    fn create() -> PutOptions {
        PutMode::Create.into()
    }

    #[tokio::test]
    async fn only_one_creates_an_object_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new();
        let log = Path::from_filesystem_path(folder.path()).unwrap().join("a");
        let object = log.clone().join("0.json");
        let first = store.put_opts(&object, "first".into(), create()).await;
        let second = store.put_opts(&object, "second".into(), create()).await;
        assert!(first.is_ok());
        assert!(matches!(
            second,
            Err(object_store::Error::AlreadyExists { .. })
        ));
        let found = store.get(&object).await.unwrap().bytes().await.unwrap();
        assert_eq!(found, "first");
        let listed: Vec<_> = store.list(Some(&log)).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
    }

    #[tokio::test]
    async fn a_large_object_arrives_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new();
        let object = Path::from_filesystem_path(folder.path()).unwrap().join("x");
        let mut upload = store.put_multipart(&object).await.unwrap();
        upload.put_part("one".into()).await.unwrap();
        upload.put_part("two".into()).await.unwrap();
        upload.complete().await.unwrap();
        let found = store.get(&object).await.unwrap().bytes().await.unwrap();
        assert_eq!(found, "onetwo");
    }
}
