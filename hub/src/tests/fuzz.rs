//! Answers, names and lists of shards, mutated.

use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex};

use tonoscope_tests::fuzz::{check, check_repaired, safetensors as repaired};
use tonoscope_tests::server::serve;

use super::server::etag;
use super::*;

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn names() {
    let seeds = texts(&["musicgen-small@v1.0", "org/na.me_1@refs/pr/1", "./folder", "~/models/x", "hf.co/a/b"]);
    check("model_names", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for home in [None, Some(Path::new("/home/me"))] {
            if let Err(error) = ModelRef::parse(&text, home) {
                drop(error.hint());
            }
        }
    });
    let seeds = texts(&[
        "\"0123456789abcdef0123456789abcdef01234567\"",
        "W/\"abc\"",
        "0123456789ABCDEF0123456789abcdef01234567",
    ]);
    check("etags", &seeds, |bytes| {
        if let Some(etag) = checksum::Etag::parse(&String::from_utf8_lossy(bytes)) {
            assert!(etag.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()), "an etag is the name of a file");
        }
    });
}

/// Raw answers to every request of a download.
#[test]
fn answers() {
    let config = r#"{"model_type": "musicgen"}"#;
    let sum = etag("config.json", config.as_bytes());
    let answer = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
            .into_bytes()
    };
    let linked = format!("X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{sum}\"\r\nX-Linked-Size: {}\r\n", config.len());
    let seeds = [
        answer("200 OK", &format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{sum}\"\r\n"), config),
        answer("206 Partial Content", &format!("{linked}Content-Range: bytes 5-25/26\r\n"), &config[5..]),
        answer("404 Not Found", &format!("X-Repo-Commit: {COMMIT}\r\nX-Error-Code: EntryNotFound\r\n"), ""),
        answer("302 Found", &format!("{linked}Location: /elsewhere\r\n"), ""),
        answer("403 Forbidden", "X-Error-Code: GatedRepo\r\nX-Error-Message: no\r\n", ""),
    ];
    let current = Arc::new(Mutex::new(vec![]));
    let served = Arc::clone(&current);
    let address = serve(move |_, stream| stream.write_all(&served.lock().unwrap().clone()));
    check("hub_answers", &seeds, |bytes| {
        *current.lock().unwrap() = bytes.to_vec();
        let cache = tempfile::tempdir().unwrap();
        let store = Store::new(HubConfig {
            endpoint: address.clone(),
            stall: Duration::from_millis(200),
            retries: 0,
            backoff: Duration::from_millis(1),
            ..HubConfig::new(cache.path().to_owned())
        });
        drop(fetch(&store));
    });
}

#[test]
fn folders() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let index = br#"{"metadata": {}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#.to_vec();
    for (name, tensor) in [("m-1.safetensors", "a"), ("m-2.safetensors", "b")] {
        fs::write(path(name), safetensors(tensor, 8)).unwrap();
    }
    let store = Store::new(HubConfig::new(folder.path().join("cache")));
    let model = ModelRef::Folder(folder.path().to_owned());
    let look = || {
        drop(MUSICGEN.inspect(folder.path()));
        drop(MUSICGEN.check_config(&path("config.json"), "here"));
        drop(store.verify(&model, &MUSICGEN, &mut |_: Event<'_>| {}));
    };
    fs::write(path("config.json"), r#"{"model_type": "musicgen"}"#).unwrap();
    check("hub_index", std::slice::from_ref(&index), |bytes| {
        fs::write(path("model.safetensors.index.json"), bytes).unwrap();
        look();
    });
    fs::write(path("model.safetensors.index.json"), &index).unwrap();
    check_repaired("hub_shards", &[safetensors("a", 8)], repaired, |bytes| {
        fs::write(path("m-1.safetensors"), bytes).unwrap();
        look();
    });
    check("hub_config", &[br#"{"model_type": "musicgen"}"#.to_vec()], |bytes| {
        fs::write(path("config.json"), bytes).unwrap();
        look();
    });
}
