//! For tests: an object store that dies after a number of writes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart, path::Path,
};

/// Lets a number of writes through, then refuses all. Reads go on.
#[derive(Debug, Clone)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    left: Arc<AtomicI64>,
    /// Whether the first refused write happens nevertheless: it is written, and the answer is lost.
    lies: bool,
}

impl FaultyStore {
    /// A store that dies after so many writes.
    pub(crate) fn after(writes: i64, inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            left: Arc::new(AtomicI64::new(writes)),
            lies: false,
        }
    }

    /// The same, but the write that fails is written all the same.
    pub(crate) fn lying_after(writes: i64, inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            lies: true,
            ..Self::after(writes, inner)
        }
    }

    /// Whether a write was refused.
    pub(crate) fn died(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn next(&self) -> Verdict {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => Verdict::Write,
            0 if self.lies => Verdict::WriteAndFail,
            _ => Verdict::Fail,
        }
    }
}

#[derive(PartialEq)]
enum Verdict {
    Write,
    WriteAndFail,
    Fail,
}

fn dead<T>() -> Result<T> {
    Err(object_store::Error::Generic {
        store: "FaultyStore",
        source: "no space left on device".into(),
    })
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let verdict = self.next();
        if verdict == Verdict::Fail {
            return dead();
        }
        let put = self.inner.put_opts(location, payload, options).await?;
        if verdict == Verdict::WriteAndFail {
            return dead();
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if self.next() != Verdict::Write {
            return dead();
        }
        let inner = self.inner.put_multipart_opts(location, options).await?;
        let store = self.clone();
        Ok(Box::new(FaultyUpload { inner, store }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        if self.next() != Verdict::Write {
            return Box::pin(futures::stream::once(async { dead() }));
        }
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if self.next() != Verdict::Write {
            return dead();
        }
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    store: FaultyStore,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.store.next() {
            Verdict::Write => self.inner.put_part(data),
            _ => Box::pin(async { dead() }),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        match self.store.next() {
            Verdict::Write => self.inner.complete().await,
            _ => dead(),
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
