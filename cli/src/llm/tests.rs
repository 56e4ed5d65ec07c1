//! Which server is asked, what is made of its answers, and how long it is waited for. Requests are tested from outside.

use std::time::{Duration, SystemTime};

use clap::Parser;
use tonoscope_hub::{Proxies, Token};

use super::{
    answer::{error_message, parse},
    client::{asked_pause, pause},
    *,
};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    llm: LlmArgs,
}

fn source(args: &[&str], key: Option<&str>, url: Option<&str>) -> anyhow::Result<Source> {
    let line = Line::try_parse_from([&["x"][..], args].concat()).unwrap();
    let variable = |name: &str| match name {
        "OPENAI_API_KEY" => key.map(str::to_owned),
        "OPENAI_BASE_URL" => url.map(str::to_owned),
        _ => None,
    };
    line.llm.source_in(&variable, Proxies::default(), None)
}

#[test]
fn a_server_is_asked_where_there_is_a_key_or_an_address() {
    assert!(matches!(source(&[], None, None).unwrap(), Source::Offline { noted: true }));
    assert!(matches!(source(&["--offline"], Some("sk-1"), None).unwrap(), Source::Offline { noted: false }));
    let url = |args: &[&str], key, url| match source(args, key, url).unwrap() {
        Source::Server(settings) => (settings.base_url, settings.key.is_some()),
        Source::Offline { .. } => panic!("no server"),
    };
    assert_eq!(url(&[], Some("sk-1"), None), ("https://api.openai.com/v1".into(), true));
    assert_eq!(url(&["--dry-run"], None, None), ("https://api.openai.com/v1".into(), false));
    assert_eq!(url(&[], None, Some("http://gpu:8000/v1/")), ("http://gpu:8000/v1".into(), false));
    assert_eq!(
        url(&["--base-url", "http://localhost:1/v1"], Some("k"), Some("https://x")),
        ("http://localhost:1/v1".into(), true)
    );
    assert_eq!(url(&["--insecure"], Some("k"), Some("http://gpu/v1")), ("http://gpu/v1".into(), true));
}

#[test]
fn what_cannot_be_meant_is_refused_and_no_key_is_shown() {
    let fails = |args: &[&str], key: &str, url: Option<&str>, part: &str| {
        let error = format!("{:?}", source(args, Some(key), url).unwrap_err());
        assert!(error.contains(part) && !error.contains("sk-secret"), "{error}");
    };
    fails(&[], "sk-secret-0", Some("http://example.org/v1"), "not protected");
    fails(&[], "sk-secret-0", Some("ftp://example.org"), "https");
    fails(&["--base-url", "https://me:sk-secret@x.org"], "sk-secret-0", None, "user name or a password");
    fails(&[], "sk-secret\n0", None, "white space");
    fails(&["--timeout", "0"], "sk-secret-0", None, "--timeout");
    fails(&["--backoff=-1"], "sk-secret-0", None, "--backoff");
    fails(&["--timeout", "NaN"], "sk-secret-0", None, "--timeout");
    let shown = format!("{:?}", source(&[], Some("sk-secret-0"), None).unwrap());
    assert!(!shown.contains("sk-secret"), "{shown}");
}

#[test]
fn no_proxy_reads_the_key() {
    let proxies = Proxies::from_lookup(&|name| (name == "http_proxy").then(|| "http://me:geheim@proxy:3128".into()));
    let line = Line::try_parse_from(["x", "--insecure"]).unwrap();
    let source = |key: Option<&str>, url: &str| {
        let variable = |name: &str| match name {
            "OPENAI_API_KEY" => key.map(str::to_owned),
            _ => Some(url.to_owned()),
        };
        line.llm.source_in(&variable, proxies.clone(), None)
    };
    let error = source(Some("sk-secret-0"), "http://gpu/v1").unwrap_err();
    let error = format!("{error} {:?}", error.downcast_ref::<crate::failure::Misuse>().unwrap());
    assert!(error.contains("the proxy `http://proxy:3128` would read `OPENAI_API_KEY`"), "{error}");
    assert!(!error.contains("geheim") && error.contains("no_proxy"), "{error}");
    for (key, url) in [(None, "http://gpu/v1"), (Some("k"), "https://gpu/v1"), (Some("k"), "http://127.0.0.1:1/v1")] {
        assert!(matches!(source(key, url).unwrap(), Source::Server(_)), "{url}");
    }
}

#[test]
fn what_a_model_thinks_is_no_answer() {
    let text = |content: &str| parse(&completion(content), &str::to_owned).map(|(answer, _)| answer.text);
    assert_eq!(text("<think>\nFirst: {\"a\": 1}\n</think>\n\n{\"a\": 2}").unwrap().trim(), "{\"a\": 2}");
    assert_eq!(text("First: {\"a\": 1}. No.\n</think> {\"a\": 2}").unwrap().trim(), "{\"a\": 2}");
    assert_eq!(text("<THINK>one</THINK>two<think>three</think>four").unwrap(), "four");
    for tag in ["thinking", "reasoning", "thought", "reflection", "seed:think"] {
        assert_eq!(text(&format!("<{tag}>draft</{tag}>answer")).unwrap(), "answer", "{tag}");
    }
    assert_eq!(text("[THINK]draft[/THINK]answer").unwrap(), "answer");
    let channels = "<|channel|>analysis<|message|>draft<|end|><|start|>assistant<|channel|>final<|message|>answer";
    assert_eq!(text(channels).unwrap(), "answer");
    // Of an answer that is cut off while the model thinks nothing is left.
    for unfinished in ["<think>First: {\"a\": 1}", "  <think> a </think> <think>b", "draft</think>\n"] {
        assert!(text(unfinished).unwrap_err().contains("its reasoning"), "{unfinished}");
    }
    let beside = r#"{"choices": [{"message": {"content": "", "reasoning_content": "{\"a\": 1}"}}]}"#;
    assert!(parse(beside, &str::to_owned).unwrap_err().contains("its reasoning"));
    let parts = r#"{"choices": [{"message": {"content": [{"type": "reasoning", "text": "draft"}, {"type": "text", "text": "a"}]}}]}"#;
    assert_eq!(parse(parts, &str::to_owned).unwrap().0.text, "a");
    assert_eq!(text("I think <b>so</b>").unwrap(), "I think <b>so</b>");
}

#[test]
fn a_secret_is_hidden_before_a_message_is_cut() {
    let key = Token::parse("sk-SECRETsecret/12345+abcXYZ", "test").unwrap().unwrap();
    let hide = |text: &str| key.hidden_in(text);
    let long = format!("{}sk-SECRETsecret\\/12345+abcXYZ tail", "x".repeat(173));
    let message = error_message(&format!(r#"{{"error": {{"message": "{long}"}}}}"#), &hide);
    assert_eq!(message, format!("{}… tail", "x".repeat(173)));
    let refused = format!(r#"{{"choices": [{{"message": {{"content": "", "refusal": "{long}"}}}}]}}"#);
    assert_eq!(parse(&refused, &hide).unwrap().0.refusal, Some(message));
}

/// A completion whose message is `content`.
fn completion(content: &str) -> String {
    serde_json::json!({"choices": [{"message": {"content": content}}]}).to_string()
}

#[test]
fn answers_are_read_in_their_forms() {
    let parse = |body: &str| parse(body, &str::to_owned);
    let error_message = |body: &str| error_message(body, &str::to_owned);
    let text = |body: &str| parse(body).map(|(answer, _)| answer.text);
    assert_eq!(text(r#"{"choices": [{"message": {"content": "hi"}}]}"#).unwrap(), "hi");
    let parts = r#"{"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}"#;
    let (answer, used) = parse(parts).unwrap();
    assert_eq!((answer.text.as_str(), answer.cut, used), ("ab", false, Tokens { prompt: 3, completion: 4 }));
    let refused = r#"{"choices": [{"finish_reason": "length", "message": {"content": null, "refusal": "no"}}]}"#;
    assert_eq!(parse(refused).unwrap().0, Answer { text: String::new(), cut: true, refusal: Some("no".into()) });
    for body in [r#"{"choices": []}"#, "{}", "[]", "null", r#"{"choices": [{}]}"#, r#"{"choices": 1}"#, "{", ""] {
        assert!(text(body).is_err(), "{body}");
    }
    assert!(text(r#"{"error": {"message": "overloaded"}}"#).unwrap_err().contains("overloaded"));
    assert_eq!(error_message(r#"{"error": "a\nb"}"#), "ab");
    assert_eq!(error_message("<html>"), "");
}

#[test]
fn a_server_asks_for_a_pause_in_seconds_or_until_a_date() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let asked = |milliseconds, after| asked_pause(milliseconds, after, now).map(|pause| pause.as_secs_f64());
    assert_eq!(asked(None, Some(" 2.5 ")), Some(2.5));
    assert_eq!(asked(Some("250"), Some("9")), Some(0.25));
    assert_eq!(asked(None, Some("Sun, 06 Nov 1994 08:49:41 GMT")), Some(4.0));
    assert_eq!(asked(None, Some("Sun, 06 Nov 1994 08:49:30 GMT")), Some(0.0), "it has passed");
    assert!(asked(None, Some("Fri, 31 Dec 9999 23:59:59 GMT")).is_some_and(|seconds| seconds < 1e6), "not for ever");
    assert_eq!((asked(None, Some("NaN")), asked(None, Some("tomorrow")), asked(None, None)), (None, None, None));
}

#[test]
fn pauses_are_doubled_and_spread_and_never_shorter_than_asked_for() {
    let second = Duration::from_secs(1);
    assert_eq!(pause(second, 1, None, 1.0), second);
    assert_eq!(pause(second, 3, None, 0.0), 2 * second);
    assert_eq!(pause(second, 3, None, 1.0), 4 * second);
    assert_eq!(pause(second, 100, None, 1.0), 64 * second);
    assert!(pause(second, 1, Some(7 * second), 0.3) >= 7 * second);
    assert_eq!(pause(8 * second, 1, Some(second), 1.0), 8 * second);
    assert_eq!(pause(Duration::ZERO, 2, None, 0.5), Duration::ZERO);
}

#[test]
fn the_schema_is_left_out_where_it_is_not_taken() {
    let schema = ("answer", serde_json::json!({"type": "object"}));
    let question = Question { system: "s".into(), user: "u".into(), schema, seed: Some(3) };
    let body = request_body("m", &question, false);
    assert_eq!(body["response_format"]["json_schema"]["strict"], true);
    assert_eq!((body["seed"].as_u64(), body["messages"][1]["content"].as_str()), (Some(3), Some("u")));
    assert!(request_body("m", &question, true).get("response_format").is_none());
}
