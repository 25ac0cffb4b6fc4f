//! One object that grows while it is written, and is there whole or not at all.

use std::sync::Arc;

use bytes::Bytes;
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, PutPayloadMut, Result, path::Path,
};
use tokio::task::JoinSet;

/// The size of every part but the last. Object stores take at least 5 MiB, and at most ten thousand parts.
const PART_BYTES: usize = 8 << 20;
/// How many parts are on their way at once.
const PARTS_AT_ONCE: usize = 4;

/// A new object. What fits in one part is written with one request. Memory: the parts that are on their way.
pub(crate) struct Upload {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    buffer: PutPayloadMut,
    parts: Option<Parts>,
}

struct Parts {
    upload: Box<dyn MultipartUpload>,
    running: JoinSet<Result<()>>,
}

impl Upload {
    /// Begins an object. Nothing is written yet.
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self {
            objects,
            path,
            buffer: PutPayloadMut::new(),
            parts: None,
        }
    }

    /// Where the object will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes. Waits while too many are on their way.
    ///
    /// # Errors
    /// Those of the store; then [`Upload::abort`] is the only thing left to do.
    pub(crate) async fn put(&mut self, mut bytes: Bytes) -> Result<()> {
        loop {
            let room = PART_BYTES - self.buffer.content_length();
            if bytes.len() < room {
                self.buffer.push(bytes);
                return Ok(());
            }
            self.buffer.push(bytes.split_to(room));
            let part = std::mem::take(&mut self.buffer);
            self.send(part.freeze()).await?;
        }
    }

    async fn send(&mut self, part: PutPayload) -> Result<()> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            None => self.parts.insert(Parts {
                upload: self.objects.put_multipart(&self.path).await?,
                running: JoinSet::new(),
            }),
        };
        while parts.running.len() >= PARTS_AT_ONCE {
            parts.wait_for_one().await?;
        }
        parts.running.spawn(parts.upload.put_part(part));
        Ok(())
    }

    /// Makes the object of the bytes so far. When that fails, what was written of it is taken away.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn finish(mut self) -> Result<()> {
        match self.complete().await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    async fn complete(&mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.buffer).freeze();
        if self.parts.is_none() {
            return self.objects.put(&self.path, rest).await.map(drop);
        }
        if rest.content_length() > 0 {
            self.send(rest).await?;
        }
        if let Some(parts) = &mut self.parts {
            while !parts.running.is_empty() {
                parts.wait_for_one().await?;
            }
            parts.upload.complete().await?;
        }
        Ok(())
    }

    /// Takes away what was written. What cannot be taken away is no object, and costs at most its space.
    pub(crate) async fn abort(self) {
        let Some(mut parts) = self.parts else {
            return;
        };
        parts.running.shutdown().await;
        if let Err(error) = parts.upload.abort().await {
            tracing::debug!(path = %self.path, "could not take back an upload: {error}");
        }
    }
}

impl Parts {
    async fn wait_for_one(&mut self) -> Result<()> {
        match self.running.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(source)) => Err(object_store::Error::JoinError { source }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::{aws::AmazonS3Builder, memory::InMemory};
    use vintner_registry::store::remote;
    use vintner_testkit::s3::S3Server;

    use super::*;
    use crate::delta::faulty::FaultyStore;

    fn bytes(length: usize) -> Bytes {
        (0..length)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect()
    }

    async fn upload(store: Arc<dyn ObjectStore>, pieces: &[Bytes]) -> Result<()> {
        let mut upload = Upload::new(store, Path::from("object"));
        for piece in pieces {
            if let Err(error) = upload.put(piece.clone()).await {
                upload.abort().await;
                return Err(error);
            }
        }
        upload.finish().await
    }

    #[tokio::test]
    async fn an_object_is_the_bytes_that_were_put() {
        let whole = bytes(2 * PART_BYTES + 3);
        for cuts in [
            vec![],
            vec![0, 5],
            vec![PART_BYTES],
            vec![PART_BYTES - 1, PART_BYTES + 1],
        ] {
            let mut pieces = Vec::new();
            let mut rest = whole.clone();
            for cut in cuts.into_iter().rev() {
                pieces.insert(0, rest.split_off(cut));
            }
            pieces.insert(0, rest);
            let store = Arc::new(InMemory::new());
            upload(store.clone(), &pieces).await.unwrap();
            let found = store.get(&Path::from("object")).await.unwrap();
            assert_eq!(found.bytes().await.unwrap(), whole);
        }
    }

    #[tokio::test]
    async fn an_object_in_parts_is_whole_on_s3() {
        let server = S3Server::start();
        let bucket = server.bucket();
        let settings = server.environment().into_iter();
        let settings = settings.fold(AmazonS3Builder::new(), |settings, (name, value)| {
            settings.with_config(name.to_lowercase().parse().unwrap(), value)
        });
        let store = remote::open_bucket(&bucket, settings).unwrap();
        let whole = bytes(2 * PART_BYTES + 3);
        upload(Arc::clone(&store), std::slice::from_ref(&whole))
            .await
            .unwrap();
        let found = store.get(&Path::from("object")).await.unwrap();
        assert_eq!(found.bytes().await.unwrap(), whole);
    }

    #[tokio::test]
    async fn an_upload_that_fails_leaves_nothing() {
        for length in [3, PART_BYTES, 2 * PART_BYTES + 3] {
            for writes in 0.. {
                let inner = Arc::new(InMemory::new());
                let faulty = FaultyStore::after(writes, inner.clone());
                let done = upload(Arc::new(faulty.clone()), &[bytes(length)]).await;
                assert_eq!(done.is_err(), faulty.died(), "{length} after {writes}");
                let objects: Vec<_> = inner.list(None).try_collect().await.unwrap();
                assert_eq!(objects.len(), usize::from(done.is_ok()));
                if done.is_ok() {
                    break;
                }
            }
        }
    }
}
