//! A local folder as an object store that keeps what it has said is written, also through a power cut.
//!
//! `object_store`'s own local store makes an object visible at once and whole, so a killed writer leaves no half
//! object. But it never syncs: after a power cut the name may be there and the content not. A registry version that is
//! there and empty could neither be read nor be written again, and a commit whose data files are gone is a table that
//! nobody can read. So a write here is done when its bytes, its name and the folders that are new with it are on the
//! disk. An object that must not be there twice is written in this order: write a staging file, sync it, link it to
//! the object's name (which fails when that is there), sync the folder.
//!
//! Staging files are named `<object>#<number>`, a form that listings leave out. Those of writers that were killed are
//! removed by the next writer, once their object is there.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use futures::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart, local::LocalFileSystem, path::Path as ObjectPath,
};

const STORE: &str = "Folder";

/// A local folder, which need not be there before something is written.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder of that path, which should be absolute.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The store of the folder. None when there is no such folder.
    fn existing(&self) -> Result<Option<LocalFileSystem>> {
        match self.root.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => LocalFileSystem::new_with_prefix(&self.root).map(Some),
            Err(source) => Err(generic(source)),
        }
    }

    /// The store of the folder, which is made, and the file of an object, whose folder is made.
    async fn for_writing(&self, location: &ObjectPath) -> Result<(LocalFileSystem, PathBuf)> {
        let (root, location) = (self.root.clone(), location.clone());
        blocking(move || {
            create_folder(&root)?;
            let store = LocalFileSystem::new_with_prefix(&root)?;
            let file = store.path_to_filesystem(&location)?;
            if let Some(folder) = file.parent() {
                create_folder(folder)?;
            }
            Ok((store, file))
        })
        .await
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let (store, file) = self.for_writing(location).await?;
        if opts.mode == PutMode::Create {
            return blocking(move || create(&file, &payload)).await;
        }
        let put = store.put_opts(location, payload, opts).await?;
        sync(file).await?;
        Ok(put)
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        match self.existing()? {
            Some(existing) => existing.get_opts(location, options).await,
            None => Err(Error::NotFound {
                path: location.to_string(),
                source: Box::new(io::Error::from(ErrorKind::NotFound)),
            }),
        }
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.existing() {
            Ok(Some(existing)) => existing.list(prefix),
            Ok(None) => stream::empty().boxed(),
            Err(error) => stream::once(future::ready(Err(error))).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&ObjectPath>,
        offset: &ObjectPath,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.existing() {
            Ok(Some(existing)) => existing.list_with_offset(prefix, offset),
            Ok(None) => stream::empty().boxed(),
            Err(error) => stream::once(future::ready(Err(error))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        match self.existing()? {
            Some(existing) => existing.list_with_delimiter(prefix).await,
            None => Ok(ListResult {
                common_prefixes: Vec::new(),
                objects: Vec::new(),
            }),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        match self.existing() {
            Ok(Some(existing)) => existing.delete_stream(locations),
            Ok(None) => locations
                .and_then(|location| {
                    future::ready(Err(Error::NotFound {
                        path: location.to_string(),
                        source: Box::new(io::Error::from(ErrorKind::NotFound)),
                    }))
                })
                .boxed(),
            Err(error) => stream::once(future::ready(Err(error))).boxed(),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (store, file) = self.for_writing(location).await?;
        let inner = store.put_multipart_opts(location, options).await?;
        Ok(Box::new(SyncedUpload { inner, file }))
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> Result<()> {
        let (store, file) = self.for_writing(to).await?;
        store.copy_opts(from, to, options).await?;
        sync(file).await
    }

    async fn rename_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: RenameOptions,
    ) -> Result<()> {
        let (store, file) = self.for_writing(to).await?;
        store.rename_opts(from, to, options).await?;
        sync(file).await
    }
}

/// An object that arrives in parts.
#[derive(Debug)]
struct SyncedUpload {
    inner: Box<dyn MultipartUpload>,
    file: PathBuf,
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.inner.complete().await?;
        sync(self.file.clone()).await?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

/// Writes a file that is not there yet, so that it is either whole and durable or not there.
fn create(file: &Path, payload: &PutPayload) -> Result<PutResult> {
    let (mut staged, staging) = stage(file).map_err(generic)?;
    let written = payload
        .iter()
        .try_for_each(|part| staged.write_all(part))
        .and_then(|()| staged.sync_all());
    drop(staged);
    let linked = written.and_then(|()| fs::hard_link(&staging, file));
    // Best effort: what stays is removed by the next writer.
    let _ = fs::remove_file(&staging);
    match linked {
        Ok(()) => {}
        Err(source) if source.kind() == ErrorKind::AlreadyExists => {
            return Err(exists(file, source));
        }
        // The winner of this name has cleaned up, as it may.
        Err(source) if source.kind() == ErrorKind::NotFound && file.exists() => {
            return Err(exists(file, source));
        }
        Err(source) => return Err(generic(source)),
    }
    sync_folder_of(file).map_err(generic)?;
    remove_leftovers(file);
    Ok(PutResult {
        e_tag: None,
        version: None,
    })
}

/// A new file beside `file`.
fn stage(file: &Path) -> io::Result<(File, PathBuf)> {
    for number in 1u64.. {
        let mut path = file.as_os_str().to_owned();
        path.push(format!("#{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(staged) => return Ok((staged, path.into())),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Removes staging files of objects that are there: whoever still has one has lost already. Only of objects named like
/// `file`, with a name of the same length: others, such as pointers, may be in the middle of being replaced.
fn remove_leftovers(file: &Path) {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(|n| n.to_str()))
    else {
        return;
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let leftover = entry.file_name();
        let staged = leftover.to_str().and_then(|text| text.split_once('#'));
        if staged.is_some_and(|(object, number)| {
            object.len() == name.len()
                && number.bytes().all(|b| b.is_ascii_digit())
                && folder.join(object).exists()
        }) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes a folder and those above it, durably.
fn create_folder(folder: &Path) -> Result<()> {
    let mut missing = Vec::new();
    for above in folder.ancestors() {
        if above.as_os_str().is_empty() || above.try_exists().map_err(generic)? {
            break;
        }
        missing.push(above);
    }
    for folder in missing.iter().rev() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(generic(error)),
            _ => sync_folder_of(folder).map_err(generic)?,
        }
    }
    Ok(())
}

/// Makes the bytes and the name of a file durable.
async fn sync(file: PathBuf) -> Result<()> {
    blocking(move || {
        File::open(&file)
            .and_then(|written| written.sync_all())
            .and_then(|()| sync_folder_of(&file))
            .map_err(generic)
    })
    .await
}

/// Makes the name of a file durable. Only Unix needs it and can do it.
fn sync_folder_of(file: &Path) -> io::Result<()> {
    if cfg!(unix)
        && let Some(folder) = file.parent()
    {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Runs what blocks where it may; in place when there is no runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

fn exists(file: &Path, source: io::Error) -> Error {
    Error::AlreadyExists {
        path: file.display().to_string(),
        source: Box::new(source),
    }
}

fn generic(source: io::Error) -> Error {
    Error::Generic {
        store: STORE,
        source: Box::new(source),
    }
}
