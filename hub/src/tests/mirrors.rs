//! Servers that are not quite the Hub: mirrors, proxies, and some that repeat the token.

use super::*;

const TOKEN: &str = "hf_SECRETsecretSECRETsecret12345";

fn at_commit(store: &Store) -> Result<Checkpoint, HubError> {
    let model = ModelRef::parse(&format!("{ID}@{COMMIT}"), None).unwrap();
    store.fetch(&model, &MUSICGEN, &mut |_: Event<'_>| {})
}

#[test]
fn a_mirror_that_says_no_commit_works_where_the_commit_is_named() {
    let hub = hub_with(&noise(1000));
    hub.no_commits();
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&store(cache.path(), &hub)).unwrap_err();
    assert!(error.to_string().ends_with("has no usable `x-repo-commit` header: found `nothing`"), "{error}");
    let found = at_commit(&store(cache.path(), &hub)).unwrap();
    assert_eq!(found.commit.as_deref(), Some(COMMIT));
    assert_eq!(std::fs::read(found.folder.join("model.safetensors")).unwrap(), noise(1000));
    // Optional files that the mirror lacks are no missing repository.
    let hub =
        FakeHub::start().with("config.json", r#"{"model_type": "musicgen"}"#).with("model.safetensors", noise(10));
    hub.no_commits();
    let cache = tempfile::tempdir().unwrap();
    let found = at_commit(&store(cache.path(), &hub)).unwrap();
    assert_eq!(found.without, ["generation_config.json", "tokenizer.json"]);
}

#[test]
fn a_mirror_that_redirects_to_the_hub_works() {
    let hub = hub_with(&noise(1000));
    let mirror = FakeHub::start();
    mirror.redirect_all_to(&hub.address);
    for fetch in [fetch, at_commit] {
        let cache = tempfile::tempdir().unwrap();
        let token = Token::parse(TOKEN, "test").unwrap();
        let store = Store::new(HubConfig { token, ..config(cache.path(), &mirror) });
        let found = fetch(&store).unwrap();
        assert_eq!(std::fs::read(found.folder.join("model.safetensors")).unwrap(), noise(1000));
        assert_eq!(found.commit.as_deref(), Some(COMMIT));
    }
    // The token is for the mirror, which the user has named.
    assert!(hub.log().iter().all(|request| !request.headers.contains_key("authorization")));
    assert!(mirror.log().iter().all(|request| request.headers.contains_key("authorization")));
}

#[test]
fn a_token_that_the_server_repeats_shows_in_no_error() {
    let commit = format!("X-Repo-Commit: {COMMIT}\r\n");
    let etag = format!("ETag: \"{}\"\r\n", "a".repeat(40));
    let long = "x".repeat(190);
    let mut cases =
        vec![(200, format!("{commit}ETag: {TOKEN}\r\n")), (200, format!("{commit}{etag}X-Linked-Size: {TOKEN}\r\n"))];
    for status in [400, 403, 409, 410, 418, 500, 502] {
        for message in
            [format!("token {TOKEN} is wrong"), format!("{long}{TOKEN}"), format!("Bearer%20{}", &TOKEN[..20])]
        {
            cases.push((status, format!("{commit}X-Error-Message: {message}\r\n")));
        }
    }
    for (status, headers) in cases {
        let hub = hub_with(b"x");
        hub.refuse(status, &headers);
        assert_hidden(&hub, &headers);
    }
    let hub = hub_with(b"x").with("config.json", format!(r#"{{"model_type": "{TOKEN}"}}"#));
    assert_hidden(&hub, "the configuration");
    let index = format!(r#"{{"weight_map": {{"a": "{TOKEN}/../x"}}}}"#);
    let hub = FakeHub::start().with("config.json", r#"{"model_type": "musicgen"}"#);
    assert_hidden(&hub.with("model.safetensors.index.json", index), "the index");
}

#[track_caller]
fn assert_hidden(hub: &FakeHub, what: &str) {
    let cache = tempfile::tempdir().unwrap();
    let token = Token::parse(TOKEN, "test").unwrap();
    let store = Store::new(HubConfig { token, retries: 0, ..config(cache.path(), hub) });
    let error = fetch(&store).unwrap_err();
    let shown = format!("{error} {error:?} {:?}", error.hint());
    assert!((0..TOKEN.len() - 8).all(|at| !shown.contains(&TOKEN[at..at + 8])), "{what}: {shown}");
}

#[test]
fn an_error_through_a_proxy_names_the_proxy_without_its_password() {
    let cache = tempfile::tempdir().unwrap();
    let proxies = Proxies::from_lookup(&|name| (name == "http_proxy").then(|| "http://me:geheim@127.0.0.1:9".into()));
    let config = HubConfig {
        endpoint: "http://hub.example.org".to_owned(),
        proxies: proxies.clone(),
        retries: 0,
        ..HubConfig::new(cache.path().to_owned())
    };
    let error = fetch(&Store::new(config.clone())).unwrap_err().to_string();
    assert!(error.contains("through the proxy `http://127.0.0.1:9`") && !error.contains("geheim"), "{error}");
    // This machine is not asked through it.
    let hub = hub_with(&noise(10));
    fetch(&Store::new(HubConfig { endpoint: hub.address.clone(), ..config })).unwrap();
}
