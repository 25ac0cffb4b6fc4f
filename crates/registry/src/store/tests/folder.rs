//! The local folder as an object store, for whatever is written into it.

use super::*;

fn folder() -> (tempfile::TempDir, Folder) {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().join("not there yet"));
    (root, folder)
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::from(text)
}

async fn text(store: &Folder, object: &str) -> String {
    let bytes = store.get(&path(object)).await.unwrap().bytes().await;
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

/// The names of all files, staging files too.
fn files(root: &tempfile::TempDir, folder: &str) -> Vec<String> {
    let folder = root.path().join("not there yet").join(folder);
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_object_is_created_once_and_nothing_else_is_left() {
    let (root, store) = folder();
    let object = path("a/b/0.json");
    let create = || PutOptions::from(PutMode::Create);
    store
        .put_opts(&object, "first".into(), create())
        .await
        .unwrap();
    let second = store.put_opts(&object, "second".into(), create()).await;
    assert!(matches!(
        second,
        Err(object_store::Error::AlreadyExists { .. })
    ));
    assert_eq!(text(&store, "a/b/0.json").await, "first");
    assert_eq!(files(&root, "a/b"), ["0.json"]);
}

#[tokio::test]
async fn an_object_is_replaced_copied_and_renamed_into_folders_that_are_new() {
    let (root, store) = folder();
    store.put(&path("a/x"), "one".into()).await.unwrap();
    store.put(&path("a/x"), "two".into()).await.unwrap();
    store.copy(&path("a/x"), &path("b/c/x")).await.unwrap();
    store.rename(&path("a/x"), &path("d/x")).await.unwrap();
    assert_eq!(text(&store, "b/c/x").await, "two");
    assert_eq!(text(&store, "d/x").await, "two");
    assert_eq!(files(&root, "a"), [""; 0]);
}

#[tokio::test]
async fn an_object_in_parts_is_there_when_it_is_whole() {
    let (root, store) = folder();
    let mut upload = store.put_multipart(&path("a/x")).await.unwrap();
    upload.put_part("one".into()).await.unwrap();
    assert!(store.head(&path("a/x")).await.is_err());
    upload.put_part("two".into()).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(text(&store, "a/x").await, "onetwo");
    assert_eq!(files(&root, "a"), ["x"]);

    let mut upload = store.put_multipart(&path("a/y")).await.unwrap();
    upload.put_part("one".into()).await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(files(&root, "a"), ["x"]);
}

#[tokio::test]
async fn what_may_still_be_written_is_left_alone() {
    let (root, store) = folder();
    store.put(&path("log/LATEST"), "1".into()).await.unwrap();
    let log = root.path().join("not there yet/log");
    for staged in ["01.json#1", "02.json#1", "03.json#1", "LATEST#1"] {
        std::fs::write(log.join(staged), "").unwrap();
    }
    store.put(&path("log/01.json"), "1".into()).await.unwrap();
    let create = PutOptions::from(PutMode::Create);
    store
        .put_opts(&path("log/02.json"), "2".into(), create)
        .await
        .unwrap();
    // The first two have lost. The writer of the third may be at work, and so may the one who moves the pointer.
    assert_eq!(
        files(&root, "log"),
        ["01.json", "02.json", "03.json#1", "LATEST", "LATEST#1"]
    );
}

#[tokio::test]
async fn objects_are_listed_from_one_on() {
    let (_root, store) = folder();
    let from = path("log/1");
    let listed = async || {
        let objects = store.list_with_offset(Some(&path("log")), &from);
        let objects = objects.map_ok(|object| object.location.to_string());
        let mut objects: Vec<_> = objects.try_collect().await.unwrap();
        objects.sort();
        objects
    };
    assert_eq!(listed().await, [""; 0]);
    for name in ["log/0", "log/1", "log/2", "log/3", "other/9"] {
        store.put(&path(name), name.into()).await.unwrap();
    }
    assert_eq!(listed().await, ["log/2", "log/3"]);
}
