//! Where the key goes, and where it must not.

use std::fs;

use serde_json::Value;

use super::{KEY, Run, assert_no_key, done, failed, with_list};
use crate::{
    command,
    llm_server::{FakeModel, Reply, completion},
    stderr, stdout,
};

#[test]
fn redirects_do_not_carry_the_key_away() {
    let thief = FakeModel::start([]);
    let location: &'static str = format!("Location: {}/chat/completions\r\n", thief.url()).leak();
    for status in [301, 302, 303, 307, 308] {
        let run = Run::with_prompts(FakeModel::start([Reply::Status(status, location, String::new())]), 5);
        failed(&run.annotate(&[]), 1, &["hands over to another address"]);
    }
    assert!(thief.log().is_empty());
}

#[test]
fn a_key_that_the_server_repeats_is_shown_and_kept_nowhere() {
    let escaped = KEY.chars().map(|c| format!("\\u{:04x}", c as u32)).collect::<Vec<_>>().concat();
    let replies = [
        with_list(|list| {
            list[0]["aspects"] = serde_json::json!(["drum", format!("Bearer {KEY}")]);
            list[1]["bpm"] = KEY.into();
        }),
        Reply::Body(completion(&format!("{{\"prompt\": \"x\", \"aspects\": [\"{escaped}\"]}}"))),
        Reply::Body(format!(r#"{{"choices": [{{"message": {{"refusal": "{escaped}"}}}}]}}"#)),
        Reply::Status(500, "", format!(r#"{{"error": "{escaped}"}}"#)),
    ];
    let run = Run::with_prompts(FakeModel::start(replies), 5);
    done(&run.annotate(&["--json"]));
    run.assert_annotated(5);
    let writing = Run::new(FakeModel::start([Reply::Message(format!("[\"A song about {escaped} and love.\"]"))]));
    done(&writing.generate(&["--count", "3"]));
    assert_no_key(writing.folder.path());
    assert!(fs::read_to_string(writing.path("prompts.txt")).unwrap().contains("A song about … and love."));
}

#[test]
fn a_key_goes_over_no_open_connection_and_an_address_holds_no_password() {
    let run = Run::with_prompts(FakeModel::start([]), 5);
    let refused = |args: &[&str], status, parts: &[&str]| {
        let line = [&["prompts", "annotate", "prompts.txt", "--out", "a.json"][..], args].concat();
        let output = command(&line).current_dir(run.folder.path()).env("OPENAI_API_KEY", KEY).output().unwrap();
        failed(&output, status, parts);
        assert!(!stderr(&output).contains(KEY));
    };
    refused(&["--base-url", "http://models.example.org/v1"], 2, &["not protected", "--insecure"]);
    refused(&["--base-url", "https://me:secret@models.example.org/v1"], 2, &["user name or a password"]);
    refused(&["--base-url", "models"], 2, &["--base-url", "hint:"]);
    assert!(!run.path("a.json.parts").exists() && run.requests() == 0);
}

#[test]
fn a_key_is_hidden_before_a_message_is_cut() {
    for cut in 1..KEY.len() {
        let escaped = KEY.replace('-', "\\u002d");
        let text = format!(r#"{{"error": {{"message": "{}{escaped} tail"}}}}"#, "x".repeat(200 - cut));
        let run = Run::with_prompts(FakeModel::start([Reply::Status(418, "", text)]), 1);
        let told = stderr(&run.annotate(&[]));
        assert!((0..KEY.len() - 8).all(|at| !told.contains(&KEY[at..at + 8])), "{told}");
    }
}

#[test]
fn no_proxy_is_asked_for_this_machine_or_sees_the_key() {
    let thief = FakeModel::start([]);
    let proxy = thief.url().trim_end_matches("/v1").to_owned();
    let run = Run::with_prompts(FakeModel::start([]), 1);
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"] {
        let annotate = ["annotate", "prompts.txt", "--overwrite", "--out", "annotations.json"];
        let mut command = run.command(&annotate);
        command.env_remove("NO_PROXY").env_remove("no_proxy").env(variable, &proxy);
        done(&command.output().unwrap());
    }
    let args = ["prompts", "annotate", "prompts.txt", "--out", "a.json", "--insecure"];
    let mut command = command(&[&args[..], &["--base-url", "http://models.example.org/v1"]].concat());
    command.current_dir(run.folder.path()).env("OPENAI_API_KEY", KEY).env_remove("NO_PROXY").env_remove("no_proxy");
    let output = command.env("HTTP_PROXY", &proxy).output().unwrap();
    failed(&output, 2, &["the proxy `http://127.0.0.1:", "would read `OPENAI_API_KEY`", "no_proxy"]);
    assert!(thief.log().is_empty() && run.requests() == 5);
}

#[test]
fn a_dry_run_sends_nothing_and_shows_no_key() {
    let run = Run::with_prompts(FakeModel::start([]), 12);
    let output = run.annotate(&["--dry-run", "--json"]);
    done(&output);
    let shown: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((shown["requests"].as_array().unwrap().len(), &shown["estimate"]["requests"]), (3, &3.into()));
    assert!(shown["estimate"]["tokens"]["prompt"].as_u64().unwrap() > 300, "{shown}");
    let text = stdout(&run.generate(&["--dry-run"]));
    assert!(
        text.starts_with("POST http://127.0.0.1:") && text.contains("4 requests") && text.contains("3 more"),
        "{text}"
    );
    assert_eq!(run.requests(), 0);
    assert_eq!(fs::read_dir(run.folder.path()).unwrap().count(), 1);
}
