//! Downloads, and what can happen to them.

use std::fs;

use super::server::Fault;
use super::*;

#[test]
fn whole_model_arrives_in_the_layout_of_the_hub() {
    let weights = noise(300_000);
    let hub = hub_with(&weights);
    let cache = tempfile::tempdir().unwrap();
    let mut last = (0, 0);
    let mut planned = None;
    let mut watch = |event: Event<'_>| match event {
        Event::Planned { files, bytes, present } => planned = Some((files, bytes, present)),
        Event::Advanced { file: "model.safetensors", done, size } => last = (done, size),
        _ => {}
    };
    let found = store(cache.path(), &hub).fetch(&model(), &MUSICGEN, &mut watch).unwrap();
    assert_eq!(last, (300_000, 300_000));
    assert_eq!(planned, Some((4, 300_030, 26)));
    let root = cache.path().join("models--org--model");
    assert_eq!(found.folder, root.join("snapshots").join(COMMIT));
    assert_eq!(found.commit.as_deref(), Some(COMMIT));
    assert_eq!(found.files, ["config.json", "model.safetensors", "generation_config.json", "tokenizer.json"]);
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(fs::read(found.folder.join("model.safetensors")).unwrap(), weights);
    let link = fs::read_link(found.folder.join("model.safetensors")).unwrap();
    assert_eq!(link, Path::new("../../blobs").join(server::etag("x", &weights)));
    assert!(!partial(cache.path(), &weights).exists());
    assert_eq!(found.checksum("model.safetensors"), Some(server::etag("x", &weights)));

    // A second fetch asks, and transfers nothing; `open` does not even ask.
    let before = hub.log().len();
    fetch(&store(cache.path(), &hub)).unwrap();
    assert!(hub.log()[before..].iter().all(|request| request.method == "HEAD"));
    let before = hub.log().len();
    store(cache.path(), &hub).open(&model(), &MUSICGEN, &mut |_: Event<'_>| {}).unwrap();
    assert_eq!(hub.log().len(), before);
}

#[test]
fn cut_connection_is_resumed_where_it_broke() {
    let weights = noise(500_000);
    let hub = hub_with(&weights);
    hub.fault(Fault::Cut(200_000));
    let cache = tempfile::tempdir().unwrap();
    let mut retries = 0;
    let mut watch = |event: Event<'_>| retries += usize::from(matches!(event, Event::Retrying { .. }));
    let found = store(cache.path(), &hub).fetch(&model(), &MUSICGEN, &mut watch).unwrap();
    assert_eq!(retries, 1);
    assert_eq!(hub.ranges("model.safetensors"), [None, Some("bytes=200000-".into())]);
    assert_eq!(fs::read(found.folder.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn next_run_resumes_what_the_last_one_left() {
    let weights = noise(100_000);
    let hub = hub_with(&weights);
    (0..3).for_each(|_| hub.fault(Fault::Cut(10_000)));
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&store(cache.path(), &hub)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the download of `model.safetensors` was cut off: expected 100000 bytes, found 30000"
    );
    assert_eq!(fs::read(partial(cache.path(), &weights)).unwrap(), weights[..30_000]);
    let found = fetch(&store(cache.path(), &hub)).unwrap();
    assert_eq!(hub.ranges("model.safetensors").last().unwrap().as_deref(), Some("bytes=30000-"));
    assert_eq!(fs::read(found.folder.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn server_that_cannot_resume_starts_anew() {
    for fault in [Fault::IgnoreRange, Fault::WrongRange, Fault::Status(416, "")] {
        let weights = noise(50_000);
        let hub = hub_with(&weights);
        hub.fault(Fault::Cut(20_000));
        hub.fault(fault.clone());
        let cache = tempfile::tempdir().unwrap();
        let found = fetch(&store(cache.path(), &hub)).unwrap();
        assert_eq!(fs::read(found.folder.join("model.safetensors")).unwrap(), weights, "{fault:?}");
    }
}

#[test]
fn foreign_partial_file_does_no_harm() {
    let weights = noise(50_000);
    for left in [vec![7; 30_000], vec![7; 50_000], vec![7; 60_000], weights.clone()] {
        let hub = hub_with(&weights);
        let cache = tempfile::tempdir().unwrap();
        let path = partial(cache.path(), &weights);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &left).unwrap();
        let found = fetch(&store(cache.path(), &hub)).unwrap();
        assert_eq!(fs::read(found.folder.join("model.safetensors")).unwrap(), weights);
        let expected = usize::from(left != weights);
        assert!(hub.ranges("model.safetensors").len() >= expected);
        assert!(!path.exists());
    }
}

#[test]
fn link_in_place_of_the_partial_file_is_not_followed() {
    let weights = noise(1000);
    let hub = hub_with(&weights);
    let cache = tempfile::tempdir().unwrap();
    let victim = cache.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    let path = partial(cache.path(), &weights);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    fetch(&store(cache.path(), &hub)).unwrap();
    assert_eq!(fs::read_to_string(victim).unwrap(), "mine");
}

#[test]
fn corrupt_content_is_named_and_not_kept() {
    let weights = noise(5_000);
    let hub = hub_with(&weights);
    hub.fault(Fault::Corrupt);
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&store(cache.path(), &hub)).unwrap_err();
    let expected = server::etag("x", &weights);
    assert!(
        matches!(&error, HubError::Checksum { file, expected: e, .. } if file == "model.safetensors" && *e == expected)
    );
    assert!(error.to_string().starts_with("`model.safetensors` is corrupt: its sha256 is `"), "{error}");
    assert!(!partial(cache.path(), &weights).exists());
    assert!(!cache.path().join("models--org--model/blobs").join(expected).exists());
    assert!(!cache.path().join("models--org--model/refs/main").exists());
}

#[test]
fn size_that_lies_is_refused() {
    let weights = noise(5_000);
    let hub = hub_with(&weights);
    hub.fault(Fault::TooLong(1));
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&store(cache.path(), &hub)).unwrap_err();
    assert_eq!(error.to_string(), "`model.safetensors` has 5001 bytes on the server, expected 5000");
}

#[test]
fn stalled_transfer_ends_and_resumes() {
    let weights = noise(100_000);
    let hub = hub_with(&weights);
    hub.fault(Fault::Stall(40_000));
    let cache = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    let found = fetch(&store(cache.path(), &hub)).unwrap();
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
    assert_eq!(hub.ranges("model.safetensors"), [None, Some("bytes=40000-".into())]);
    assert_eq!(fs::read(found.folder.join("model.safetensors")).unwrap(), weights);

    let hub = hub_with(&weights);
    (0..3).for_each(|_| hub.fault(Fault::Stall(0)));
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&store(cache.path(), &hub)).unwrap_err();
    assert!(matches!(error, HubError::Stalled { .. }), "{error}");
    assert!(error.to_string().ends_with("sent nothing for 0.4 s"), "{error}");
}

#[test]
fn refusals_of_the_hub_are_explained() {
    type Check = fn(&HubError) -> bool;
    let cases: [(u16, &str, Check); 7] = [
        (401, "X-Error-Code: GatedRepo\r\n", |e| matches!(e, HubError::Gated { with_token: false, .. })),
        (403, "X-Error-Code: GatedRepo\r\n", |e| matches!(e, HubError::Gated { .. })),
        (401, "X-Error-Code: RepoNotFound\r\n", |e| matches!(e, HubError::NoRepository { .. })),
        (404, "X-Error-Code: RepoNotFound\r\n", |e| matches!(e, HubError::NoRepository { .. })),
        (404, "", |e| matches!(e, HubError::NoRepository { .. })),
        (404, "X-Error-Code: RevisionNotFound\r\n", |e| matches!(e, HubError::NoRevision { .. })),
        (403, "X-Error-Message: no \x07way\r\n", |e| matches!(e, HubError::Status { status: 403, .. })),
    ];
    for (status, headers, check) in cases {
        let hub = hub_with(b"x");
        hub.refuse(status, headers);
        let cache = tempfile::tempdir().unwrap();
        let error = fetch(&store(cache.path(), &hub)).unwrap_err();
        // A control character makes the answer invalid HTTP, which is fine too.
        assert!(check(&error) || headers.contains('\x07'), "{status} {headers}: {error:?}");
        assert!(!error.to_string().contains('\x07'));
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }
    let hub = hub_with(b"x");
    hub.refuse(401, "X-Error-Code: GatedRepo\r\n");
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&store(cache.path(), &hub)).unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("{}/org/model", hub.address)) && hint.contains("HF_TOKEN"), "{hint}");
}

#[test]
fn overload_is_waited_for() {
    let weights = noise(1000);
    let hub = hub_with(&weights);
    hub.fault(Fault::Status(503, ""));
    hub.fault(Fault::Status(429, "Retry-After: 0\r\n"));
    let cache = tempfile::tempdir().unwrap();
    fetch(&store(cache.path(), &hub)).unwrap();
    assert_eq!(hub.ranges("model.safetensors").len(), 3);
}

#[test]
fn offline_sends_nothing_and_says_so() {
    let hub = hub_with(b"x");
    let cache = tempfile::tempdir().unwrap();
    let offline = Store::new(HubConfig { offline: true, ..config(cache.path(), &hub) });
    let error = fetch(&offline).unwrap_err();
    assert!(error.to_string().ends_with("and offline mode is set"), "{error}");
    assert!(error.hint().unwrap().contains("HF_HUB_OFFLINE"));
    assert!(hub.log().is_empty());
    fetch(&store(cache.path(), &hub)).unwrap();
    let before = hub.log().len();
    let found = fetch(&offline).unwrap();
    std::fs::remove_file(found.folder.join("model.safetensors")).unwrap();
    let error = fetch(&offline).unwrap_err();
    assert!(error.to_string().ends_with("and offline mode is set; missing `model.safetensors`"), "{error}");
    assert_eq!(hub.log().len(), before);
}

#[test]
fn token_goes_to_the_hub_and_not_to_its_cdn() {
    let weights = noise(60_000);
    let cdn = FakeHub::start().with("model.safetensors", weights.clone());
    cdn.fault(Fault::Cut(20_000));
    let hub = hub_with(&weights);
    hub.hand_over_to(&cdn.address);
    let cache = tempfile::tempdir().unwrap();
    let token = Token::parse("hf_secret", "test").unwrap();
    let store = Store::new(HubConfig { token, ..config(cache.path(), &hub) });
    let found = fetch(&store).unwrap();
    assert_eq!(fs::read(found.folder.join("model.safetensors")).unwrap(), weights);
    let sent = |request: &tonoscope_tests::server::Request| request.headers.get("authorization").cloned();
    assert!(hub.log().iter().all(|request| sent(request).as_deref() == Some("Bearer hf_secret")));
    assert!(cdn.log().iter().all(|request| sent(request).is_none()));
    assert_eq!(cdn.ranges("model.safetensors"), [None, Some("bytes=20000-".into())]);
}

#[test]
fn signed_addresses_and_tokens_stay_out_of_errors() {
    let hub = hub_with(&noise(10));
    hub.hand_over_to("http://127.0.0.1:9");
    let cache = tempfile::tempdir().unwrap();
    let token = Token::parse("hf_secret", "test").unwrap();
    let store = Store::new(HubConfig { token, retries: 0, ..config(cache.path(), &hub) });
    let error = fetch(&store).unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error:?}");
    assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("secret"), "{error:?}");
}

#[test]
fn dead_address_is_given_up_soon() {
    let cache = tempfile::tempdir().unwrap();
    let endpoint = "http://127.0.0.1:9".to_owned();
    let config = HubConfig {
        endpoint,
        retries: 1000,
        backoff: Duration::from_millis(1),
        ..HubConfig::new(cache.path().to_owned())
    };
    let error = fetch(&Store::new(config)).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot reach `http://127.0.0.1:9/org/model/resolve/main/config.json`: "),
        "{error}"
    );
}

#[test]
fn endless_redirects_end() {
    let hub = hub_with(&noise(10));
    // A redirect to itself: every request for the weights leads to the same place.
    hub.hand_over_to(&hub.address);
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&store(cache.path(), &hub)).unwrap_err();
    assert!(error.to_string().ends_with("too many redirects"), "{error}");
}

#[test]
fn etags_are_read_with_quotes_and_weakness() {
    let hub = hub_with(&noise(10));
    hub.weak_etags();
    let cache = tempfile::tempdir().unwrap();
    fetch(&store(cache.path(), &hub)).unwrap();

    let hub = hub_with(&noise(10));
    hub.no_etags();
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&store(cache.path(), &hub)).unwrap_err();
    assert!(error.to_string().ends_with("has no usable `etag` header: found `\"abc\"`"), "{error}");
}

#[test]
fn other_architecture_is_refused_before_its_weights() {
    let hub = hub_with(&noise(1000)).with("config.json", r#"{"model_type": "llama"}"#);
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&store(cache.path(), &hub)).unwrap_err();
    assert_eq!(error.to_string(), "`org/model` has model type `llama`, expected `musicgen`");
    assert!(hub.ranges("model.safetensors").is_empty());
}

fn sharded(index: &str) -> FakeHub {
    FakeHub::start().with("config.json", r#"{"model_type": "musicgen"}"#).with("model.safetensors.index.json", index)
}

#[test]
fn shards_are_fetched() {
    let hub = sharded(
        r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#,
    )
    .with("model-1.safetensors", noise(100))
    .with("model-2.safetensors", noise(200));
    let cache = tempfile::tempdir().unwrap();
    let found = fetch(&store(cache.path(), &hub)).unwrap();
    assert_eq!(
        found.files,
        ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]
    );
    assert_eq!(found.without, ["generation_config.json", "tokenizer.json"]);
}

#[test]
fn shards_elsewhere_are_refused() {
    let names = [
        "../../../evil.safetensors",
        "/etc/evil.safetensors",
        "a/b.safetensors",
        "..safetensors",
        "x.bin",
        "a\\b.safetensors",
        "a%2fb.safetensors",
        ".safetensors",
    ];
    for name in names {
        let index = serde_json::json!({ "weight_map": { "a": name } }).to_string();
        let hub = sharded(&index);
        let cache = tempfile::tempdir().unwrap();
        let error = fetch(&store(cache.path(), &hub)).unwrap_err();
        assert!(matches!(&error, HubError::BadIndex { .. }), "{name}: {error:?}");
        assert!(hub.log().iter().all(|request| !request.path.contains("evil")));
    }
}

#[test]
fn audiocraft_files_are_the_fallback() {
    let hub = FakeHub::start().with("state_dict.bin", noise(10)).with("compression_state_dict.bin", noise(20));
    let cache = tempfile::tempdir().unwrap();
    let found = fetch(&store(cache.path(), &hub)).unwrap();
    assert_eq!(found.files, ["state_dict.bin", "compression_state_dict.bin"]);
    let hub = FakeHub::start().with("state_dict.bin", noise(10));
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&store(cache.path(), &hub)).unwrap_err();
    assert!(matches!(error, HubError::Incomplete { .. }), "{error:?}");
}

#[test]
fn cancelling_keeps_what_arrived() {
    struct StopAt(u64, u64);
    impl Progress for StopAt {
        fn report(&mut self, event: Event<'_>) {
            if let Event::Advanced { file: "model.safetensors", done, .. } = event {
                self.1 = done;
            }
        }
        fn cancelled(&self) -> bool {
            self.1 >= self.0
        }
    }
    let weights = noise(400_000);
    let hub = hub_with(&weights);
    let cache = tempfile::tempdir().unwrap();
    let error = store(cache.path(), &hub).fetch(&model(), &MUSICGEN, &mut StopAt(100_000, 0)).unwrap_err();
    assert!(matches!(error, HubError::Cancelled));
    let kept = fs::read(partial(cache.path(), &weights)).unwrap();
    assert!(kept.len() >= 100_000 && weights.starts_with(&kept));
}

#[test]
fn two_fetches_at_once_transfer_once() {
    let weights = noise(300_000);
    let hub = hub_with(&weights);
    let cache = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| fetch(&store(cache.path(), &hub)).unwrap())).collect();
        for run in runs {
            run.join().unwrap();
        }
    });
    assert_eq!(hub.ranges("model.safetensors").len(), 1);
}

#[test]
fn full_disk_is_told_apart() {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = HubError::write(Path::new("/c/x"), 12)(full);
    assert_eq!(error.to_string(), "no space left to write `/c/x`: 12 more bytes are needed");
    assert!(error.hint().unwrap().contains("HF_HUB_CACHE"));
}

/// Run by hand with a small file system: `mount -t tmpfs -o size=1m tmpfs DIR`, `TONOSCOPE_TEST_SMALL_DISK=DIR`.
#[test]
#[ignore = "needs a file system of 1 MiB"]
fn full_disk_keeps_the_partial_file() {
    let cache = std::path::PathBuf::from(std::env::var_os("TONOSCOPE_TEST_SMALL_DISK").unwrap());
    let weights = noise(3_000_000);
    let hub = hub_with(&weights);
    let error = fetch(&store(&cache, &hub)).unwrap_err();
    assert!(matches!(error, HubError::DiskFull { .. }), "{error:?}");
    let kept = fs::read(partial(&cache, &weights)).unwrap();
    assert!(kept.len() > 500_000 && weights.starts_with(&kept));
}

#[test]
fn pickled_weights_are_taken_whole_or_in_shards() {
    let config = br#"{"model_type": "musicgen"}"#.to_vec();
    let whole = FakeHub::start().with("config.json", config.clone()).with("pytorch_model.bin", noise(10));
    let cache = tempfile::tempdir().unwrap();
    let found = fetch(&store(cache.path(), &whole)).unwrap();
    assert_eq!(found.files, ["config.json", "pytorch_model.bin"]);
    let index = serde_json::json!({"weight_map": {"a": "m-1.bin", "b": "m-2.bin"}}).to_string();
    let sharded = FakeHub::start()
        .with("config.json", config.clone())
        .with("pytorch_model.bin.index.json", index.into_bytes())
        .with("m-1.bin", noise(10))
        .with("m-2.bin", noise(20));
    let cache = tempfile::tempdir().unwrap();
    let found = fetch(&store(cache.path(), &sharded)).unwrap();
    assert_eq!(found.files, ["config.json", "pytorch_model.bin.index.json", "m-1.bin", "m-2.bin"]);
    let index = serde_json::json!({"weight_map": {"a": "m-1.safetensors"}}).to_string();
    let mixed = FakeHub::start().with("config.json", config).with("pytorch_model.bin.index.json", index.into_bytes());
    let cache = tempfile::tempdir().unwrap();
    assert!(matches!(fetch(&store(cache.path(), &mixed)), Err(HubError::BadIndex { .. })));
}
