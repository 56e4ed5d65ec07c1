//! Which server is asked, what is made of its answers, and how long it is waited for. Requests are tested from outside.

use std::time::{Duration, SystemTime};

use clap::Parser;

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
    line.llm.source_in(&variable, None, None)
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
fn answers_are_read_in_their_forms() {
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
