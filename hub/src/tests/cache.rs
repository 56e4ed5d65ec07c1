//! `list`, `verify` and `rm`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffff";

fn silent() -> impl FnMut(Event<'_>) {
    |_: Event<'_>| {}
}

/// A cache with one fetched model.
fn fetched() -> (tempfile::TempDir, Store, PathBuf) {
    let hub = hub_with(&safetensors("a", 1000));
    let cache = tempfile::tempdir().unwrap();
    let store = store(cache.path(), &hub);
    let folder = fetch(&store).unwrap().folder;
    (cache, store, folder)
}

fn verify(store: &Store, model: &ModelRef) -> Vec<FileCheck> {
    store.verify(model, &MUSICGEN, &mut silent()).unwrap()
}

fn outcome<'a>(checks: &'a [FileCheck], file: &str) -> &'a Outcome {
    &checks.iter().find(|check| check.file.ends_with(file)).unwrap().outcome
}

#[test]
fn list_tells_what_is_there() {
    let (cache, store, folder) = fetched();
    fs::create_dir(cache.path().join("datasets--a--b")).unwrap();
    fs::create_dir_all(cache.path().join("models--a--b/snapshots")).unwrap();
    fs::write(cache.path().join("models--org--model/blobs/x.incomplete"), "12345").unwrap();
    let models = store.list(&MUSICGEN).unwrap();
    let names: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(names, ["a/b", "org/model"]);
    let [snapshot] = &models[1].snapshots[..] else { panic!("{models:?}") };
    assert_eq!((snapshot.commit.as_str(), &snapshot.revisions[..]), (COMMIT, &["main".to_owned()][..]));
    assert_eq!(snapshot.model_type.as_deref(), Some("musicgen"));
    assert!(snapshot.is_complete());
    assert_eq!(models[1].partial, 5);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let models = store.list(&MUSICGEN).unwrap();
    assert_eq!(models[1].snapshots[0].inventory.as_ref().unwrap().missing, ["model.safetensors"]);
    let none = Store::new(HubConfig::new(cache.path().join("none")));
    assert_eq!(none.list(&MUSICGEN).unwrap(), []);
}

#[test]
fn verify_finds_damage_in_the_cache() {
    let (_cache, store, folder) = fetched();
    let checks = verify(&store, &model());
    assert!(all_sound(&checks) && checks.iter().all(|check| check.outcome == Outcome::Intact), "{checks:?}");
    let weights = folder.join("model.safetensors").canonicalize().unwrap();
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    fs::remove_file(folder.join("config.json").canonicalize().unwrap()).unwrap();
    let checks = verify(&store, &model());
    assert!(matches!(outcome(&checks, "model.safetensors"), Outcome::Corrupt { reason } if reason.contains("sha256")));
    assert_eq!(outcome(&checks, "/config.json"), &Outcome::Missing);
    assert_eq!(checks.len(), 4);
    assert!(matches!(
        store.verify(&ModelRef::parse("a/b", None).unwrap(), &MUSICGEN, &mut silent()),
        Err(HubError::NotInCache { .. })
    ));
}

#[test]
fn verify_does_not_call_a_file_elsewhere_intact() {
    let (cache, store, folder) = fetched();
    fs::write(cache.path().join("elsewhere"), "{}").unwrap();
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    symlink(cache.path().join("elsewhere"), folder.join("tokenizer.json")).unwrap();
    assert!(matches!(outcome(&verify(&store, &model()), "tokenizer.json"), Outcome::Unchecked { .. }));
}

#[test]
fn verify_reads_the_form_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(HubConfig::new(folder.path().to_owned()));
    let model = ModelRef::Folder(folder.path().to_owned());
    let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
    write("config.json", br#"{"model_type": "musicgen"}"#);
    assert_eq!(outcome(&verify(&store, &model), "model.safetensors"), &Outcome::Missing);
    let whole = safetensors("a", 100);
    write("model.safetensors", &whole);
    assert_eq!(outcome(&verify(&store, &model), "model.safetensors"), &Outcome::WellFormed);
    let huge_header = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    for broken in [&whole[..whole.len() - 1], &whole[..20], &whole[..5], &huge_header, b"\x02\0\0\0\0\0\0\0{]", b""] {
        write("model.safetensors", broken);
        let checks = verify(&store, &model);
        assert!(matches!(outcome(&checks, "model.safetensors"), Outcome::Corrupt { .. }), "{broken:?}");
        assert!(!all_sound(&checks));
    }
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    write("m-1.safetensors", &whole);
    write("model.safetensors.index.json", br#"{"weight_map": {"a": "m-1.safetensors"}}"#);
    assert!(all_sound(&verify(&store, &model)));
    for list in [r#"{"b": "m-1.safetensors"}"#, r#"{"a": "m-1.safetensors", "c": "m-1.safetensors"}"#] {
        write("model.safetensors.index.json", format!(r#"{{"weight_map": {list}}}"#).as_bytes());
        assert!(matches!(outcome(&verify(&store, &model), "index.json"), Outcome::Corrupt { .. }), "{list}");
    }
    write("model.safetensors.index.json", br#"{"weight_map": {"a": "../m-1.safetensors"}}"#);
    assert!(!all_sound(&verify(&store, &model)));
}

#[test]
fn rm_frees_what_it_says() {
    let (cache, store, _) = fetched();
    let bytes = store.list(&MUSICGEN).unwrap()[0].bytes;
    let removed = store.remove(&model()).unwrap();
    assert_eq!(removed.bytes, bytes);
    assert!(!cache.path().join("models--org--model").exists());
    assert!(!cache.path().join(".locks/models--org--model").exists());
    assert!(matches!(store.remove(&model()), Err(HubError::NotInCache { .. })));
}

#[test]
fn rm_of_a_revision_keeps_what_others_need() {
    let (cache, store, folder) = fetched();
    let root = cache.path().join("models--org--model");
    let other = root.join("snapshots").join(OTHER);
    fs::create_dir(&other).unwrap();
    fs::copy(folder.join("config.json"), root.join("blobs/own")).unwrap();
    symlink("../../blobs/own", other.join("config.json")).unwrap();
    symlink(fs::read_link(folder.join("model.safetensors")).unwrap(), other.join("model.safetensors")).unwrap();
    fs::write(root.join("refs/dev"), OTHER).unwrap();
    let removed = store.remove(&ModelRef::parse("org/model@dev", None).unwrap()).unwrap();
    assert_eq!((removed.files, removed.bytes), (2, 26 + 40));
    assert!(!other.exists() && !root.join("refs/dev").exists() && !root.join("blobs/own").exists());
    assert!(all_sound(&verify(&store, &model())));
    store.remove(&ModelRef::parse("org/model@main", None).unwrap()).unwrap();
    assert!(!root.exists());
}

#[test]
fn rm_never_leaves_the_cache() {
    let (cache, store, folder) = fetched();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("mine"), "mine").unwrap();
    // Links inside are removed themselves.
    symlink(outside.path(), folder.join("linked")).unwrap();
    symlink(outside.path().join("mine"), folder.join("file")).unwrap();
    store.remove(&model()).unwrap();
    // A repository that is a link is refused.
    symlink(outside.path(), cache.path().join("models--org--model")).unwrap();
    assert!(matches!(store.remove(&model()), Err(HubError::Refused { .. })));
    assert!(matches!(store.remove(&ModelRef::Folder(outside.path().to_owned())), Err(HubError::Refused { .. })));
    assert_eq!(fs::read_to_string(outside.path().join("mine")).unwrap(), "mine");
}

#[test]
fn rm_waits_for_nobody_and_takes_nothing_in_use() {
    let (cache, store, _) = fetched();
    let lock = cache.path().join(".locks/models--org--model/x.lock");
    let file = fs::File::create(&lock).unwrap();
    file.lock().unwrap();
    assert!(matches!(store.remove(&model()), Err(HubError::InUse { .. })));
    drop(file);
    store.remove(&model()).unwrap();
}

#[test]
fn incomplete_folder_names_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(HubConfig::new(folder.path().join("none")));
    let model = ModelRef::Folder(folder.path().to_owned());
    fs::write(folder.path().join("state_dict.bin"), "x").unwrap();
    let error = store.open(&model, &MUSICGEN, &mut silent()).unwrap_err();
    assert!(error.to_string().ends_with("is no whole checkpoint; missing `compression_state_dict.bin`"), "{error}");
    fs::remove_file(folder.path().join("state_dict.bin")).unwrap();
    let error = store.locate(&model, &MUSICGEN).unwrap_err();
    assert!(error.to_string().ends_with("missing `config.json`, `model.safetensors`"), "{error}");
}
