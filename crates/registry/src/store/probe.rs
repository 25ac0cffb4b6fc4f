//! Whether an object store does what is asked of it: tried out with a small object.

use std::time::{Duration, Instant};

use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, path::Path};

/// How often each call is timed.
const TIMES: usize = 3;

/// What was found, with the median time of each call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectProbe {
    /// To write a small object.
    pub write: Duration,
    /// To read it.
    pub read: Duration,
    /// To delete it.
    pub delete: Duration,
    /// Whether the store refuses to put an object in the place of another when it is told to.
    pub puts_if_absent: bool,
}

/// Writes, reads and deletes an object below `_doctor/` in a folder of a store.
///
/// # Errors
/// The store's own; an object that comes back as another is one too.
pub async fn probe(objects: &dyn ObjectStore, folder: &Path) -> object_store::Result<ObjectProbe> {
    let path = folder
        .clone()
        .join("_doctor")
        .join(format!("{}", std::process::id()));
    let (mut write, mut read, mut delete) = (Vec::new(), Vec::new(), Vec::new());
    let mut puts_if_absent = true;
    for _ in 0..TIMES {
        let bytes = path.to_string();
        let started = Instant::now();
        objects.put(&path, bytes.clone().into()).await?;
        write.push(started.elapsed());
        let started = Instant::now();
        let found = objects.get(&path).await?.bytes().await?;
        read.push(started.elapsed());
        if found != bytes.as_bytes() {
            return Err(Error::Generic {
                store: "object",
                source: "it gives back other bytes than were written".into(),
            });
        }
        let again = objects
            .put_opts(&path, bytes.into(), PutMode::Create.into())
            .await;
        puts_if_absent &= matches!(again, Err(Error::AlreadyExists { .. }));
        let started = Instant::now();
        objects.delete(&path).await?;
        delete.push(started.elapsed());
    }
    Ok(ObjectProbe {
        write: median(write),
        read: median(read),
        delete: median(delete),
        puts_if_absent,
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
